"""What the daemon says of itself: logs and spans."""

from __future__ import annotations

from typing import Literal

from fastmesh.config.declare import HttpUrl, Section, live, setting


class LogSettings(Section):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = live("info", "", "the least that is logged")
    format: Literal["json", "console"] | None = live(None, "", "unset: console on a terminal, else json")


class TraceSettings(Section):
    """Where spans are sent, with the extra ``otel``."""

    otlp_url: HttpUrl = setting(
        None,
        "URL",
        "OpenTelemetry's OTLP over HTTP; unset: no spans",
        allowed="an http or https URL without query and fragment, such as http://127.0.0.1:4318/v1/traces",
    )
