"""The one tree of errors, each of which says of itself what it means.

``ApiError`` refuses a request or ends a stream, ``UrlError`` fails one URL of a stream and ``ConfigError``
stops the start.  Whatever stands in these modules is for everybody.
"""

# ruff: noqa: F403
from fastmesh.errors.api import *
from fastmesh.errors.base import *
from fastmesh.errors.url import *
