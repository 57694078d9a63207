"""upgrade(): what is exactly a handshake is accepted, and all else is an ApiError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import steps

from fastmesh.errors import ApiError, BadRequest, UpgradeRequired
from fastmesh.wire.http1 import HttpParser, Request
from fastmesh.wire.websocket.handshake import upgrade
from fastmesh.wire.websocket.machine import Limits

# The key and the answer of RFC 6455, section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
NO_CONTEXT = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def request(line: str = "GET /crawl/ws HTTP/1.1", body: str = "", **fields: str | list[str] | None) -> Request:
    """A handshake with *fields* changed, given twice, or left out."""
    head = f"{line}\r\n"
    for name, values in (FIELDS | {name.replace("_", "-"): value for name, value in fields.items()}).items():
        for value in values if isinstance(values, list) else [values]:
            head += "" if value is None else f"{name}: {value}\r\n"
    parser = HttpParser()
    parser.receive(f"{head}\r\n{body}".encode("latin-1"))
    parsed = parser.next_request()
    assert parsed is not None
    return parsed


def accepted(asked: Request, *, deflate: bool = True) -> dict[str, str]:
    """The answer's fields but those that every one has."""
    head, machine = upgrade(asked, [("X-Request-ID", "r")], limits=Limits(), deflate=deflate)
    status, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    assert status == "HTTP/1.1 101 Switching Protocols"
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    assert machine.compresses == ("Sec-WebSocket-Extensions" in fields)
    assert fields.pop("Upgrade") == "websocket"
    assert fields.pop("Connection") == "Upgrade"
    assert fields.pop("X-Request-ID") == "r"
    assert len(fields.pop("Sec-WebSocket-Accept")) == 28
    return fields


def test_the_answer_is_that_of_the_rfc() -> None:
    head, machine = upgrade(request(), [("X-Request-ID", "r")], limits=Limits(), deflate=True)
    assert head == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n"
        b"X-Request-ID: r\r\n\r\n"
    )
    assert not machine.compresses


GOOD = {
    "plain": request(),
    "HTTP's own list": request(Connection="keep-alive, Upgrade"),
    "upgrade in capitals": request(Connection="UPGRADE", Upgrade="WebSocket"),
    "two Connections": request(Connection=["keep-alive", "upgrade"]),
    "empty elements": request(Connection=",,upgrade ,\t"),
    "other protocols beside": request(Upgrade="h2c, websocket"),
    "empty body": request(Content_Length="0"),
    "a foreign subprotocol": request(Sec_WebSocket_Protocol="mqtt"),
    "another case of the subprotocol": request(Sec_WebSocket_Protocol="FASTMESH.V1"),
    "a foreign extension": request(Sec_WebSocket_Extensions="x-webkit-deflate-frame; a=b; c"),
    "an origin": request(Origin="http://localhost"),
}


@pytest.mark.parametrize("asked", GOOD.values(), ids=GOOD)
def test_a_handshake_is_accepted(asked: Request) -> None:
    assert accepted(asked) == {}


SUBPROTOCOLS = {
    "alone": "fastmesh.v1",
    "first": "fastmesh.v1, mqtt",
    "last": "mqtt,fastmesh.v1",
    "with empty ones": ", mqtt,, fastmesh.v1,",
    "two fields": ["mqtt", "fastmesh.v1"],
    "twice": "fastmesh.v1, fastmesh.v1",
}


@pytest.mark.parametrize("offered", SUBPROTOCOLS.values(), ids=SUBPROTOCOLS)
def test_our_subprotocol_is_chosen_where_it_is_offered(offered: str | list[str]) -> None:
    assert accepted(request(Sec_WebSocket_Protocol=offered)) == {"Sec-WebSocket-Protocol": "fastmesh.v1"}


REFUSED: dict[str, tuple[Request, type[ApiError]]] = {
    **{
        method: (request(f"{method} /crawl/ws HTTP/1.1"), UpgradeRequired)
        for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    },
    "HTTP/1.0": (request("GET /crawl/ws HTTP/1.0"), UpgradeRequired),
    "no Connection": (request(Connection=None), UpgradeRequired),
    "empty Connection": (request(Connection=""), UpgradeRequired),
    "Connection: close": (request(Connection="close"), UpgradeRequired),
    "Connection: notupgrade": (request(Connection="notupgrade"), UpgradeRequired),
    "Connection: upgrade;x": (request(Connection="upgrade;x"), UpgradeRequired),
    "Connection: keep-alive upgrade": (request(Connection="keep-alive upgrade"), UpgradeRequired),
    "no Upgrade": (request(Upgrade=None), UpgradeRequired),
    "Upgrade: h2c": (request(Upgrade="h2c"), UpgradeRequired),
    "Upgrade: websockets": (request(Upgrade="websockets"), UpgradeRequired),
    "Upgrade: websocket/13": (request(Upgrade="websocket/13"), UpgradeRequired),
    "neither": (request(Upgrade=None, Connection=None), UpgradeRequired),
    **{
        f"version {version!r}": (request(Sec_WebSocket_Version=version), UpgradeRequired)
        for version in (None, "", "8", "0", "12", "14", "013", "+13", "13.0", "13, 8", "\xb913", ["13", "13"])
    },
    **{
        f"key {key!r}": (request(Sec_WebSocket_Key=key), BadRequest)
        for key in (
            None, "", "x", "not base64 at all!", "AAAA", "A" * 22, "A" * 24, "A" * 23 + "=", KEY[:-2], KEY + "=",
            KEY + "\r\n x"[2:], "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25jZ_==", "\xe9" * 22 + "==",
            f"{KEY}, {KEY}", [KEY, KEY], [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="], "A" * 43 + "=", "=" * 24,
        )
    },
    "a sized body": (request(Content_Length="2", body="{}"), BadRequest),
    "an empty chunked body": (request(Transfer_Encoding="chunked", body="0\r\n\r\n"), BadRequest),
    "a chunked body": (request(Transfer_Encoding="chunked", body="1\r\nx\r\n0\r\n\r\n"), BadRequest),
    **{
        f"subprotocols {offered!r}": (request(Sec_WebSocket_Protocol=offered), BadRequest)
        for offered in ("", ",", "a b", "fastmesh.v1; q=1", '"fastmesh.v1"', "v1, \xe9", "a/b", "v1, =")
    },
    **{
        f"extensions {offered!r}": (request(Sec_WebSocket_Extensions=offered), BadRequest)
        for offered in (
            "", ",", ";", "; a", "a b", "a; b c", "a;", "a;;b", "a; =", "a; b=", "a; b==c", 'a; b="', 'a; b=""',
            'a; b="c', 'a; b=c"', 'a; b="c\\"d"', 'a; b="c,d"', 'a; b="c;d"', 'a; b="c d"', "\xe9", "a; \xe9",
            "a; b=\xe9",
            'a; b="\xe9"', "permessage-deflate; server_max_window_bits=", "permessage-deflate, (x)",
            '"permessage-deflate"',
            "permessage-deflate; client_max_window_bits=1 5", "a=b", "a; b=c=d",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize(("asked", "error"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_handshake_is_refused(asked: Request, error: type[ApiError]) -> None:
    refusal = asked.fault  # by the parser already
    if refusal is None:
        with pytest.raises(ApiError) as refused:
            upgrade(asked, [], limits=Limits(), deflate=True)
        refusal = refused.value
    assert type(refusal) is error
    assert (("Sec-WebSocket-Version", "13") in refusal.headers) == (error is UpgradeRequired)


def test_a_body_is_refused_whoever_read_the_head() -> None:
    asked = request()
    asked.body = b"{}"
    with pytest.raises(BadRequest, match="body"):
        upgrade(asked, [], limits=Limits(), deflate=True)


# What is offered, and what is said to it; None: it goes on without compression.
OFFERS: dict[str, str | None] = {
    "permessage-deflate": NO_CONTEXT,
    "permessage-deflate; client_max_window_bits": NO_CONTEXT,
    "permessage-deflate;client_max_window_bits=15": NO_CONTEXT,
    "permessage-deflate; client_max_window_bits = 8": NO_CONTEXT,
    'permessage-deflate; client_max_window_bits="10"': NO_CONTEXT,
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover": NO_CONTEXT,
    "permessage-deflate; server_max_window_bits=15": f"{NO_CONTEXT}; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=9": f"{NO_CONTEXT}; server_max_window_bits=9",
    'permessage-deflate; server_max_window_bits="12"': f"{NO_CONTEXT}; server_max_window_bits=12",
    "x, permessage-deflate": NO_CONTEXT,
    ", permessage-deflate ,": NO_CONTEXT,
    "x; y=z; y=z, permessage-deflate": NO_CONTEXT,
    "permessage-deflate; unknown, permessage-deflate": NO_CONTEXT,
    "permessage-deflate; server_max_window_bits=8, permessage-deflate": NO_CONTEXT,
    "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10": (
        f"{NO_CONTEXT}; server_max_window_bits=10"
    ),
    "permessage-deflate; server_max_window_bits=10, permessage-deflate": f"{NO_CONTEXT}; server_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=8": None,
    "permessage-deflate; server_max_window_bits=7": None,
    "permessage-deflate; server_max_window_bits=16": None,
    "permessage-deflate; server_max_window_bits=015": None,
    "permessage-deflate; server_max_window_bits=+9": None,
    "permessage-deflate; server_max_window_bits=10.0": None,
    "permessage-deflate; server_max_window_bits": None,
    "permessage-deflate; client_max_window_bits=abc": None,
    "permessage-deflate; client_max_window_bits=7": None,
    "permessage-deflate; client_max_window_bits=16": None,
    "permessage-deflate; client_max_window_bits=99999999999999999999": None,
    "permessage-deflate; server_no_context_takeover=1": None,
    "permessage-deflate; client_no_context_takeover=false": None,
    "permessage-deflate; unknown": None,
    "permessage-deflate; unknown=1": None,
    "permessage-deflate; SERVER_NO_CONTEXT_TAKEOVER": None,
    "permessage-deflate; client_max_window_bits; client_max_window_bits": None,
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10": None,
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover": None,
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover; client_no_context_takeover": None,
    "permessage-deflate-2": None,
    "x-permessage-deflate": None,
    "perframe-deflate": None,
}


@pytest.mark.parametrize(("offered", "answer"), OFFERS.items(), ids=OFFERS)
def test_compression_is_accepted_as_it_can_be_kept(offered: str, answer: str | None) -> None:
    want = {} if answer is None else {"Sec-WebSocket-Extensions": answer}
    assert accepted(request(Sec_WebSocket_Extensions=offered)) == want
    assert accepted(request(Sec_WebSocket_Extensions=offered), deflate=False) == {}


VALUES = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60),
    st.lists(
        st.sampled_from([*OFFERS, "permessage-deflate", "server_max_window_bits", *',;=" \t\\é', "8", "15"]),
        max_size=8,
    ).map("".join),
    st.sampled_from([*FIELDS.values(), "fastmesh.v1"]),
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol",
             "sec-websocket-extensions"]
        ),
        VALUES,
        max_size=3,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_the_fields_say_nothing_but_an_api_error_is_raised(fields: dict[str, str], deflate: bool) -> None:
    asked = request()
    asked.headers.update(fields)
    try:
        head, machine = upgrade(asked, [], limits=Limits(), deflate=deflate)
    except ApiError:
        return
    assert head.startswith(b"HTTP/1.1 101 ")
    assert head.count(b"\r\n\r\n") == 1
    assert deflate or not machine.compresses


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec_WebSocket_Protocol", "a," * 30_000),
        ("Sec_WebSocket_Protocol", "," * 60_000),
        ("Sec_WebSocket_Extensions", "a," * 30_000),
        ("Sec_WebSocket_Extensions", "a" + ";b" * 30_000),
        ("Sec_WebSocket_Extensions", ";" * 60_000),
    ],
)
def test_a_field_of_many_elements_is_refused_before_they_are_looked_at(name: str, value: str) -> None:
    """64 KB of them took 30 ms."""
    asked = request(**{name: value})

    def refuse() -> None:
        with pytest.raises(BadRequest):
            upgrade(asked, [], limits=Limits(), deflate=True)

    assert steps(refuse) < 200


def test_a_handshake_of_many_elements_is_one() -> None:
    lists = {"Connection": "x," * 90 + "Upgrade", "Upgrade": " , websocket, h2c", "Sec_WebSocket_Protocol": "a," * 99}
    assert accepted(request(**lists)) == {}
