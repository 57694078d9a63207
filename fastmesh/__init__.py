"""fastmesh: a batch of URLs in, each page's result streamed out the moment it is ready."""

from fastmesh.version import __version__

__all__ = ["__version__"]
