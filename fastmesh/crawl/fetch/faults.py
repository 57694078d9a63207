"""What went wrong, in the types of errors that a result may have.

aiohttp's and the system's exceptions become UrlErrors here.  Their texts are not passed on: a parser's message quotes
bytes of the connection, and those are nobody's business but the origin's.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp

from fastmesh.crawl.net.resolver import Lookup
from fastmesh.errors import BadResponse, ConnectFailed, DnsFailed, FetchTimeout, TlsFailed, UrlError, UrlInternal

# The first that fits: aiohttp's certificate error is also a connection error, its timeouts are OSErrors too.
AS_URL_ERROR: Final[tuple[tuple[type[Exception], type[UrlError], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, TlsFailed, "the certificate of {host} is not trusted"),
    (aiohttp.ClientSSLError, TlsFailed, "no TLS session with {host}"),
    (ssl.SSLError, TlsFailed, "the TLS session with {host} broke"),
    (TimeoutError, FetchTimeout, "no connection to {host} in time"),
    (aiohttp.ClientConnectorError, ConnectFailed, "no connection to {host}"),
    (aiohttp.ServerDisconnectedError, ConnectFailed, "{host} closed the connection without an answer"),
    (aiohttp.ClientPayloadError, ConnectFailed, "the connection to {host} ended before the body was whole"),
    (aiohttp.ClientResponseError, BadResponse, "the head of {host}'s answer is not HTTP/1.1, or frames it in two ways"),
    (aiohttp.ClientConnectionError, ConnectFailed, "the connection to {host} broke"),
    (OSError, ConnectFailed, "the connection to {host} broke"),
)


def as_url_error(error: Exception, host: str, lookup: Lookup) -> UrlError:
    """What a request to *host* raised, as a UrlError.  A connection that took too long is ``timeout``, or ``dns`` while
    *lookup* is still waited for.  What nobody foresaw is ``internal``, with its cause."""
    if isinstance(error, TimeoutError) and lookup.pending:
        return DnsFailed(f"{host} was not resolved in time")
    for kind, fault, text in AS_URL_ERROR:
        if isinstance(error, kind):
            return fault(": ".join(filter(None, (text.format(host=host), _reason(error.__cause__ or error)))))
    return UrlInternal(f"unforeseen {type(error).__name__} while fetching from {host}")


def _reason(error: BaseException) -> str:
    """The system's or OpenSSL's own words for *error*, which quote nothing; empty when there are none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "").replace("_", " ").lower()
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
