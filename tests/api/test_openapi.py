"""/openapi.json: made of what validates, true of what is answered, and found so by a tool that knows nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LOOPBACK
from daemons import Daemon
from openapi_spec_validator import validate
from origins import Origin
from pydantic import TypeAdapter
from sockets import WebSocket

from fastmesh.api.access.tokens import new_token
from fastmesh.api.openapi import answers, frames
from fastmesh.api.openapi.schemas import frames_schema
from fastmesh.errors import ApiError, UrlError

ROOT = Path(__file__).parent.parent.parent
QUERY = "what is known"

FRAME = TypeAdapter[Any](frames.Frame)
MESSAGE = TypeAdapter[Any](frames.Message)


def held_against(shape: Any, *values: Any) -> None:
    """Every one has exactly the fields of *shape*, of its types."""
    adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
    for value in values:
        adapter.validate_json(json.dumps(value), strict=True, extra="forbid")


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Daemon]:
    """A daemon with all that is described, and pages to find."""
    origin.page("/page", f"<title>A page</title><article><p>{'words ' * 50}</p><a href='/x'>x</a></article>")
    found = tmp_path_factory.mktemp("openapi") / "found.json"
    found.write_text(json.dumps({QUERY: [origin.url("/page")], "none": []}))
    with Daemon(
        FETCH__ALLOW_NETWORKS=LOOPBACK,
        FETCH__RETRIES=0,
        FETCH__TIMEOUT_MS=2000,
        FIREHOSE__ENABLED="true",
        SEARCH__PROVIDER="static",
        SEARCH__STATIC_FILE=found,
        STREAM__HEARTBEAT_S=0.2,
        STREAM__MAX_URLS=50,
    ) as running:
        yield running


def described(daemon: Daemon, **headers: str) -> dict[str, Any]:
    answer = daemon.ask("GET", "/openapi.json", **headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = answer.json
    return document


class TestDocument:
    def test_is_openapi(self, searching: Daemon) -> None:
        validate(described(searching))

    def test_has_the_limits_of_this_daemon(self, searching: Daemon) -> None:
        schemas = described(searching)["components"]["schemas"]
        assert schemas["CrawlRequest"]["properties"]["urls"]["maxItems"] == 50
        assert schemas["Options"]["properties"]["timeout_ms"]["anyOf"][0]["maximum"] == 2000
        assert schemas["Options"]["properties"]["retries"]["anyOf"][0]["maximum"] == 0

    def test_says_what_is_refused_by_which_type(self, searching: Daemon) -> None:
        responses = described(searching)["paths"]["/streams/{id}"]["delete"]["responses"]
        assert set(responses) == {"200", "400", "403", "404", "408", "409", "421", "431", "500", "503"}
        assert responses["409"]["description"].startswith("conflict: ")

    def test_wants_tokens_where_the_daemon_does(self, tmp_path: Path) -> None:
        token = new_token()
        (tmp_path / "tokens").write_text(token)
        with Daemon(AUTH__TOKENS_FILE=tmp_path / "tokens") as daemon:
            assert daemon.ask("GET", "/openapi.json").status == 401
            document = described(daemon, Authorization=f"Bearer {token}")
        validate(document)
        assert document["paths"]["/crawl/sse"]["get"]["security"] == [{"token": []}, {"ticket": []}]
        assert "401" in document["paths"]["/streams"]["post"]["responses"]
        assert "security" not in document["paths"]["/healthz"]["get"]


def test_the_schema_in_the_docs_is_what_the_types_say() -> None:
    written = json.loads((ROOT / "docs/frames.schema.json").read_text())
    assert written == frames_schema(), "write it anew: python -m fastmesh.api.openapi > docs/frames.schema.json"


class TestShapes:
    """What is answered, held against what is described."""

    def test_of_a_crawl(self, searching: Daemon, origin: Origin) -> None:
        urls = [
            origin.url("/page"),
            {"url": origin.url("/page"), "id": "mine"},
            origin.url("/nothing-here"),
            "nonsense",
            "http://10.0.0.1/",
        ]
        parts = ["text", "markdown", "links", "metadata", "html"]
        held_against(FRAME, *searching.crawl(*urls, include=parts))
        held_against(FRAME, *searching.crawl(*urls, include=[], extractor="quality", order="input"))
        failed = searching.crawl(*urls, stop_after_errors=1)
        assert "error" in [frame["type"] for frame in failed]
        held_against(FRAME, *failed)

    def test_of_progress(self, searching: Daemon) -> None:
        urls = [f"nonsense {at}" for at in range(12)]
        frames = searching.crawl(*urls, stream={"progress": True})
        assert "progress" in [frame["type"] for frame in frames]
        held_against(FRAME, *frames)

    def test_of_a_deep_search(self, searching: Daemon) -> None:
        for query in (QUERY, "none"):
            held_against(FRAME, *searching.ask("POST", "/deepsearch/stream", {"query": query}).frames)

    def test_of_a_firehose(self, searching: Daemon) -> None:
        held_against(FRAME, *searching.ask("GET", "/firehose/stream?frames=50").frames)

    def test_of_what_one_reader_is_told(self, searching: Daemon, origin: Origin) -> None:
        with searching.connect() as peer:
            peer.send(peer.request("GET", "/firehose/stream?frames=3&rate=1"))
            peer.head()
            told = [frame for frame in peer.frames() if "seq" not in frame]
        assert {frame["type"] for frame in told} == {"heartbeat"}
        held_against(FRAME, *told)

    def test_of_streams_as_resources(self, searching: Daemon, origin: Origin) -> None:
        opened = searching.ask("POST", "/streams", {"urls": [origin.url("/page")]})
        held_against(answers.OpenedStream, opened.json)
        path = opened.headers["location"]
        held_against(answers.StreamStatus, searching.ask("GET", path).json)
        held_against(FRAME, *searching.ask("GET", f"{path}/events").frames)
        held_against(answers.StreamList, searching.ask("GET", "/streams").json)
        waiting = searching.ask("POST", "/streams", {"urls": [origin.url("/page")]}).headers["location"]
        held_against(answers.CancelledStream, searching.ask("DELETE", waiting).json)
        held_against(answers.RefusalEnvelope, searching.ask("DELETE", waiting).json)

    def test_of_a_whole_crawl(self, searching: Daemon, origin: Origin) -> None:
        urls = [{"url": origin.url("/page"), "id": "mine"}, "nonsense", "nonsense"]
        held_against(answers.WholeCrawl, searching.ask("POST", "/crawl", {"urls": urls}).json)
        body = {"urls": urls, "options": {"stop_after_errors": 1}}
        held_against(answers.WholeCrawl, searching.ask("POST", "/crawl", body).json)

    def test_of_health(self, searching: Daemon) -> None:
        held_against(answers.HealthReport, searching.ask("GET", "/healthz").json)
        held_against(answers.Alive, searching.ask("GET", "/livez").json)
        held_against(answers.Ready, searching.ask("GET", "/readyz").json)

    @pytest.mark.parametrize(
        "asked",
        [
            ("GET", "/nothing", None),
            ("PUT", "/streams", None),
            ("POST", "/crawl/stream", {"urls": []}),
            ("POST", "/tickets", None),
            ("GET", "/crawl/ws", None),
            ("GET", "/firehose/stream?frames=0", None),
        ],
    )
    def test_of_refusals(self, searching: Daemon, asked: tuple[str, str, Any]) -> None:
        held_against(answers.RefusalEnvelope, searching.ask(*asked).json)

    def test_of_a_websocket(self, searching: Daemon, origin: Origin) -> None:
        kinds = set()
        with WebSocket(searching) as socket:
            held_against(MESSAGE, socket.welcome)
            awaited = {
                socket.tell("crawl", urls=[origin.url("/page")]),
                socket.tell("subscribe", stream_id=f"00000-{'0' * 32}"),
                socket.tell("status"),
                socket.tell("ping"),
                socket.tell("crawl"),
            }
            while awaited or "summary" not in kinds:
                told = socket.read()
                kinds.add(told["type"])
                awaited -= {told.get("id")}
                held_against(MESSAGE if "id" in told else FRAME, told)
        assert kinds == {"ack", "status", "pong", "error", "metadata", "result", "summary"}

    def test_of_a_ticket(self, tmp_path: Path) -> None:
        token = new_token()
        (tmp_path / "tokens").write_text(token)
        with Daemon(AUTH__TOKENS_FILE=tmp_path / "tokens") as daemon:
            held_against(answers.Ticket, daemon.ask("POST", "/tickets", Authorization=f"Bearer {token}").json)

    def test_a_field_that_nobody_described_would_be_seen(self, searching: Daemon) -> None:
        frame = searching.crawl("nonsense")[0]
        with pytest.raises(ValueError, match="extra"):
            held_against(FRAME, frame | {"more": 1})


def test_every_type_of_error_is_described() -> None:
    schemas = frames_schema()["$defs"]
    for root, shape in ((ApiError, "Failure"), (UrlError, "PageError")):
        for error in [root, *root.__subclasses__()]:
            assert error.type in schemas[shape]["properties"]["type"]["enum"]


@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.long)])
def test_schemathesis_finds_nothing(tmp_path: Path, examples: int) -> None:
    """Requests made of the document, right and wrong ones, and what comes of them one after the other."""
    found = tmp_path / "found.json"
    found.write_text("{}")
    # No firehose: what it may be asked for never ends, and a tool reads each answer to its end.
    with Daemon(
        FETCH__RETRIES=0,
        FETCH__TIMEOUT_MS=1000,
        SEARCH__PROVIDER="static",
        SEARCH__STATIC_FILE=found,
    ) as daemon:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={ROOT / 'tests/api/schemathesis.toml'}",
            "run",
            f"{daemon.address}/openapi.json",
            f"--max-examples={examples}",
            "--request-timeout=20",
            "--no-color",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Tested: 17" in done.stdout
        assert daemon.logs("request.bug") == []
