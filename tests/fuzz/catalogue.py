"""All targets, by their names."""

from __future__ import annotations

from . import client, documents, origins, wire
from .budget import Target

TARGETS: dict[str, Target] = {
    target.name: target for room in (wire, client, origins, documents) for target in room.TARGETS
}
