"""A reload: what a running daemon takes of its new settings, and what only the next one does."""

from __future__ import annotations

from typing import Final

from fastmesh.config import Section, Settings, every_setting, setting_name

RELOADABLE: Final = frozenset((one.section, one.name) for one in every_setting() if one.reload)


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
