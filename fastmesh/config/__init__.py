"""The settings: one typed model, and where each value comes from.

A new setting is a line in ``sections/``, in the section of the part that it is about.  An unknown or impossible
value raises ConfigError with its name, value and source and what is allowed.
"""

# ruff: noqa: I001  (it would give each name a statement of its own)
from fastmesh.config.describe import Setting as Setting, every_section as every_section, every_setting as every_setting
from fastmesh.config.describe import setting_name as setting_name, shown as shown
from fastmesh.config.model import Settings as Settings, refuse_public as refuse_public
from fastmesh.config.sections.crawl import CacheSettings as CacheSettings, FetchSettings as FetchSettings
from fastmesh.config.sections.server import ServerSettings as ServerSettings, TlsSettings as TlsSettings
from fastmesh.config.sections.streams import BufferSettings as BufferSettings, StreamSettings as StreamSettings
from fastmesh.config.declare import Section as Section
from fastmesh.config.sources import TOKEN_VARIABLE as TOKEN_VARIABLE, LoadedSettings as LoadedSettings, load as load
