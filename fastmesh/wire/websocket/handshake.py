"""The opening handshake of a WebSocket (RFC 6455, section 4.2; RFC 7692, section 7.1).  A request is judged here before
wsproto sees anything: one that is not exactly a handshake is an ApiError, never another exception."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1

from fastmesh.errors import BadRequest, UpgradeRequired
from fastmesh.wire.http1.fields import MAX_ELEMENTS, TOKEN, has_token, listed
from fastmesh.wire.http1.head import Request, response_head
from fastmesh.wire.websocket.deflate import BoundedDeflate
from fastmesh.wire.websocket.machine import Limits, WebSocketMachine

SUBPROTOCOL = "fastmesh.v1"
VERSION = "13"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==", re.ASCII)  # 16 bytes in base64
_TOKEN = re.compile(TOKEN, re.ASCII)
_PARAMETER = re.compile(rf"({TOKEN})(?:[ \t]*=[ \t]*(\"?)({TOKEN})\2)?", re.ASCII)
_WINDOW_BITS = re.compile(r"[89]|1[0-5]", re.ASCII)
_FLAGS = frozenset({"server_no_context_takeover", "client_no_context_takeover"})

Parameters = dict[str, str | None]


def upgrade(
    request: Request, fields: list[tuple[str, str]], *, limits: Limits, deflate: bool
) -> tuple[bytes, WebSocketMachine]:
    """The head that accepts *request*, with the header *fields* of the caller, and the machine behind it.

    With *deflate* permessage-deflate is accepted when it is offered.  Raises UpgradeRequired for a request that
    asks for no WebSocket or for another version of it, and BadRequest for a broken handshake.
    """
    headers = request.headers
    key = _key(request)
    subprotocols = _subprotocols(headers.get("sec-websocket-protocol"))
    offers = _offers(headers.get("sec-websocket-extensions"))
    answer = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()),
    ]
    if SUBPROTOCOL in subprotocols:
        answer.append(("Sec-WebSocket-Protocol", SUBPROTOCOL))
    extension = None
    if deflate and (accepted := _accepted(offers)) is not None:
        text, bits = accepted
        answer.append(("Sec-WebSocket-Extensions", text))
        extension = BoundedDeflate(limits.max_message_bytes, window_bits=bits)
    return response_head(101, [*answer, *fields]), WebSocketMachine(limits, extension)


def _key(request: Request) -> str:
    """The key of the handshake.  Raises UpgradeRequired and BadRequest for a request that is none."""
    headers = request.headers
    asks = has_token(headers.get("connection", ""), "upgrade") and has_token(headers.get("upgrade", ""), "websocket")
    if request.method != "GET" or request.minor != 1 or not asks:
        raise UpgradeRequired("this is a WebSocket: want GET with HTTP/1.1, Upgrade: websocket and Connection: Upgrade")
    if headers.get("sec-websocket-version") != VERSION:
        raise UpgradeRequired(f"want Sec-WebSocket-Version: {VERSION}")
    if request.body:
        raise BadRequest("a request that asks for an upgrade may have no body")
    key = headers.get("sec-websocket-key", "")
    if _KEY.fullmatch(key) is None:
        raise BadRequest("Sec-WebSocket-Key: want one key, 16 bytes in base64")
    return key


def _subprotocols(value: str | None) -> list[str]:
    if value is None:
        return []
    names = listed(value)
    if not names or not all(_TOKEN.fullmatch(name) for name in names):
        raise BadRequest("Sec-WebSocket-Protocol: want names separated by commas")
    return names


def _offers(value: str | None) -> list[tuple[str, Parameters | None]]:
    """The extensions that are offered, best first, with their parameters: None when one is given twice."""
    if value is None:
        return []
    offers: list[tuple[str, Parameters | None]] = []
    if value.count(";") >= MAX_ELEMENTS:
        raise BadRequest(f"Sec-WebSocket-Extensions: {MAX_ELEMENTS} parameters are allowed")
    for offer in listed(value) or [""]:
        name, *rest = (part.strip(" \t") for part in offer.split(";"))
        if _TOKEN.fullmatch(name) is None:
            raise BadRequest("Sec-WebSocket-Extensions: want names with parameters, separated by commas")
        parameters: Parameters = {}
        twice = False
        for text in rest:
            match = _PARAMETER.fullmatch(text)
            if match is None:
                raise BadRequest(f"Sec-WebSocket-Extensions: a parameter of {name} is broken")
            twice = twice or match[1] in parameters
            parameters[match[1]] = match[3]
        offers.append((name, None if twice else parameters))
    return offers


def _accepted(offers: list[tuple[str, Parameters | None]]) -> tuple[str, int] | None:
    """The answer to the first offer of permessage-deflate that can be met, and the window's bits; None without one."""
    for name, parameters in offers:
        if name != "permessage-deflate" or parameters is None or not _is_known(parameters):
            continue
        text = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        asked = parameters.get("server_max_window_bits")
        if asked is None:
            return text, 15
        if asked != "8":  # zlib has no such window
            return f"{text}; server_max_window_bits={asked}", int(asked)
    return None


def _is_known(parameters: Parameters) -> bool:
    """Whether a server may accept *parameters*: it must decline an unknown one (RFC 7692, section 7.1)."""
    for name, value in parameters.items():
        if name in _FLAGS:
            fits = value is None
        elif name == "client_max_window_bits":
            fits = value is None or _WINDOW_BITS.fullmatch(value) is not None
        else:
            fits = name == "server_max_window_bits" and value is not None and bool(_WINDOW_BITS.fullmatch(value))
        if not fits:
            return False
    return True
