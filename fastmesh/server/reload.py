"""Which settings a running daemon takes anew, and which only the next one does."""

from __future__ import annotations

from typing import Final

from fastmesh.config import Section, Settings, setting_name

# Looked up when they are needed, so that a change holds for whatever begins after it.
RELOADABLE: Final = frozenset(
    {
        ("log", "level"),
        ("log", "format"),
        ("cors", "allow_origins"),
        ("server", "allowed_hosts"),
        ("server", "max_connections"),
        ("server", "max_connections_per_peer"),
        ("server", "max_age_s"),
        ("server", "header_timeout_s"),
        ("server", "body_timeout_s"),
        ("server", "keepalive_timeout_s"),
        ("server", "write_stall_timeout_s"),
        ("server", "max_header_bytes"),
        ("server", "max_body_bytes"),
        ("server", "drain_timeout_s"),
        ("stream", "max_concurrent"),
        ("stream", "max_per_client"),
        ("stream", "rate_limit_rps"),
        ("stream", "rate_limit_burst"),
        ("stream", "max_urls"),
        ("stream", "heartbeat_s"),
        ("stream", "ws_ping_s"),
        ("stream", "ws_pong_timeout_s"),
        ("stream", "ws_max_message_bytes"),
        ("stream", "ws_deflate"),
        ("stream", "deadline_s"),
        ("stream", "resume_window_s"),
        ("stream", "journal_bytes"),
        ("stream", "detached_bytes"),
    }
)


def merged(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """*old* with what may be taken of *new*; the names of those settings, and of those that want a restart."""
    taken: list[str] = []
    left: list[str] = []
    sections: dict[str, Section] = {}
    for section in Settings.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        update = {}
        for name in type(before).model_fields:
            value = getattr(after, name)
            if value == getattr(before, name):
                continue
            if (section, name) in RELOADABLE:
                update[name] = value
                taken.append(setting_name(section, name))
            else:
                left.append(setting_name(section, name))
        sections[section] = before.model_copy(update=update)
    return old.model_copy(update=sections), taken, left
