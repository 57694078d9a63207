"""HTTP/1.1 (RFC 9112): requests out of bytes, and heads of responses.  What two readers could read differently is
refused, so that no proxy before fastmesh sees another request than it."""

# ruff: noqa: I001  (it would give each name a statement of its own)
from fastmesh.wire.http1.fields import MAX_ELEMENTS as MAX_ELEMENTS, has_token as has_token, listed as listed
from fastmesh.wire.http1.head import Request as Request, response_head as response_head
from fastmesh.wire.http1.parser import MAX_STEPS as MAX_STEPS, HttpParser as HttpParser, Phase as Phase
