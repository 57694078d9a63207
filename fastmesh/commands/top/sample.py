"""What a daemon said of itself at a moment, and what came between two of them.  It may say anything: what is missing or
of another type counts as nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from fastmesh.client.errors import ProtocolViolation
from fastmesh.commands.table import clean

Json = dict[str, Any]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a daemon said at *at* seconds."""

    at: float
    health: Json
    streams: list[Json]
    metrics: dict[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of *name* that have *labels*."""
        wanted = set(labels.items())
        return sum(value for (known, has), value in self.metrics.items() if known == name and wanted <= set(has))


def sample_of(at: float, health: bytes, streams: bytes, metrics: bytes) -> Sample:
    """Read the three answers.  Raises ProtocolViolation."""
    try:
        listed = orjson.loads(streams)["streams"]
        said = orjson.loads(health)
        if not isinstance(said, dict) or not isinstance(listed, list):
            raise TypeError
        families = text_string_to_metric_families(metrics.decode())
        samples = {
            (sample.name.removeprefix("fastmesh_"), tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }
    except (ValueError, KeyError, TypeError):
        raise ProtocolViolation("what answers there is no fastmesh daemon") from None
    return Sample(at, said, [stream for stream in listed if isinstance(stream, dict)], samples)


class Rates:
    """What is more now, a second."""

    def __init__(self, before: Sample, now: Sample) -> None:
        self.seconds = now.at - before.at
        self._before = before
        self._now = now
        self._seqs = {text_in(stream, "stream_id"): number_in(stream, "last_seq") for stream in before.streams}

    def of(self, name: str, **labels: str) -> float:
        """Of a counter."""
        return self._a_second(self._now.total(name, **labels) - self._before.total(name, **labels))

    def frames(self, stream: Json) -> float:
        """Of what was appended to a stream."""
        last = number_in(stream, "last_seq")
        return self._a_second(last - self._seqs.get(text_in(stream, "stream_id"), last))

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """The bound under which *share* of a histogram's new observations are; None when there were none."""
        grown: dict[float, float] = {}
        for (known, has), value in self._now.metrics.items():
            said = dict(has)
            if known == f"{name}_bucket" and labels.items() <= said.items():
                bound = float(said["le"])
                grown[bound] = grown.get(bound, 0.0) + value - self._before.metrics.get((known, has), 0.0)
        total = grown.get(math.inf, 0.0)
        return next((bound for bound in sorted(grown) if total > 0 and grown[bound] >= share * total), None)

    def _a_second(self, more: float) -> float:
        return max(0.0, more) / self.seconds if self.seconds > 0 else 0.0


def text_in(of: Json, name: str) -> str:
    """The text of that name, made fit for a terminal."""
    value = of.get(name)
    return clean(value) if isinstance(value, str) else ""


def number_in(of: Json, name: str) -> float:
    """The number of that name."""
    value = of.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
