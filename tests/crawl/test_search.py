"""Search providers: a real server that plays SearXNG, well and badly, and files, right and wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from origins import Origin, Request, Reset, head

from fastmesh import config
from fastmesh.crawl.search import make_search
from fastmesh.crawl.search.provider import SearchHit
from fastmesh.crawl.search.searxng import MAX_ANSWER_BYTES, MAX_PAGES, MAX_SNIPPET_CHARS, MAX_TITLE_CHARS, SearxngSearch
from fastmesh.crawl.search.static import StaticSearch
from fastmesh.errors import ConfigError, SearchUnavailable

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def searxng() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def ask(url: str, query: str = "onsen", limit: int = 10, timeout_s: float = 30) -> list[SearchHit]:
    async def once() -> list[SearchHit]:
        search = SearxngSearch(url, timeout_s=timeout_s)
        try:
            return await search.search(query, limit)
        finally:
            await search.close()

    return asyncio.run(once())


def refused(url: str, timeout_s: float = 30) -> SearchUnavailable:
    with pytest.raises(SearchUnavailable) as error:
        ask(url, timeout_s=timeout_s)
    assert error.value.status == 503
    assert error.value.retryable
    assert error.value.retry_after_s is not None
    assert "127.0.0.1" not in str(error.value)
    return error.value


def result(url: object, title: object = "A title", content: object = "Some words") -> dict[str, object]:
    return {"url": url, "title": title, "content": content, "engine": "x", "score": 1.5}


class TestSearxng:
    def test_hits_are_ranked_in_the_order_of_the_answer(self, searxng: Origin) -> None:
        found = [result("https://a.example/"), result("http://b.example/x?y", " B\n title ", "")]
        searxng.page("/search", json.dumps({"query": "onsen", "results": found}), headers=JSON)
        assert ask(searxng.url("/")) == [
            SearchHit(1, "https://a.example/", "A title", "Some words"),
            SearchHit(2, "http://b.example/x?y", "B title", ""),
        ]
        request = searxng.heads["/search"][0]
        assert request.startswith("GET /search?q=onsen&format=json&pageno=1 HTTP/1.1")

    def test_the_query_arrives_as_it_is(self, searxng: Origin) -> None:
        asked: list[dict[str, str]] = []

        async def answer(request: Request) -> AsyncIterator[bytes]:
            asked.append(request.query)
            yield head(200, JSON) + b'{"results": []}'

        searxng.route("/under/search", answer)
        query = '温泉 & "c++" 100% =?#/é'
        assert ask(searxng.url("/under"), query) == []
        assert asked == [{"q": query, "format": "json", "pageno": "1"}]

    def test_pages_are_asked_for_until_the_limit(self, searxng: Origin) -> None:
        async def answer(request: Request) -> AsyncIterator[bytes]:
            page = int(request.query["pageno"])
            yield (
                head(200, JSON)
                + json.dumps(
                    {"results": [result(f"https://a.example/{n}") for n in range(page * 4 - 4, page * 4)]}
                ).encode()
            )

        searxng.route("/search", answer)
        hits = ask(searxng.url(), limit=10)
        assert [(hit.rank, hit.url) for hit in hits] == [(n + 1, f"https://a.example/{n}") for n in range(10)]
        assert searxng.hits["/search"] == 3
        assert len(ask(searxng.url(), limit=4)) == 4
        assert searxng.hits["/search"] == 4

    def test_a_page_that_brings_nothing_new_is_the_last(self, searxng: Origin) -> None:
        found = [result("https://a.example/"), result("https://a.example/", "again")]
        searxng.page("/search", json.dumps({"results": found}), headers=JSON)
        assert ask(searxng.url(), limit=50) == [SearchHit(1, "https://a.example/", "A title", "Some words")]
        assert searxng.hits["/search"] == 2

    def test_pages_without_end_are_not_followed_for_ever(self, searxng: Origin) -> None:
        async def answer(request: Request) -> AsyncIterator[bytes]:
            page = request.query["pageno"]
            yield head(200, JSON) + json.dumps({"results": [result(f"https://a.example/{page}")]}).encode()

        searxng.route("/search", answer)
        assert len(ask(searxng.url(), limit=50)) == MAX_PAGES
        assert searxng.hits["/search"] == MAX_PAGES

    def test_hits_of_the_pages_before_a_failure_are_kept(self, searxng: Origin) -> None:
        async def answer(request: Request) -> AsyncIterator[bytes]:
            if request.query["pageno"] == "1":
                yield head(200, JSON) + json.dumps({"results": [result("https://a.example/")]}).encode()
            else:
                yield head(500)

        searxng.route("/search", answer)
        assert [hit.url for hit in ask(searxng.url())] == ["https://a.example/"]

    def test_what_has_no_url_to_fetch_is_left_out(self, searxng: Origin) -> None:
        urls: list[object] = [None, 5, ["https://x/"], {}, True, "", "magnet:?xt=x", "ftp://x/", "/relative"]
        urls += ["https://x/" + "y" * 10_000]
        found: list[object] = [result(url) for url in urls]
        found += [None, 5, "https://text.example/", [], {}, result(" HTTPS://a.example/ ")]
        searxng.page("/search", json.dumps({"results": found}), headers=JSON)
        assert ask(searxng.url()) == [SearchHit(1, "HTTPS://a.example/", "A title", "Some words")]

    def test_titles_and_snippets_are_bounded_lines(self, searxng: Origin) -> None:
        found = [
            result("https://a.example/", "t" * 10_000, "s " * 50_000),
            result("https://b.example/", None, 5),
            result("https://c.example/", ["x"], {"a": 1}),
        ]
        searxng.page("/search", json.dumps({"results": found}), headers=JSON)
        a, b, c = ask(searxng.url())
        assert a == SearchHit(1, "https://a.example/", "t" * MAX_TITLE_CHARS, ("s " * MAX_SNIPPET_CHARS)[:2000])
        assert (b.title, b.snippet, c.title, c.snippet) == ("", "", "", "")

    def test_a_compressed_answer_is_read(self, searxng: Origin) -> None:
        body = gzip.compress(json.dumps({"results": [result("https://a.example/")]}).encode())
        searxng.page("/search", body, headers=JSON | {"Content-Encoding": "gzip"})
        assert len(ask(searxng.url())) == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"<html>", b"null", b"5", b"[]", b'"x"', b"{}", b'{"results": null}', b'{"results": {}}',
            b'{"results": 1e999}', b'\xff{"results": []}', b'{"results": ["\\ud800"]}', b"[" * 100_000,
        ],
    )  # fmt: skip
    def test_what_is_no_such_answer_is_refused(self, searxng: Origin, body: bytes) -> None:
        searxng.page("/search", body, headers=JSON)
        refused(searxng.url())

    @pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 503, 999])
    def test_every_other_status_is_refused(self, searxng: Origin, status: int) -> None:
        searxng.page("/elsewhere", '{"results": []}', headers=JSON)
        headers = {"Location": searxng.url("/elsewhere"), "Retry-After": "77"}
        searxng.page("/search", b"" if status == 204 else b'{"results": []}', status=status, headers=headers)
        error = refused(searxng.url())
        assert str(status) in error.message
        assert error.retry_after_s == 77
        assert searxng.hits["/elsewhere"] == 0
        assert ("search.formats" in error.message) == (status == 403)

    @pytest.mark.parametrize(("said", "passed_on"), [("0", 10), ("soon", 10), ("99999999", 3600), ("-5", 10)])
    def test_retry_after_is_bounded(self, searxng: Origin, said: str, passed_on: int) -> None:
        searxng.page("/search", status=429, headers={"Retry-After": said})
        assert refused(searxng.url()).retry_after_s == passed_on

    def test_a_huge_answer_is_refused_unread(self, searxng: Origin) -> None:
        searxng.raw("/search", head(200, {"Content-Length": str(10**12)}), b"{")
        assert "over the limit" in refused(searxng.url()).message

    def test_a_bomb_is_refused(self, searxng: Origin) -> None:
        body = gzip.compress(b" " * (8 * MAX_ANSWER_BYTES))
        searxng.page("/search", body, headers=JSON | {"Content-Encoding": "gzip"})
        assert "over the limit" in refused(searxng.url()).message

    def test_an_endless_answer_is_refused(self, searxng: Origin) -> None:
        async def answer(_: Request) -> AsyncIterator[bytes]:
            yield head(200, JSON)
            while True:
                yield b" " * 65_536

        searxng.route("/search", answer)
        assert "over the limit" in refused(searxng.url()).message

    @pytest.mark.parametrize("begun", [b"", head(200, JSON), head(200, JSON) + b'{"results"'])
    def test_one_that_does_not_go_on_is_refused_in_time(self, searxng: Origin, begun: bytes) -> None:
        async def answer(_: Request) -> AsyncIterator[bytes]:
            yield begun
            await asyncio.Event().wait()

        searxng.route("/search", answer)
        assert "within 0.2 s" in refused(searxng.url(), timeout_s=0.2).message

    @pytest.mark.parametrize(
        "begun",
        [
            b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: strange\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
    )  # fmt: skip
    def test_a_broken_answer_is_refused(self, searxng: Origin, begun: bytes) -> None:
        searxng.raw("/search", begun)
        refused(searxng.url())

    def test_a_connection_that_is_reset_is_refused(self, searxng: Origin) -> None:
        async def answer(_: Request) -> AsyncIterator[bytes]:
            yield head(200, JSON)
            raise Reset

        searxng.route("/search", answer)
        refused(searxng.url())

    def test_nobody_there_is_refused(self) -> None:
        with Origin() as gone:
            url = gone.url()
        refused(url)

    def test_the_environment_has_no_say(self, searxng: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        searxng.page("/search", '{"results": []}', headers=JSON)
        assert ask(searxng.url()) == []

    def test_any_json_gives_hits_or_a_refusal(self, searxng: Origin) -> None:
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("https://a.example/")
        values = st.recursive(
            leaves, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["url", "title", "x"]), inner)
        )

        @given(st.fixed_dictionaries({"results": st.lists(values) | values}) | values)
        def check(answer: Any) -> None:
            searxng.page("/search", json.dumps(answer), headers=JSON)
            try:
                hits = ask(searxng.url())
            except SearchUnavailable:
                return
            assert all(isinstance(part, str) for hit in hits for part in (hit.url, hit.title, hit.snippet))

        check()


def static(path: Path, table: object) -> StaticSearch:
    path.write_text(table if isinstance(table, str) else json.dumps(table), "utf-8")
    return StaticSearch.read(path)


class TestStatic:
    def test_answers_from_the_file(self, tmp_path: Path) -> None:
        items = ["https://a/", {"url": "https://b/", "title": "B", "snippet": "s"}, {"url": "https://a/", "title": "x"}]
        search = static(tmp_path / "f.json", {"Hot  springs": items, "none": []})
        hits = [SearchHit(1, "https://a/"), SearchHit(2, "https://b/", "B", "s")]
        assert asyncio.run(search.search("Hot  springs", 10)) == hits
        assert asyncio.run(search.search(" hot\n SPRINGS ", 10)) == hits
        assert asyncio.run(search.search("hot springs", 1)) == hits[:1]
        assert asyncio.run(search.search("none", 10)) == []
        assert asyncio.run(search.search("unknown", 10)) == []
        asyncio.run(search.close())

    @pytest.mark.parametrize(
        ("table", "place"),
        [
            ("{", "is not JSON"),
            ("", "is not JSON"),
            ('{"q": NaN}', "is not JSON"),
            ("[" * 2000, "is not JSON"),
            ([], "want an object of query to a list of URLs, got a list"),
            ({"q": "https://a/"}, "'q': want a list, got \"https://a/\""),
            ({"q": {"url": "x"}}, "'q': want a list, got an object"),
            ({"q": ["x", 5]}, "'q'[1]: want a URL or an object with url, title and snippet, got 5"),
            ({"q": [["x"]]}, "'q'[0]: want a URL or an object with url, title and snippet, got a list"),
            ({"q": [{"title": "t"}]}, "'q'[0].url: want a URL, there is none"),
            ({"q": [""]}, "'q'[0].url: want a URL, there is none"),
            ({"q": [{"url": 5}]}, "'q'[0].url: want a string, got 5"),
            ({"q": [{"url": "x", "title": None}]}, "'q'[0].title: want a string, got null"),
            ({"q": [{"url": "x", "titel": ""}]}, "'q'[0].titel: there is no such field"),
            ({"a b": [], "A  B": []}, "'a b' and 'A  B' are the same"),
        ],
    )
    def test_a_wrong_file_names_the_setting_and_the_place(self, tmp_path: Path, table: object, place: str) -> None:
        path = tmp_path / "f.json"
        with pytest.raises(ConfigError) as error:
            static(path, table)
        assert str(error.value).startswith(f"SEARCH__STATIC_FILE={str(path)!r}")
        assert place in str(error.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"SEARCH__STATIC_FILE=.*gone.* cannot be read: No such file"):
            StaticSearch.read(tmp_path / "gone")
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            StaticSearch.read(tmp_path)


class TestSettings:
    def made(self, **given: str) -> object:
        async def make() -> object:
            search = make_search(config.load(given, environ={}).values)
            if search is not None:
                await search.close()
            return search

        return asyncio.run(make())

    def test_the_provider_is_the_one_that_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "f.json"
        file.write_text("{}")
        assert self.made() is None
        assert self.made(SEARCH__PROVIDER="none") is None
        assert isinstance(self.made(SEARCH__PROVIDER="static", SEARCH__STATIC_FILE=str(file)), StaticSearch)
        assert isinstance(self.made(SEARCH__PROVIDER="searxng", SEARCH__URL="http://localhost:8888"), SearxngSearch)

    @pytest.mark.parametrize(
        ("given_", "words"),
        [
            ({"SEARCH__PROVIDER": "searxng"}, "SEARCH__PROVIDER='searxng' wants SEARCH__URL"),
            ({"SEARCH__PROVIDER": "static"}, "SEARCH__PROVIDER='static' wants SEARCH__STATIC_FILE"),
            (
                {"SEARCH__PROVIDER": "static", "SEARCH__STATIC_FILE": ""},
                "SEARCH__STATIC_FILE='' (flag): want a path",
            ),
            ({"SEARCH__PROVIDER": "google"}, "SEARCH__PROVIDER='google' (flag)"),
            ({"SEARCH__URL": "ftp://x"}, "SEARCH__URL='ftp://x' (flag): want an http or https URL"),
            ({"SEARCH__URL": ""}, "SEARCH__URL='' (flag)"),
            ({"SEARCH__URL": "http://"}, "SEARCH__URL='http://' (flag)"),
            ({"SEARCH__URL": "http://x/?q=1"}, "without query and fragment"),
            ({"SEARCH__URL": "localhost:8888"}, "SEARCH__URL='localhost:8888' (flag)"),
        ],
    )
    def test_a_wrong_setting_stops_the_start(self, given_: dict[str, str], words: str) -> None:
        with pytest.raises(ConfigError) as error:
            self.made(**given_)
        assert words in str(error.value)
