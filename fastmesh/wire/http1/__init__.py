"""HTTP/1.1 (RFC 9112): requests out of bytes, and heads of responses.

What two readers could read differently is refused, so that no proxy before fastmesh sees another request than it.
"""

from fastmesh.wire.http1.fields import MAX_ELEMENTS as MAX_ELEMENTS
from fastmesh.wire.http1.fields import has_token as has_token
from fastmesh.wire.http1.fields import listed as listed
from fastmesh.wire.http1.parser import MAX_STEPS as MAX_STEPS
from fastmesh.wire.http1.parser import HttpParser as HttpParser
from fastmesh.wire.http1.parser import Phase as Phase
from fastmesh.wire.http1.request import Request as Request
from fastmesh.wire.http1.response import response_head as response_head
