"""The face for programs without asyncio: plain iterators that end cleanly, however they end."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from daemons import PATIENCE_S
from scripted import FRAMES, STREAM, ScriptThread, free_port, metadata, result, summary

from fastmesh.client import Client, ClientError, Refused, Retry, SyncClient, Unreachable
from fastmesh.client.stream import PROTOCOLS, ProtocolName

URLS = ["http://x/2", "http://x/3"]
EAGER = Retry(base_s=0)
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def wait_until(true: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.001)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "fastmesh-client"]


@each_protocol
def test_the_frames_are_those_of_the_client(protocol: ProtocolName) -> None:
    with ScriptThread() as script, SyncClient(script.address) as client:
        assert [frame.raw for frame in client.crawl(URLS, protocol=protocol)] == FRAMES
        frames = client.subscribe(STREAM, 2, protocol=protocol)
        assert [frame.raw for frame in frames] == FRAMES[2:]
        assert frames.stream_id == STREAM
        assert list(frames) == []
        assert [frame.raw for frame in client.firehose(frames=2, protocol=protocol)] == FRAMES
    assert threads() == []


@each_protocol
def test_breaks_are_not_seen(protocol: ProtocolName) -> None:
    with ScriptThread(cuts=[700, 900, 900]) as script, SyncClient(script.address, retry=EAGER) as client:
        assert [frame.raw for frame in client.crawl(URLS, protocol=protocol)] == FRAMES
        assert script.was_cut
        assert len(script.started) == 1


def test_single_requests() -> None:
    with ScriptThread() as script, SyncClient(script.address) as client:
        assert client.open(URLS) == STREAM
        assert client.streams() == {"streams": [{"stream_id": STREAM}]}
        assert client.stream(STREAM) == {"stream_id": STREAM}
        assert client.cancel(STREAM)["state"] == "closing"
        assert [frame.raw for frame in client.deepsearch("q")] == FRAMES
        with pytest.raises(Refused):
            client.stream("unknown")
        with pytest.raises(ValueError, match="no stream id"):
            client.cancel("a/b")


@pytest.mark.parametrize(
    "name", ["__init__", "crawl", "deepsearch", "firehose", "subscribe", "open", "cancel", "streams", "stream"]
)
def test_the_parameters_are_those_of_the_client(name: str) -> None:
    own, of_client = (inspect.signature(getattr(each, name)) for each in (SyncClient, Client))
    assert own.parameters == of_client.parameters
    assert own.return_annotation == of_client.return_annotation.replace("FrameStream", "SyncFrames")


def test_a_call_with_wrong_arguments_raises_where_it_is_made() -> None:
    with SyncClient() as client:
        for call in (client.open, client.crawl, client.streams):
            with pytest.raises(TypeError):
                call(URLS, colour="red")  # type: ignore[call-arg, operator]


def test_errors_are_those_of_the_client() -> None:
    with SyncClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unreachable):
            list(client.crawl(URLS))
        with pytest.raises(ClientError):
            client.streams()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.streams()
    client.close()
    with pytest.raises(ValueError, match="no address"):
        SyncClient("nowhere")
    gc.collect()
    assert threads() == []


@each_protocol
@pytest.mark.parametrize("how", ["break", "close", "with", "client"])
def test_leaving_early_closes_the_connection_and_cancels_when_it_shall(protocol: ProtocolName, how: str) -> None:
    with ScriptThread(silent_after=2) as script:
        with SyncClient(script.address) as client:
            if how == "break":
                for _ in client.crawl(URLS, protocol=protocol, cancel_on_exit=True):
                    break
                assert script.cancelled == 1
            elif how == "close":
                frames = client.crawl(URLS, protocol=protocol, cancel_on_exit=True)
                next(frames)
                frames.close()
                assert script.cancelled == 1
                assert list(frames) == []
            elif how == "with":
                with client.crawl(URLS, protocol=protocol, cancel_on_exit=True) as frames:
                    next(frames)
                assert script.cancelled == 1
            else:
                frames = client.crawl(URLS, protocol=protocol, cancel_on_exit=True)
                next(frames)
        assert script.cancelled == 1
        wait_until(lambda: script.closed)
    assert threads() == []


@each_protocol
def test_a_slow_program_holds_its_stream(protocol: ProtocolName) -> None:
    text = "x" * 100_000
    frames = [metadata(), *(result(seq, text=text) for seq in range(2, 1002)), summary(1002)]
    with ScriptThread(frames=frames) as script, SyncClient(script.address) as client:
        got = client.crawl(URLS, protocol=protocol)
        assert next(got).raw == frames[0]
        before = -1
        while script.sent != before:  # until it has stopped for a while
            before = script.sent
            time.sleep(0.2)
        assert script.sent < 300
        assert [frame.seq for frame in got] == list(range(2, 1003))


def test_two_programs_threads_may_share_a_client() -> None:
    with ScriptThread() as script, SyncClient(script.address) as client:
        got: list[Any] = []

        def read() -> None:
            got.append([frame.raw for frame in client.crawl(URLS)])

        readers = [threading.Thread(target=read) for _ in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert got == [FRAMES] * 8


ENDINGS = {
    "while a frame is awaited": "for frame in frames: print(frame.seq, flush=True)",
    "with the loop left": "next(frames); print('left', flush=True)",
    "by an exception": "next(frames); raise SystemExit(5)",
    "without a frame": "",
}


@each_protocol
@pytest.mark.parametrize("how", list(ENDINGS))
def test_the_interpreter_ends_cleanly(protocol: ProtocolName, how: str) -> None:
    program = f"""
import sys
from fastmesh.client import SyncClient
client = SyncClient(sys.argv[1])
frames = client.crawl(["http://x/"], protocol={protocol!r}, cancel_on_exit=True)
{ENDINGS[how]}
"""
    hangs = how == "while a frame is awaited"
    with ScriptThread(silent_after=2) as script:
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", "-c", program, script.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            if hangs:
                assert process.stdout is not None
                assert [process.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
                process.send_signal(2)
            _, err = process.communicate(timeout=PATIENCE_S)
        if hangs:
            assert "KeyboardInterrupt" in err
            assert err.count("Traceback") == 1
        else:
            assert err == ""
            assert process.returncode == (5 if "exception" in how else 0)
        assert script.cancelled == (0 if how == "without a frame" else 1)
