"""The one tree of errors, each of which says of itself what it means.

``ApiError`` refuses a request or ends a stream, ``UrlError`` fails one URL of a stream and ``ConfigError``
stops the start.
"""

# ruff: noqa: I001  (it would give each name an import statement of its own)
from fastmesh.errors.api import (
    ApiError as ApiError,
    BadRequest as BadRequest,
    Conflict as Conflict,
    Forbidden as Forbidden,
    HeaderTooLarge as HeaderTooLarge,
    InternalError as InternalError,
    MethodNotAllowed as MethodNotAllowed,
    MisdirectedRequest as MisdirectedRequest,
    NotFound as NotFound,
    Overloaded as Overloaded,
    PayloadTooLarge as PayloadTooLarge,
    RateLimited as RateLimited,
    RequestTimeout as RequestTimeout,
    SearchUnavailable as SearchUnavailable,
    ShuttingDown as ShuttingDown,
    TooManyErrors as TooManyErrors,
    Unauthorized as Unauthorized,
    UnsupportedMediaType as UnsupportedMediaType,
    UpgradeRequired as UpgradeRequired,
    ValidationError as ValidationError,
)
from fastmesh.errors.base import (
    ConfigError as ConfigError,
    FastmeshError as FastmeshError,
    bare as bare,
    types_of as types_of,
)
from fastmesh.errors.url import (
    BadResponse as BadResponse,
    BlockedAddress as BlockedAddress,
    CacheMiss as CacheMiss,
    ConnectFailed as ConnectFailed,
    DecodeFailed as DecodeFailed,
    DnsFailed as DnsFailed,
    ExtractFailed as ExtractFailed,
    FetchTimeout as FetchTimeout,
    HttpStatus as HttpStatus,
    InvalidUrl as InvalidUrl,
    Reach as Reach,
    RobotsDisallowed as RobotsDisallowed,
    TlsFailed as TlsFailed,
    TooLarge as TooLarge,
    TooManyRedirects as TooManyRedirects,
    UnsupportedContent as UnsupportedContent,
    UrlError as UrlError,
    UrlInternal as UrlInternal,
)
