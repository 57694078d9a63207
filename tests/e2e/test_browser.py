"""A real browser: its EventSource, fetch and WebSocket, from a page that may ask and from one that may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from chaos import TO_CLIENT, Blow, Chaos, Harm
from daemons import Daemon
from origins import Origin

from fastmesh.api.access.tokens import line_of, new_token

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = 20
CUT_AT = 9000  # bytes: behind some results, before the last
_numbers = count()


@pytest.fixture(scope="module")
def home() -> Iterator[Origin]:
    """The site whose pages may ask."""
    with Origin() as running:
        running.page("/", "<title>Home</title>")
        yield running


@pytest.fixture(scope="module")
def daemon(home: Origin) -> Iterator[Daemon]:
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FIREHOSE__ENABLED="true",
        STREAM__SSE_RETRY_MS=20,
        CORS__ALLOW_ORIGINS=home.url("").rstrip("/"),
    ) as running:
        yield running


@pytest.fixture
def page(browser: Browser, home: Origin) -> Iterator[Page]:
    """A page that may ask."""
    page = browser.new_page()
    page.goto(home.url("/"))
    yield page
    page.close()


@pytest.fixture
def strange_page(browser: Browser, origin: Origin) -> Iterator[Page]:
    """A page of another port, which is another origin."""
    origin.page("/stranger", "<title>Stranger</title>")
    page = browser.new_page()
    page.goto(origin.url("/stranger"))
    yield page
    page.close()


@pytest.fixture
def urls(origin: Origin) -> Iterator[list[str]]:
    """Pages that no other test fetches; each was fetched once at the end."""
    name = f"browser-{next(_numbers)}"
    found = [origin.page(f"/{name}/{at}", f"<title>Page {at}</title><p>{'word ' * 60}") for at in range(PAGES)]
    yield found
    assert [origin.hits[f"/{name}/{at}"] for at in range(PAGES)] == [1] * PAGES


def check(frames: list[dict[str, Any]], urls: list[str]) -> None:
    """All frames of the crawl, each once."""
    assert [frame["seq"] for frame in frames] == list(range(1, PAGES + 3))
    assert sorted(frame["result"]["url"] for frame in frames[1:-1]) == sorted(urls)
    assert (frames[-1]["type"], frames[-1]["successful"]) == ("summary", PAGES)


EVENT_SOURCE = """
url => new Promise(resolve => {
  const source = new EventSource(url)
  const seen = { frames: [], ids: [], opened: 0, broken: 0 }
  for (const type of ['metadata', 'result', 'summary', 'gap'])
    source.addEventListener(type, event => {
      seen.frames.push(JSON.parse(event.data))
      seen.ids.push(event.lastEventId)
    })
  source.onopen = () => { seen.opened += 1 }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) resolve(seen)
    else seen.broken += 1
  }
})
"""


@pytest.mark.parametrize("harm", [Harm.FIN, Harm.RST, Harm.HALF_OPEN])
def test_eventsource_sees_each_result_once_and_ends(daemon: Daemon, page: Page, urls: list[str], harm: Harm) -> None:
    # The browser may open connections ahead that it never uses: each of the first four would be cut.
    with Chaos(daemon.port, plan=[(Blow(harm, TO_CLIENT, CUT_AT),)] * 4) as chaos:
        # A browser may send a GET again by itself, before the page has an id to resume with: the key makes it the same.
        query = "&".join(f"url={url}" for url in urls) + f"&key=cut-by-{harm.name}"
        seen = page.evaluate(EVENT_SOURCE, f"{chaos.address}/crawl/sse?{query}")
        assert chaos.broken >= 2
    check(seen["frames"], urls)
    assert seen["ids"] == [f"{frame['stream_id']}:{frame['seq']}" for frame in seen["frames"]]
    assert seen["opened"] == chaos.broken + 1  # it never saw the 204 as an opening
    # Once after each cut and once after the summary, each time followed by another try.
    assert seen["broken"] == seen["opened"]


@pytest.mark.parametrize("suffix", ["", "&key=a-key-of-the-page"])
def test_eventsource_to_which_nothing_happens_ends_too(
    daemon: Daemon, page: Page, urls: list[str], suffix: str
) -> None:
    query = "&".join(f"url={url}" for url in urls)
    seen = page.evaluate(EVENT_SOURCE, f"{daemon.address}/crawl/sse?{query}{suffix}")
    check(seen["frames"], urls)
    assert (seen["opened"], seen["broken"]) == (1, 1)


FETCH = """
async ([address, urls]) => {
  const ask = () => fetch(`${address}/crawl/stream`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Idempotency-Key': urls[0].replace(/[^a-z0-9]/g, '.'),
               'X-Request-ID': 'from-a-page' },
    body: JSON.stringify({ urls }),
  })
  const first = await ask()
  const text = await first.text()
  const again = await (await ask()).text()
  const refused = await fetch(`${address}/crawl/stream`, { method: 'POST', body: '{}' })
  const after = await fetch(`${address}/streams/${first.headers.get('X-Stream-ID')}/events?after=3`,
                            { headers: { Accept: 'text/event-stream' } })
  return { text, again, ids: [first.headers.get('X-Stream-ID'), first.headers.get('X-Request-ID')],
           refused: [refused.status, (await refused.json()).error.type],
           after: [after.status, after.headers.get('Content-Type'), (await after.text()).split('data: ').length - 1] }
}
"""


def test_fetch_with_a_preflight_reads_a_crawl(daemon: Daemon, page: Page, urls: list[str]) -> None:
    got = page.evaluate(FETCH, [daemon.address, urls])
    frames = [json.loads(line) for line in got["text"].splitlines()]
    check(frames, urls)
    assert got["again"] == got["text"]
    assert got["ids"] == [frames[0]["stream_id"], "from-a-page"]
    assert got["refused"] == [415, "unsupported_media_type"]
    assert got["after"] == [200, "text/event-stream", PAGES - 1]


CANCEL = """
async address => {
  const opened = await fetch(`${address}/streams`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"urls": ["http://127.0.0.1:1/"]}' })
  const where = opened.headers.get('Location')
  const cancelled = await fetch(address + where, { method: 'DELETE' })
  const again = await fetch(address + where, { method: 'DELETE' })
  return [opened.status, cancelled.status, (await cancelled.json()).status, again.status]
}
"""


def test_a_page_opens_and_cancels_a_stream(daemon: Daemon, page: Page) -> None:
    assert page.evaluate(CANCEL, daemon.address) == [201, 200, "cancelled", 409]


WEBSOCKET = """
([address, urls]) => new Promise(resolve => {
  const socket = new WebSocket(address, 'fastmesh.v1')
  const got = []
  socket.onmessage = event => {
    const frame = JSON.parse(event.data)
    got.push(frame)
    if (frame.type === 'welcome') socket.send(JSON.stringify({ type: 'crawl', id: '1', urls }))
    if (frame.type === 'summary') socket.close(1000)
  }
  socket.onclose = event => resolve({ got, protocol: socket.protocol, code: event.code, clean: event.wasClean })
})
"""


def test_a_websocket_of_the_page_reads_a_crawl(daemon: Daemon, page: Page, urls: list[str]) -> None:
    seen = page.evaluate(WEBSOCKET, [f"ws://{daemon.host}/crawl/ws", urls])
    welcome, ack, *frames = seen["got"]
    assert (welcome["type"], ack["type"], ack["id"]) == ("welcome", "ack", "1")
    check(frames, urls)
    assert (seen["protocol"], seen["code"], seen["clean"]) == ("fastmesh.v1", 1000, True)


# ── a page with a token ──────────────────────────────────────────────────────────────────

TOKEN = new_token()


@pytest.fixture(scope="module")
def guarded(home: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that wants one."""
    tokens = tmp_path_factory.mktemp("browser") / "tokens"
    tokens.write_text(line_of(TOKEN, "page"))
    with Daemon(
        AUTH__TOKENS_FILE=tokens,
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        STREAM__SSE_RETRY_MS=20,
        CORS__ALLOW_ORIGINS=home.url("").rstrip("/"),
    ) as running:
        yield running
        assert TOKEN not in running.stderr()


TICKET = """
async ([address, token]) => {
  const headers = token ? { Authorization: `Bearer ${token}` } : {}
  const answer = await fetch(`${address}/tickets`, { method: 'POST', headers })
  return [answer.status, (await answer.json()).ticket]
}
"""


@pytest.mark.parametrize("harm", [Harm.FIN, Harm.RST, Harm.HALF_OPEN])
def test_eventsource_reads_a_broken_stream_with_one_ticket(
    guarded: Daemon, page: Page, urls: list[str], harm: Harm
) -> None:
    status, ticket = page.evaluate(TICKET, [guarded.address, TOKEN])
    assert status == 201
    with Chaos(guarded.port, plan=[(Blow(harm, TO_CLIENT, CUT_AT),)] * 4) as chaos:
        query = "&".join(f"url={url}" for url in urls) + f"&ticket={ticket}"
        seen = page.evaluate(EVENT_SOURCE, f"{chaos.address}/crawl/sse?{query}")
        assert chaos.broken >= 2
    check(seen["frames"], urls)
    assert ticket not in guarded.stderr()


def test_eventsource_without_a_ticket_gets_nothing(guarded: Daemon, page: Page) -> None:
    assert page.evaluate(TICKET, [guarded.address, ""]) == [401, None]
    assert page.evaluate(TICKET, [guarded.address, new_token()]) == [401, None]
    for query in ("", "&ticket=nonsense", f"&ticket={TOKEN}"):
        seen = page.evaluate(EVENT_SOURCE, f"{guarded.address}/crawl/sse?url=http://127.0.0.1:1/{query}")
        assert seen == {"frames": [], "ids": [], "opened": 0, "broken": 0}


def test_a_websocket_shows_a_token_or_a_ticket(guarded: Daemon, page: Page, urls: list[str]) -> None:
    address = f"ws://{guarded.host}/crawl/ws"
    shown = WEBSOCKET.replace("'fastmesh.v1'", f"['fastmesh.v1', 'fastmesh.token.{TOKEN}']")
    seen = page.evaluate(shown, [address, urls])
    check(seen["got"][2:], urls)
    assert (seen["protocol"], seen["code"], seen["clean"]) == ("fastmesh.v1", 1000, True)
    _, ticket = page.evaluate(TICKET, [guarded.address, TOKEN])
    seen = page.evaluate(WEBSOCKET, [f"{address}?ticket={ticket}", ["nonsense"]])
    assert (seen["got"][-1]["type"], seen["code"]) == ("summary", 1000)
    for path, script in ((address, WEBSOCKET), (f"{address}?ticket={ticket}", WEBSOCKET)):
        assert page.evaluate(script, [path, []]) == {"got": [], "protocol": "", "code": 1006, "clean": False}


# ── a page that may not ask ──────────────────────────────────────────────────────────────

UNKNOWN = "00000-" + "0" * 32
ROUTES = [
    ("POST", "/crawl/stream"),
    ("POST", "/crawl/sse"),
    ("GET", "/crawl/sse?url=http://127.0.0.1:1/"),
    ("GET", "/crawl/ws"),
    ("POST", "/deepsearch/stream"),
    ("POST", "/streams"),
    ("GET", "/streams"),
    ("GET", f"/streams/{UNKNOWN}"),
    ("DELETE", f"/streams/{UNKNOWN}"),
    ("GET", f"/streams/{UNKNOWN}/events"),
    ("GET", "/firehose/stream?frames=1"),
    ("GET", "/firehose/sse?frames=1"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/nothing"),
]


def known(daemon: Daemon) -> list[str]:
    """The streams that there are."""
    return sorted(stream["stream_id"] for stream in daemon.ask("GET", "/streams").json["streams"])


TRY_FETCH = """
async ([method, url]) => {
  const said = []
  const simple = { method, body: method === 'POST' ? '{"urls": ["http://127.0.0.1:1/"]}' : undefined }
  const json = { ...simple, headers: { 'Content-Type': 'application/json' } }
  const kinds = [json, simple, { ...simple, mode: 'no-cors' }, { ...json, credentials: 'include' }]
  for (const asked of method === 'DELETE' ? kinds.slice(0, 2) : kinds)
    try { said.push((await fetch(url, asked)).type) } catch (error) { said.push(error.name) }
  return said
}
"""


def test_fetch_of_a_stranger_reads_and_starts_nothing(daemon: Daemon, strange_page: Page) -> None:
    before = known(daemon)
    for method, path in ROUTES:
        for prefix in ("", "/api/v1"):
            said = strange_page.evaluate(TRY_FETCH, [method, daemon.address + prefix + path])
            assert set(said) == {"TypeError"}, (method, prefix + path)
    assert known(daemon) == before


def test_eventsource_of_a_stranger_gets_nothing(daemon: Daemon, strange_page: Page) -> None:
    before = known(daemon)
    for method, path in ROUTES:
        if method == "GET":
            seen = strange_page.evaluate(EVENT_SOURCE, daemon.address + path)
            assert seen == {"frames": [], "ids": [], "opened": 0, "broken": 0}, path
    assert known(daemon) == before


@pytest.mark.parametrize("path", ["/crawl/ws", "/firehose/ws", "/api/v1/crawl/ws", "/crawl/stream"])
def test_websocket_of_a_stranger_is_refused(daemon: Daemon, strange_page: Page, path: str) -> None:
    before = known(daemon)
    seen = strange_page.evaluate(WEBSOCKET, [f"ws://{daemon.host}{path}", []])
    assert seen == {"got": [], "protocol": "", "code": 1006, "clean": False}
    assert known(daemon) == before
