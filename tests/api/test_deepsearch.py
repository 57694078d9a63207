"""POST /deepsearch/stream against a real daemon and providers that are right, wrong and gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon
from origins import Origin

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}


def static(tmp_path: Path, found: dict[str, list[str]]) -> dict[str, Any]:
    file = tmp_path / "found.json"
    file.write_text(json.dumps(found))
    return {"SEARCH__PROVIDER": "static", "SEARCH__STATIC_FILE": file}


def search(daemon: Daemon, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = daemon.ask("POST", "/deepsearch/stream", {"query": query} | more)
    assert answer.status == 200, answer
    frames = answer.frames
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert (frames[0]["stream_type"], frames[0]["total_urls"]) == ("deepsearch", None)
    return frames


def test_what_is_found_is_told_and_then_fetched(tmp_path: Path, origin: Origin) -> None:
    urls = [origin.page(f"/found/{at}", f"<title>Found {at}</title>") and origin.url(f"/found/{at}") for at in range(3)]
    with Daemon(**ALLOW, **static(tmp_path, {"some words": urls})) as daemon:
        frames = search(daemon, "  Some   WORDS ")
        assert (frames[1]["type"], frames[1]["urls_found"]) == ("search", 3)
        assert [hit["url"] for hit in frames[1]["results"]] == urls
        assert [hit["rank"] for hit in frames[1]["results"]] == [1, 2, 3]
        results = sorted(frames[2:-1], key=lambda frame: frame["index"])
        assert [frame["result"]["document"]["title"] for frame in results] == ["Found 0", "Found 1", "Found 2"]
        assert results[0]["progress"]["total"] == 3
        assert (frames[-1]["status"], frames[-1]["total_urls"], frames[-1]["successful"]) == ("completed", 3, 3)
        assert daemon.metric('fastmesh_streaming_messages_sent_total{protocol="ndjson",type="search"}') == 1
        assert [frame["type"] for frame in search(daemon, "some words", limit=1)[1:]] == ["search", "result", "summary"]
        assert len(search(daemon, "nothing of the kind")) == 3


def test_without_content_nothing_is_fetched(tmp_path: Path, origin: Origin) -> None:
    with Daemon(**ALLOW, **static(tmp_path, {"q": [origin.url("/not-fetched")]})) as daemon:
        frames = search(daemon, "q", include_content=False)
        assert [frame["type"] for frame in frames] == ["metadata", "search", "summary"]
        assert (frames[-1]["total_urls"], frames[-1]["successful"]) == (0, 0)
        assert origin.hits["/not-fetched"] == 0


def test_what_is_found_goes_through_the_address_guard(tmp_path: Path) -> None:
    with Daemon(**static(tmp_path, {"q": ["http://127.0.0.1:9/", "http://169.254.169.254/"]})) as daemon:
        frames = search(daemon, "q")
        assert [frame["result"]["error"]["type"] for frame in frames[2:-1]] == ["blocked_address"] * 2


def test_searxng_over_its_json_api(origin: Origin) -> None:
    found = {"results": [{"url": origin.url("/hit"), "title": "A hit", "content": "words"}]}
    origin.page("/hit", "<title>Hit</title>")
    origin.page("/search", json.dumps(found), content_type="application/json")
    with Daemon(**ALLOW, SEARCH__PROVIDER="searxng", SEARCH__URL=origin.url("")) as daemon:
        frames = search(daemon, "q", limit=1)
        assert frames[1]["results"] == [{"rank": 1, "url": origin.url("/hit"), "title": "A hit", "snippet": "words"}]
        assert frames[2]["result"]["document"]["title"] == "Hit"


def test_a_search_that_fails_is_an_error_frame_and_a_summary(origin: Origin) -> None:
    with Daemon(SEARCH__PROVIDER="searxng", SEARCH__URL=origin.url("/nothing/here")) as daemon:
        frames = search(daemon, "q")
        assert [frame["type"] for frame in frames] == ["metadata", "error", "summary"]
        assert (frames[1]["error"]["type"], frames[1]["error"]["retryable"]) == ("search_unavailable", True)
        assert (frames[2]["status"], frames[2]["total_urls"]) == ("failed", 0)


def test_without_a_provider_it_is_503_before_the_stream(daemon: Daemon) -> None:
    answer = daemon.ask("POST", "/deepsearch/stream", {"query": "q"})
    assert (answer.status, answer.json["error"]["type"]) == (503, "search_unavailable")
    assert "SEARCH__PROVIDER" in answer.json["error"]["message"]
    assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "query"), ({"query": ""}, "query"), ({"query": "x" * 501}, "query"), ({"query": 1}, "query"),
        ({"query": "q", "limit": 0}, "limit"), ({"query": "q", "limit": 51}, "limit"),
        ({"query": "q", "include_content": "yes"}, "include_content"), ({"query": "q", "urls": []}, "urls"),
        ({"query": "q", "options": {"concurrency": 0}}, "options.concurrency"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_400_with_the_field(daemon: Daemon, body: dict[str, Any], field: str) -> None:
    answer = daemon.ask("POST", "/deepsearch/stream", body)
    assert (answer.status, answer.json["error"]["field"]) == (400, field)


def test_a_file_that_is_not_there_stops_the_start_and_nothing_else_is_said() -> None:
    with pytest.raises(RuntimeError) as refused:
        Daemon(SEARCH__PROVIDER="static", SEARCH__STATIC_FILE="/nonexistent")
    said = str(refused.value).partition(" ")[2]
    assert said.endswith(
        "fastmesh: SEARCH__STATIC_FILE='/nonexistent' cannot be read: No such file or directory"
        " (SEARCH__STATIC_FILE from environment)\n"
    )
    assert said.count("fastmesh: ") == 1
    assert "library.message" not in said
