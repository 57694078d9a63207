"""The extraction pool with real processes: what a bad page costs, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fastmesh.crawl.extract.pool import ExtractPool
from fastmesh.crawl.extract.protocol import JOB, JobHead
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.crawl.extract.standing import Standing
from fastmesh.crawl.extract.worker_process import WorkerUnavailable
from fastmesh.errors import DecodeFailed, ExtractFailed, UnsupportedContent
from fastmesh.telemetry.bugs import Bugs

PARTS = frozenset({"text", "links"})
GUARD_S = 60.0  # no test takes this long, nor any of its pages; it only keeps a broken one from hanging

Run = Callable[[Coroutine[Any, Any, None]], None]

# A worker that does what a page's body tells it: it marks that it has the page by making a file.
PUPPET = """
    import os, signal, socket, sys, time
    sys.path.insert(0, {repository!r})
    from fastmesh.crawl.extract.protocol import DONE, FAILED, JOB, answer_head, ready
    from fastmesh.crawl.extract.worker import read
    link = socket.socket(fileno=int(sys.argv[-1]))
    link.sendall(ready())
    while prefix := read(link, JOB.size):
        head, body = (read(link, size).decode() for size in JOB.unpack(prefix))
        verb, _, rest = body.partition(" ")
        if verb == "hang":
            open(rest, "w").close()
            signal.pause()
        if verb == "hold":
            mark, _, until = rest.partition(" ")
            open(mark, "w").close()
            open(until).close()  # a FIFO: until somebody opens its other end
        if verb == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if verb == "babble":
            link.sendall(answer_head(DONE, 1 << 31))
            signal.pause()
        if verb == "rant":
            link.sendall(answer_head(DONE, 1) + b"more than it said")
            signal.pause()
        status, answer = (FAILED, rest) if verb == "fail" else (DONE, body)
        link.sendall(answer_head(status, len(answer)) + answer.encode())
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's coroutine on one kind of loop; whatever asyncio complains of fails the test."""

    def run_on(test: Coroutine[Any, Any, None]) -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await asyncio.to_thread(int)  # the loop's own files are made when they are first needed
            gc.collect()  # what earlier tests left
            before, others = _open_files(), _children()  # a daemon may run beside, for other tests
            async with asyncio.timeout(GUARD_S):
                await test
            assert _open_files() == before
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert _children() == others

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory, debug=True) as runner:
            runner.run(guarded())
            gc.collect()
        assert complaints == []

    return run_on


@pytest.fixture
def puppet(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "puppet.py"
    script.write_text(textwrap.dedent(PUPPET).format(repository=str(Path(__file__).parents[2])))
    return (sys.executable, str(script))


@asynccontextmanager
async def started(count: int = 1, **choices: Any) -> AsyncIterator[ExtractPool]:
    # What a busy machine does to them is a matter of its own (test_standing.py).
    pool = ExtractPool(count, **{"deadline_s": GUARD_S, "standing": Standing(allowed=False)} | choices)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()
        assert (pool.workers.alive, pool.workers.busy, pool.waiting, pool.workers.pids) == (0, 0, 0, [])


def ask(
    pool: ExtractPool,
    body: bytes | str,
    content_type: str = "text/html",
    extractor: str = "fast",
    owner: object = None,
    client: str | None = None,
) -> asyncio.Future[bytes]:
    async def document() -> bytes:
        extracted = await pool.extract(
            body.encode() if isinstance(body, str) else body,
            ExtractSpec(1 << 25, PARTS, extractor),
            url="http://h/",
            content_type=content_type,
            owner=owner,
            client=client,
        )
        return extracted.document

    return asyncio.ensure_future(document())


async def ask_within(pool: ExtractPool, deadline_s: float, *page: Any, **choices: Any) -> asyncio.Future[bytes]:
    """Ask a free worker for a page that has a deadline of its own: how long others take is the machine's matter."""
    usual_s, pool.deadline_s = pool.deadline_s, deadline_s
    asked, busy = ask(pool, *page, **choices), pool.workers.busy
    await asyncio.sleep(0)
    assert pool.workers.busy == busy + 1
    pool.deadline_s = usual_s
    return asked


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until *condition* holds; run() bounds how long."""
    while not condition():  # noqa: ASYNC110 - the conditions are of files and processes
        await asyncio.sleep(0.001)


def _open_files() -> dict[str, str]:
    files = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            files[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass  # the listing's own
    # libuv opens one with its first stream, for the time when it may open no more.
    return {fd: name for fd, name in files.items() if name != os.devnull}


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pages_become_documents(run: Run) -> None:
    async def test() -> None:
        async with started(2) as pool:
            assert (pool.workers.count, pool.workers.alive, len(set(pool.workers.pids))) == (2, 2, 2)
            answers = await asyncio.gather(*(ask(pool, f"<title>{n}</title><a href=x>") for n in range(20)))
            assert [json.loads(answer)["title"] for answer in answers] == [str(n) for n in range(20)]
            assert json.loads(answers[0])["links"] == [{"url": "http://h/x", "text": "", "rel": None}]
            assert (pool.workers.deaths, pool.failed, pool.workers.busy, pool.waiting) == (0, 0, 0, 0)

    run(test())


def test_large_pages_pass_and_leave_the_loop_its_turns(run: Run) -> None:
    async def test() -> None:
        async with started() as pool:
            body = b"x" * (20 << 20)
            page, turns = ask(pool, body, "text/plain"), 0
            while not page.done():
                turns += 1
                await asyncio.sleep(0)
            assert turns > 20
            assert json.loads(await page)["text"] == body.decode()

    run(test())


def test_a_refused_page_raises_its_own_error(run: Run) -> None:
    async def test() -> None:
        async with started() as pool:
            with pytest.raises(UnsupportedContent, match="image/gif"):
                await ask(pool, b"GIF89a", "image/gif")
            with pytest.raises(ExtractFailed, match="fits"):
                await pool.extract(b"x", ExtractSpec(9, PARTS), url="", content_type="text/plain", owner=None)
            document, _ = await pool.extract(
                b"x", ExtractSpec(900, PARTS), url="http://\ud800/", content_type="text/plain\udc80", owner=None
            )
            assert json.loads(document)["text"] == "x"
            assert (pool.workers.deaths, pool.failed) == (0, 0)

    run(test())


@pytest.mark.parametrize(
    ("type_", "error"), [("decode", DecodeFailed), ("extract", ExtractFailed), ("news", ExtractFailed)]
)
def test_an_error_crosses_with_its_type_and_message(
    run: Run, puppet: tuple[str, ...], type_: str, error: type[Exception]
) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            with pytest.raises(error, match="why") as raised:
                await ask(pool, "fail " + json.dumps({"type": type_, "message": "why"}))
            assert type(raised.value) is error

    run(test())


def test_a_killed_worker_costs_its_page_alone(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            mark = tmp_path / "mark"
            held, waiting = ask(pool, f"hang {mark}"), ask(pool, "next")
            await until(mark.exists)
            assert (pool.workers.busy, pool.waiting) == (1, 1)
            (pid,) = pool.workers.pids
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ExtractFailed, match="died"):
                await held
            assert await waiting == b"next"
            assert (pool.workers.deaths, pool.failed, pool.workers.alive) == (1, 1, 1)
            assert not _exists(pid)

    run(test())


def test_a_worker_that_is_killed_while_idle_is_replaced(run: Run) -> None:
    async def test() -> None:
        async with started(2) as pool:
            before = set(pool.workers.pids)
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: pool.workers.alive == 2 and victim not in pool.workers.pids)
            assert len(set(pool.workers.pids) & before) == 1
            await asyncio.gather(*(ask(pool, "<p>") for _ in range(4)))
            assert (pool.workers.deaths, pool.failed) == (1, 0)

    run(test())


def test_a_worker_that_could_not_be_started_once_is_started_again(run: Run) -> None:
    """No file is left for its socket; or what nobody thought of."""

    async def test() -> None:
        bugs = Bugs()
        async with started(1, bugs=bugs) as pool:
            failures: list[Exception] = [OSError(errno.EMFILE, "too many open files"), RuntimeError("no thread")]
            real = socket.socketpair

            def pair() -> tuple[socket.socket, socket.socket]:
                if failures:
                    raise failures.pop(0)
                return real()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(socket, "socketpair", pair)
                os.kill(pool.workers.pids[0], signal.SIGKILL)
                await until(lambda: not pool.workers.alive)
                await until(lambda: pool.workers.alive == 1)
            assert await ask(pool, "<p>")
            assert bugs.counts == {"workers": 1}

    run(test())


def test_a_hung_worker_is_killed_at_the_deadline(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        async with started(2, command=puppet) as pool:
            hung = await ask_within(pool, 0.2, f"hang {tmp_path / 'mark'}")
            others = [ask(pool, str(n)) for n in range(5)]
            assert await asyncio.gather(*others) == [b"0", b"1", b"2", b"3", b"4"]
            with pytest.raises(ExtractFailed, match=r"longer than 0\.2 s"):
                await hung
            await until(lambda: pool.workers.alive == 2)
            assert (pool.workers.deaths, pool.failed) == (1, 1)

    run(test())


@pytest.mark.parametrize("verb", ["babble", "rant"])
def test_a_worker_that_speaks_out_of_turn_is_replaced(run: Run, puppet: tuple[str, ...], verb: str) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            with pytest.raises(ExtractFailed, match="out of turn"):
                await ask(pool, verb)
            assert await ask(pool, "next") == b"next"

    run(test())


@pytest.mark.parametrize("error", ["", "null", "{}", '{"type": [], "message": "x"}', '{"type": "x"}'])
def test_a_worker_whose_error_cannot_be_read_is_replaced(run: Run, puppet: tuple[str, ...], error: str) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            with pytest.raises(ExtractFailed, match="broken"):
                await ask(pool, f"fail {error}")
            assert await ask(pool, "next") == b"next"

    run(test())


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_document_with_a_line_end_in_it_would_break_every_frame_behind_it(
    run: Run, puppet: tuple[str, ...], end: str
) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            with pytest.raises(ExtractFailed, match="more than one line"):
                await ask(pool, f"one{end}two")
            assert await ask(pool, "next") == b"next"

    run(test())


# Dies as soon as it is ready, nine times; each start makes the file one byte longer.
SHORT_LIVED = """
    import os, socket, sys
    sys.path.insert(0, {repository!r})
    from fastmesh.crawl.extract.protocol import DONE, JOB, answer_head, ready
    from fastmesh.crawl.extract.worker import read
    link = socket.socket(fileno=int(sys.argv[-1]))
    with open({starts!r}, "ab") as starts:
        starts.write(b"x")
    link.sendall(ready())
    while os.path.getsize({starts!r}) > 9 and (prefix := read(link, JOB.size)):
        _, body = (read(link, size) for size in JOB.unpack(prefix))
        link.sendall(answer_head(DONE, len(body)) + body)
"""


def test_workers_that_die_at_once_come_back_later_and_later(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "short_lived.py"
    names = {"repository": str(Path(__file__).parents[2]), "starts": str(tmp_path / "starts")}
    script.write_text(textwrap.dedent(SHORT_LIVED).format(**names))
    delays: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        if delay_s != 0.001:  # those of until()
            delays.append(delay_s)
        await sleep(min(delay_s, 0.001))

    async def test() -> None:
        monkeypatch.setattr(asyncio, "sleep", noted)
        async with started(command=(sys.executable, str(script))) as pool:
            await until(lambda: pool.workers.deaths == 9 and pool.workers.alive == 1)
            assert delays == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
            assert await ask(pool, "fine") == b"fine"

    run(test())


def test_a_worker_that_a_page_killed_comes_back_at_once(
    run: Run, puppet: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        delays.append(delay_s)
        await sleep(delay_s)

    async def test() -> None:
        monkeypatch.setattr(asyncio, "sleep", noted)
        async with started(command=puppet) as pool:
            for _ in range(5):
                with pytest.raises(ExtractFailed, match="died"):
                    await ask(pool, "die")
            assert await ask(pool, "fine") == b"fine"
            assert delays == [0] * 5
            assert pool.workers.deaths == 5

    run(test())


MISBEHAVING = (sys.executable, str(Path(__file__).with_name("misbehaving.py")))


@pytest.mark.parametrize(
    ("deed", "message", "deaths"),
    [
        ("segfault", "died", 1),
        ("out_of_memory", "memory", 0),
        ("out_of_memory_in_c", "died", 1),
        ("spin", r"longer than 0\.5 s", 1),
        ("leave", "died", 1),
        ("stop", r"longer than 0\.5 s", 1),
        ("babble", "out of turn", 1),
        ("recurse", "RecursionError", 0),
    ],
)
def test_a_page_that_ruins_its_worker_costs_that_page_alone(run: Run, deed: str, message: str, deaths: int) -> None:
    async def test() -> None:
        async with started(command=MISBEHAVING) as pool:
            assert json.loads(await ask(pool, "<p>before"))["text"] == "before"
            ruin = await ask_within(pool, 0.5 if "0" in message else GUARD_S, "<p>x", extractor=deed)
            after = [ask(pool, f"<p>{n}") for n in range(20)]
            with pytest.raises(ExtractFailed, match=message):
                await ruin
            assert [json.loads(answer)["text"] for answer in await asyncio.gather(*after)] == list(map(str, range(20)))
            assert (pool.workers.deaths, pool.workers.alive, pool.failed) == (deaths, 1, deaths)

    run(test())


def test_a_worker_that_holds_too_much_memory_gives_its_answer_and_is_replaced(run: Run) -> None:
    async def test() -> None:
        async with started(command=MISBEHAVING) as pool:
            (pid,) = pool.workers.pids
            bloated, after = ask(pool, "<p>x", extractor="bloat"), ask(pool, "<p>after")
            assert json.loads(await bloated)["text"] == "done"
            assert json.loads(await after)["text"] == "after"
            assert (pool.workers.retired, pool.workers.deaths, pool.failed, pool.workers.alive) == (1, 0, 0, 1)
            assert not _exists(pid)

    run(test())


def test_no_page_can_name_an_extractor_of_the_tests(run: Run) -> None:
    async def test() -> None:
        async with started() as pool:
            with pytest.raises(ExtractFailed, match="KeyError"):
                await ask(pool, "<p>x", extractor="segfault")
            assert pool.workers.deaths == 0

    run(test())


def test_pages_wait_for_a_worker_no_longer_than_the_deadline(run: Run, puppet: tuple[str, ...]) -> None:
    async def test() -> None:
        async with started(deadline_s=0.3, command=puppet) as pool:
            os.truncate(puppet[1], 0)  # from now on no worker starts
            first, second = await ask_within(pool, GUARD_S, "die"), ask(pool, "second")
            with pytest.raises(ExtractFailed, match="died"):
                await first
            await until(lambda: pool.workers.alive == 0)
            third = ask(pool, "third")
            for page in (second, third):
                with pytest.raises(ExtractFailed, match=r"no extraction worker was alive for 0\.3 s"):
                    await page
            assert (pool.failed, pool.waiting, pool.workers.alive) == (3, 0, 0)

    run(test())


def test_owners_take_turns_at_the_workers(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            mark, fifo = tmp_path / "mark", tmp_path / "fifo"
            os.mkfifo(fifo)
            done: list[bytes] = []
            first = ask(pool, f"hold {mark} {fifo}", owner="large")
            await until(mark.exists)
            pages = [ask(pool, f"large {n}", owner="large") for n in range(100)]
            await until(lambda: pool.waiting == len(pages))
            pages += [ask(pool, f"small {n}", owner="small") for n in range(3)]
            await until(lambda: pool.waiting == len(pages))
            for page in pages:
                page.add_done_callback(lambda page: done.append(page.result()))
            os.close(os.open(fifo, os.O_WRONLY))
            await asyncio.gather(first, *pages)
            assert [done.index(b"small %d" % n) for n in range(3)] == [1, 3, 5]

    run(test())


def test_clients_take_turns_however_many_streams_they_open(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    """100 pages in 20 streams left another client's two pages without a result for a minute."""

    async def test() -> None:
        async with started(command=puppet) as pool:
            mark, fifo = tmp_path / "mark", tmp_path / "fifo"
            os.mkfifo(fifo)
            done: list[bytes] = []
            first = ask(pool, f"hold {mark} {fifo}", owner=0, client="many")
            await until(mark.exists)
            pages = [ask(pool, f"many {n}", owner=n % 20, client="many") for n in range(100)]
            await until(lambda: pool.waiting == len(pages))
            gone = ask(pool, "gone", owner=20, client="gone")
            pages += [ask(pool, f"few {n}", owner=21, client="few") for n in range(2)]
            await until(lambda: pool.waiting == len(pages) + 1)
            gone.cancel()
            await until(gone.done)
            assert pool.waiting == len(pages)
            for page in pages:
                page.add_done_callback(lambda page: done.append(page.result()))
            os.close(os.open(fifo, os.O_WRONLY))
            await asyncio.gather(first, *pages)
            assert [done.index(b"few %d" % n) for n in range(2)] == [1, 3]

    run(test())


def test_a_cancelled_page_leaves_the_queue(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            mark, fifo = tmp_path / "mark", tmp_path / "fifo"
            os.mkfifo(fifo)
            running, waiting, last = ask(pool, f"hold {mark} {fifo}"), ask(pool, "waiting"), ask(pool, "last")
            await until(mark.exists)
            (pid,) = pool.workers.pids
            for page in (running, waiting):
                page.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await page
            assert (pool.workers.busy, pool.waiting) == (1, 1)
            os.close(os.open(fifo, os.O_WRONLY))
            assert await last == b"last"
            assert pool.workers.pids == [pid]
            assert (pool.workers.deaths, pool.failed) == (0, 0)

    run(test())


def test_a_cancelled_page_that_hangs_still_ends_at_the_deadline(
    run: Run, puppet: tuple[str, ...], tmp_path: Path
) -> None:
    async def test() -> None:
        async with started(command=puppet) as pool:
            running, waiting = await ask_within(pool, 0.2, f"hang {tmp_path / 'mark'}"), ask(pool, "waiting")
            running.cancel()
            assert await waiting == b"waiting"
            assert pool.workers.deaths == 1

    run(test())


def test_closing_fails_what_runs_and_what_waits(run: Run, puppet: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        pool = ExtractPool(1, command=puppet)
        with pytest.raises(ExtractFailed, match="do not run"):
            await ask(pool, "early")
        await pool.start()
        mark = tmp_path / "mark"
        pages = [ask(pool, f"hang {mark}"), ask(pool, "waiting")]
        await until(mark.exists)
        await pool.close()
        for page in pages:
            with pytest.raises(ExtractFailed, match="closed"):
                await page
        with pytest.raises(ExtractFailed, match="do not run"):
            await ask(pool, "late")
        await pool.close()

    run(test())


@pytest.mark.parametrize(
    "command", [("/nonexistent/program",), (sys.executable, "-c", "raise SystemExit(3)")], ids=["missing", "ends"]
)
def test_a_pool_that_cannot_start_says_so_and_leaves_nothing(run: Run, command: tuple[str, ...]) -> None:
    async def test() -> None:
        pool = ExtractPool(3, command=command)
        with pytest.raises(WorkerUnavailable, match=r"No such file|status 3"):
            await pool.start()
        assert pool.workers.alive == 0

    run(test())


def test_a_start_that_is_cancelled_leaves_nothing(run: Run) -> None:
    async def test() -> None:
        pool = ExtractPool(2, command=(sys.executable, "-c", "import signal; signal.pause()"))
        others = len(_children())
        start = asyncio.ensure_future(pool.start())
        await until(lambda: len(_children()) == others + 2)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    run(test())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_goes_on_when_its_group_is_told_to_stop(run: Run, stop: signal.Signals) -> None:
    async def test() -> None:
        async with started() as pool:
            (pid,) = pool.workers.pids
            os.kill(pid, stop)
            await ask(pool, "<p>")
            assert pool.workers.pids == [pid]
            assert os.getpriority(os.PRIO_PROCESS, pid) >= 5

    run(test())


def test_a_worker_holds_no_file_but_its_own(run: Run) -> None:
    async def test() -> None:
        async with started() as pool:
            (pid,) = pool.workers.pids
            files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            assert __file__ not in files
            assert sum(file.startswith("socket:") for file in files) == 1

    with Path(__file__).open() as foreign:
        os.set_inheritable(foreign.fileno(), True)
        run(test())


ORPHANS = """
    import asyncio
    from fastmesh.crawl.extract.pool import ExtractPool
    async def main():
        pool = ExtractPool(2)
        await pool.start()
        print(*pool.workers.pids, flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
"""


def test_workers_end_when_their_daemon_is_killed() -> None:
    command = [sys.executable, "-c", textwrap.dedent(ORPHANS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pids = [int(pid) for pid in daemon.stdout.readline().split()]
        ends = [os.pidfd_open(pid) for pid in pids]
        daemon.kill()
    assert len(pids) == 2
    asyncio.run(_readable(ends))
    assert not any(map(_exists, pids))


async def _readable(ends: list[int]) -> None:
    """Wait until each process behind a pidfd has ended."""
    loop = asyncio.get_running_loop()
    for end in ends:
        ended = asyncio.Event()
        loop.add_reader(end, ended.set)
        async with asyncio.timeout(GUARD_S):
            await ended.wait()
        loop.remove_reader(end)
        os.close(end)


def test_a_worker_ends_itself_when_a_page_takes_too_long() -> None:
    """So none stays behind whose daemon was killed while a page kept it."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "fastmesh.crawl.extract.worker", str(theirs.fileno())]
    head = JobHead("http://h/", "text/html", ExtractSpec(1 << 20, frozenset({"links"})), limit_s=0.1, core_s=9.0)
    sent, body = head.written(), b"<a href=x>" * 500_000
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as worker:
        theirs.close()
        ours.sendall(JOB.pack(len(sent), len(body)) + sent + body)
        assert worker.wait(GUARD_S) == -signal.SIGALRM


def test_a_page_has_a_core_for_so_long_by_its_size(run: Run) -> None:
    """However long others keep its core from it; so a small hostile page holds up the next one for 2 s at most."""

    async def test() -> None:
        async with started(command=MISBEHAVING) as pool:
            spun = ask(pool, "<p>x", extractor="spin")
            (pid,) = pool.workers.pids
            with pytest.raises(ExtractFailed, match="died"):
                await spun
            assert json.loads(await ask(pool, "<p>after"))["text"] == "after"
            assert (pool.workers.deaths, pid not in pool.workers.pids) == (1, True)

    run(test())


def test_the_pool_loads_no_parser() -> None:
    check = "import sys, fastmesh.crawl.extract.pool; sys.exit('turbohtml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
