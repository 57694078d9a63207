"""Bodies and queries: what is taken, and what is refused by its name."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from budgets import cpu_s
from daemons import Daemon
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.api.requests.bounds import MAX_FIELDS
from fastmesh.api.requests.model import MAX_INTEGER, Strict
from fastmesh.api.requests.queries import CrawlQuery, FirehoseQuery
from fastmesh.api.requests.reading import pairs_of, read_body, read_query
from fastmesh.api.websocket.session import Subscribe
from fastmesh.errors import ValidationError

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "urls"),
        ({"urls": []}, "urls"),
        ({"urls": "x"}, "urls"),
        ({"urls": [1]}, "urls.0"),
        ({"urls": ["x", None]}, "urls.1"),
        ({"urls": ["x"], "url": "x"}, "url"),
        ({"urls": ["x"], "options": None}, "options"),
        ({"urls": ["x"], "options": {"concurrency": 0}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": 257}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": "16"}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": True}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": 1.5}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"timeout_ms": 0}}, "options.timeout_ms"),
        ({"urls": ["x"], "options": {"timeout_ms": 15001}}, "options.timeout_ms"),
        ({"urls": ["x"], "options": {"max_body_bytes": -1}}, "options.max_body_bytes"),
        ({"urls": ["x"], "options": {"include": ["pictures"]}}, "options.include.0"),
        ({"urls": ["x"], "options": {"include": "text"}}, "options.include"),
        ({"urls": ["x"], "options": {"extractor": "best"}}, "options.extractor"),
        ({"urls": ["x"], "options": {"user_agent": "a\nb"}}, "options.user_agent"),
        ({"urls": ["x"], "options": {"headers": {"Connection": "x"}}}, "options.headers"),
        ({"urls": ["x"], "options": {"headers": {"Transfer_Encoding": "x"}}}, "options.headers"),
        ({"urls": ["x"], "options": {"headers": {"X-Tenant": "a", "x-tenant": "b"}}}, "options.headers"),
        ({"urls": [{"url": "x", "options": {"headers": {"A": "a", "a": "b"}}}]}, "urls.0.options.headers"),
        ({"urls": ["x"], "options": {"headers": {"X": 1}}}, "options.headers.X"),
        ({"urls": ["x"], "options": {"order": "size"}}, "options.order"),
        ({"urls": ["x"], "options": {"cache_mode": "sometimes"}}, "options.cache_mode"),
        ({"urls": ["x"], "options": {"cookies": True}}, "options.cookies"),
        ({"urls": ["x"], "options": {"respect_robots": "yes"}}, "options.respect_robots"),
        ({"urls": ["x"], "options": {"retries": 3}}, "options.retries"),
        ({"urls": ["x"], "options": {"dedupe": 1}}, "options.dedupe"),
        ({"urls": ["x"], "options": {"stop_after_errors": 0}}, "options.stop_after_errors"),
        ({"urls": [{"url": "x"}, {"id": "1"}]}, "urls.1.url"),
        ({"urls": [{"url": 1}]}, "urls.0.url"),
        ({"urls": [{"url": "x", "id": ""}]}, "urls.0.id"),
        ({"urls": [{"url": "x", "id": 7}]}, "urls.0.id"),
        ({"urls": [{"url": "x", "name": "y"}]}, "urls.0.name"),
        ({"urls": [{"url": "x", "options": {"order": "input"}}]}, "urls.0.options.order"),
        ({"urls": ["x", {"url": "x", "options": {"timeout_ms": 15001}}]}, "urls.1.options.timeout_ms"),
        ({"urls": ["x"], "stream": {"on_slow": "wait"}}, "stream.on_slow"),
        ({"urls": ["x"], "stream": {"detach": 1}}, "stream.detach"),
        ({"urls": ["x"], "stream": {"progress": 1}}, "stream.progress"),
        ({"urls": ["x"], "stream": {"deadline_s": 0}}, "stream.deadline_s"),
        ({"urls": ["x"], "stream": {"deadline_s": 3601}}, "stream.deadline_s"),
    ],
)
def test_a_wrong_body_is_400_with_the_path_of_the_field(daemon: Daemon, body: Any, field: str) -> None:
    answer = daemon.ask("POST", "/crawl/stream", body)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "validation_error"
    assert answer.json["error"]["field"] == field
    assert answer.json["error"]["message"].startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff",
        b'{"urls": ["\\ud800"]}',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[]",
        b"null",
        b'"x"',
        b"1e400",
    ],
)
def test_what_is_no_object_of_json_is_400(daemon: Daemon, body: bytes) -> None:
    answer = daemon.ask("POST", "/crawl/stream", body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "validation_error")


@pytest.mark.parametrize(("name", "value"), [("Idempotency-Key", "a b"), ("Last-Event-ID", "abc")])
def test_a_broken_key_or_event_id_is_refused_by_name(daemon: Daemon, name: str, value: str) -> None:
    answer = daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}, **{name: value})
    assert (answer.status, answer.json["error"]["field"]) == (400, name)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("frames=0", "frames"), ("frames=1000000001", "frames"), ("frames=x", "frames"), ("frames=1.5", "frames"),
        ("bytes=699", "bytes"), ("bytes=9999999", "bytes"), ("rate=0", "rate"), ("rate=-1", "rate"),
        ("rate=nan", "rate"), ("rate=inf", "rate"), ("frames=1&frames=2", "frames"), ("colour=red", "colour"),
        ("frames=", "frames"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_400_with_the_name(daemon: Daemon, query: str, field: str) -> None:
    answer = daemon.ask("GET", f"/firehose/stream?{query}")
    assert (answer.status, answer.json["error"]["field"]) == (400, field)


def test_a_fractional_rate(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/firehose/stream?frames=2&rate=12.5").frames[-1]["successful"] == 2


# ── numbers ──────────────────────────────────────────────────────────────────────────────

# JSON has them, and a 64-bit integer does not; Python reads the larger ones as floats.
TOO_LARGE = ["1e30", "1E+30", "1e308", "-1e30", "18446744073709551616", "18446744073709551615", "9007199254740992",
             "9007199254740993.0", "1" + "0" * 300, "-9223372036854775809"]  # fmt: skip
INTEGERS = [
    ("options", "concurrency"),
    ("options", "stop_after_errors"),
    ("options", "max_body_bytes"),
    ("options", "retries"),
    ("urls", 0, "options", "max_body_bytes"),
    ("urls", 0, "options", "retries"),
]


def integers(schema: Any) -> list[dict[str, Any]]:
    """All integers in a JSON Schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in integers(part)]
    if not isinstance(schema, dict):
        return []
    return [*([schema] if schema.get("type") == "integer" else []), *integers([*schema.values()])]


def models(base: type[Strict] = Strict) -> list[type[Strict]]:
    return [base, *(found for each in base.__subclasses__() for found in models(each))]


def test_every_integer_of_every_body_query_and_command_is_bounded() -> None:
    assert Subscribe in models()
    found = [(model, each) for model in models() for each in integers(model.model_json_schema())]
    assert len(found) > 10
    for model, each in found:
        if each.get("maximum") != 10**18 - 1:  # a seq is text of 18 digits at most
            assert -MAX_INTEGER <= each["minimum"] < each["maximum"] <= MAX_INTEGER, model


@pytest.mark.parametrize("number", TOO_LARGE)
@pytest.mark.parametrize("at", INTEGERS, ids=lambda at: ".".join(map(str, at)))
def test_an_integer_that_is_too_large_is_refused_by_its_field(at: tuple[str | int, ...], number: str) -> None:
    text = f'{{"urls": [{{"url": "x", "options": {{"{at[-1]}": {number}}}}}]}}'
    if at[0] == "options":
        text = f'{{"urls": ["x"], "options": {{"{at[-1]}": {number}}}}}'
    with pytest.raises(ValidationError) as refusal:
        read_body(CrawlRequest, JSON, text.encode(), max_urls=1000)
    assert refusal.value.field == ".".join(map(str, at))


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse", "/crawl", "/streams", "/deepsearch/stream"])
def test_it_is_no_fault_of_the_server(daemon: Daemon, path: str) -> None:
    for number in TOO_LARGE:
        query = '"query": "x"' if "deepsearch" in path else '"urls": ["x"]'
        for name in ("stop_after_errors", "retries", "max_body_bytes"):
            body = f'{{{query}, "options": {{"{name}": {number}}}}}'.encode()
            answer = daemon.ask("POST", path, body)
            assert (answer.status, answer.json["error"]["field"]) == (400, f"options.{name}")


@pytest.mark.parametrize("zero", ["0", "-0", "0.0", "-0.0", "0e5"])
def test_zero_is_zero_however_it_is_written(zero: str) -> None:
    body = f'{{"urls": ["x"], "options": {{"retries": {zero}, "max_body_bytes": {zero}}}}}'.encode()
    request = read_body(CrawlRequest, JSON, body, max_urls=1)
    assert (repr(request.options.retries), repr(request.options.max_body_bytes)) == ("0", "0")
    with pytest.raises(ValidationError):
        read_body(CrawlRequest, JSON, body.replace(b"retries", b"concurrency"), max_urls=1)


def test_the_last_of_two_fields_of_a_name_counts() -> None:
    """As in every reader of JSON that browsers and Python have: nothing else in the daemon reads the text again."""
    body = b'{"urls": ["a"], "urls": ["b"], "options": {"retries": 1, "retries": 0, "retries": 2}}'
    request = read_body(CrawlRequest, JSON, body, max_urls=1)
    assert (request.urls, request.options.retries) == (["b"], 2)


@pytest.mark.parametrize(
    "text",
    ["1_0", "+5", " 5", "5 ", "٣", "0x5", "1e30", "9" * 17, "9" * 5000, "1e400", "nan", "-1", "", "5.5", "1e-1", "½"],
)
@pytest.mark.parametrize("name", ["frames", "bytes"])
def test_a_number_in_a_query_is_written_as_in_json(name: str, text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        read_query(FirehoseQuery, [(name, text)])
    assert refusal.value.field == name


@pytest.mark.parametrize("text", ["1_0", "+5", " 5", "٣", "0x1p3", "inf", "1e400", "5.", ".5"])
def test_a_rate_as_well(text: str) -> None:
    with pytest.raises(ValidationError):
        read_query(FirehoseQuery, [("rate", text)])


# ── how much a body may hold ─────────────────────────────────────────────────────────────

MEGABYTE = 1_048_000


def filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    """As many of *unit* as a body may have."""
    return start + unit * ((MEGABYTE - len(start) - len(end)) // len(unit)) + end


def keyed(start: bytes, end: bytes, count: int = MEGABYTE // 11) -> bytes:
    """As many different fields as a body may have, or *count*."""
    return start + b",".join(b'"%x":1' % at for at in range(count)) + end


CROWDED = {
    "numbers for URLs": filled(b'{"urls":[', b"1,", b"1]}"),
    "empty URLs": filled(b'{"urls":[', b'"",', b'""]}'),
    "lists for URLs": filled(b'{"urls":[', b"[],", b"[]]}"),
    "objects for URLs": filled(b'{"urls":[', b"{},", b"{}]}"),
    "lists in lists": filled(b'{"urls":[', b"[[[[[1]]]]],", b"1]}"),
    "unknown fields": keyed(b'{"urls":["x"],', b"}"),
    "unknown options": keyed(b'{"urls":["x"],"options":{', b"}}"),
    "unknown fields of a URL": keyed(b'{"urls":[{"url":"x",', b"}]}"),
    "headers": keyed(b'{"urls":["x"],"options":{"headers":{', b"}}}"),
    "parts to include": filled(b'{"urls":["x"],"options":{"include":[', b"1,", b"1]}}"),
    "the same part": filled(b'{"urls":["x"],"options":{"include":[', b'"text",', b'"text"]}}'),
    "wrong URL objects": b'{"urls":[' + b'{"url":1,"id":1,"options":{"retries":"x","z":1}},' * 900 + b"1]}",
    "wrong URLs": b'{"urls":[' + b"1," * 999 + b"1]}",
    "fields up to the bound": b'{"urls":["x"],' + b",".join(b'"%x":1' % at for at in range(MAX_FIELDS - 1)) + b"}",
    "unknown fields, in a text of few marks": keyed(b'{"urls":["x"],', b"}", 30_000),
    "unknown options, in a text of few marks": keyed(b'{"urls":["x"],"options":{', b"}}", 30_000),
    "brackets": b"[" * MEGABYTE,
    "an unknown list": filled(b'{"urls":["x"],"x":[', b"[1],", b"1]}"),
}


@pytest.mark.parametrize("name", CROWDED)
def test_a_body_is_refused_in_less_time_than_the_largest_good_one_takes(name: str) -> None:
    """A model makes an error of each bad value: of 500,000 in one body it took 8 s, and the loop stood still."""
    good = json.dumps({"urls": ["http://a.example/" + "b" * 1000] * 1000}).encode()

    def refuse() -> None:
        with pytest.raises(ValidationError):
            read_body(CrawlRequest, JSON, CROWDED[name], max_urls=1000)

    def take() -> None:
        read_body(CrawlRequest, JSON, good, max_urls=1000)

    assert cpu_s(refuse) < 8 * cpu_s(take)


def test_values_are_counted_over_all_urls() -> None:
    """Each object is as small as it may be, and there are not more of them than may be."""
    one = b'{"url":"x",%b}' % b",".join(b'"%x":1' % at for at in range(20))
    with pytest.raises(ValidationError, match="over 16128 values"):
        read_body(CrawlRequest, JSON, b'{"urls":[%b]}' % b",".join([one] * 1000), max_urls=1000)


@pytest.mark.parametrize("url", ["1", "{}", '{"url":1,"id":1,"x":1}'])
def test_of_a_thousand_wrong_urls_the_first_is_told(url: str) -> None:
    good, wrong = (f'{{"urls": [{", ".join([each] * 1000)}]}}'.encode() for each in ('"x"', url))

    def refuse() -> None:
        with pytest.raises(ValidationError, match=r"^urls\.0"):
            read_body(CrawlRequest, JSON, wrong, max_urls=1000)

    assert cpu_s(refuse) < 8 * cpu_s(lambda: read_body(CrawlRequest, JSON, good, max_urls=1000))


def test_what_a_request_may_hold_it_may_hold_all_together() -> None:
    options = {
        "timeout_ms": 1, "include": ["text", "markdown", "links", "metadata", "html"], "extractor": "quality",
        "user_agent": "x", "headers": {f"X-{at}": "y" for at in range(32)}, "max_body_bytes": 1, "retries": 1,
        "respect_robots": True, "cache_mode": "bypass", "max_age_s": 1,
    }  # fmt: skip
    few = {**options, "include": ["text"], "headers": {}}
    batch = {**options, "concurrency": 1, "order": "input", "dedupe": True, "stop_after_errors": 1}
    stream = {"on_slow": "block", "detach": False, "deadline_s": 1, "progress": False}
    one = {"urls": [{"url": "x", "id": "y", "options": options}], "options": batch, "stream": stream}
    read_body(CrawlRequest, JSON, json.dumps(one).encode(), max_urls=1)
    many = {"urls": [{"url": "x", "id": str(at), "options": few} for at in range(1000)], "options": batch}
    read_body(CrawlRequest, JSON, json.dumps(many).encode(), max_urls=1000)


def with_options(*different: dict[str, Any]) -> bytes:
    """1,000 URLs that have every option, as many different ones in turn."""
    every = {
        "include": ["text"], "extractor": "quality", "user_agent": "x", "headers": {"X-A": "b"},
        "max_body_bytes": 1, "retries": 1, "respect_robots": True, "cache_mode": "bypass", "max_age_s": 1,
    }  # fmt: skip
    urls = [{"url": "x", "id": str(at), "options": every | different[at % len(different)]} for at in range(1000)]
    return json.dumps({"urls": urls}).encode()


def test_options_that_a_body_repeats_are_read_once() -> None:
    repeated = with_options({"timeout_ms": 1}, {"timeout_ms": 2}, {"timeout_ms": 1.0})
    urls = read_body(CrawlRequest, JSON, repeated, max_urls=1000).urls
    assert len({id(item.options) for item in urls if not isinstance(item, str)}) == 3
    different = with_options(*({"timeout_ms": at} for at in range(1, 1001)))
    one, all_ = (partial(read_body, CrawlRequest, JSON, body, max_urls=1000) for body in (repeated, different))
    assert cpu_s(one) < 0.8 * cpu_s(all_)


def test_of_repeated_options_that_are_wrong_the_first_is_told() -> None:
    with pytest.raises(ValidationError) as refusal:
        read_body(CrawlRequest, JSON, with_options({"timeout_ms": 1}, {"timeout_ms": 0}), max_urls=1000)
    assert refusal.value.field == "urls.1.options.timeout_ms"


def test_urls_may_be_full_of_brackets_and_colons() -> None:
    url = "http://[2001:db8::1]/?filter[a][b]=c:d&{e}"
    body = json.dumps({"urls": [url + "x" * 900] * 1000}).encode()
    assert len(read_body(CrawlRequest, JSON, body, max_urls=1000).urls) == 1000


# ── the query ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("query", ["url=%FF", "url=http://a/%FF", "%FF=1", "url=%ED%A0%80", "url=%C3", "key=%80&url=x"])
def test_a_query_that_is_no_utf_8_is_refused_and_not_mended(daemon: Daemon, query: str) -> None:
    """It was read with U+FFFD in place of what it said, and another page was fetched."""
    answer = daemon.ask("GET", f"/crawl/sse?{query}")
    assert (answer.status, answer.json["error"]["type"]) == (400, "validation_error")
    assert "UTF-8" in answer.json["error"]["message"]


def test_a_url_in_a_query_is_taken_as_browsers_write_it(daemon: Daemon) -> None:
    """WHATWG's query set leaves these raw: `new URL(...)` sends them as they are."""
    url = "http://127.0.0.1:1/?a=|^`{}"
    with daemon.connect() as peer:
        peer.send(f"GET /crawl/sse?url={url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        frames = [json.loads(line[6:]) for line in peer.read().body.splitlines() if line.startswith(b"data: ")]
        assert frames[1]["result"]["url"] == url
        assert frames[1]["result"]["error"]["type"] == "blocked_address"  # it is no invalid_url


def test_a_query_has_no_more_values_than_a_request_has_urls(daemon: Daemon) -> None:
    assert len(read_query(CrawlQuery, pairs_of("url=x&" * 999 + "url=x", 1000)).url) == 1000
    with pytest.raises(ValidationError, match="over 1000 values"):
        pairs_of("&" * 1000, 1000)
    answer = daemon.ask("GET", "/crawl/sse?url=x" + "&x" * 5000)
    assert (answer.status, answer.json["error"]["type"]) == (400, "validation_error")


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["urls", "options", "stream", "concurrency", "headers", "x"])


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_a_request_or_a_refusal(value: Any) -> None:
    try:
        request = read_body(CrawlRequest, JSON, json.dumps(value).encode(), max_urls=1000)
    except ValidationError:
        return
    assert request.urls


@given(st.lists(st.tuples(st.sampled_from(["frames", "bytes", "rate", "x"]), st.text(max_size=6)), max_size=4))
def test_any_query_is_a_request_or_a_refusal(pairs: list[tuple[str, str]]) -> None:
    try:
        query = read_query(FirehoseQuery, pairs)
    except ValidationError:
        return
    assert query.frames >= 1


def test_the_input_string_comes_back_exactly(daemon: Daemon) -> None:
    urls = ["", " ", "\u0000", "http://", "HTTP://EXAMPLE.invalid/ ", "\u202e", "x" * 5000, "http://user:pw@h/"]
    frames = daemon.crawl(*urls)
    assert [frame["result"]["url"] for frame in sorted(frames[1:-1], key=lambda f: f["index"])] == urls
    assert frames[-1]["failed"] == len(urls)
