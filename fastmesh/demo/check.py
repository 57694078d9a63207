"""Whether a stream over the sample site was what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmesh.demo.samples import SAMPLES, Sample

Frame = dict[str, Any]


def differences(frames: Sequence[Frame], urls: Sequence[str]) -> list[str]:
    """What is not as it should be, one sentence each; *urls* are those of SAMPLES."""
    durable = [frame for frame in frames if "seq" in frame]
    results: dict[int, list[Frame]] = {index: [] for index in range(len(SAMPLES))}
    wrong = []
    if [frame["seq"] for frame in durable] != list(range(1, len(durable) + 1)):
        wrong.append(f"seq: want 1, 2, 3, …, got {[frame['seq'] for frame in durable]}")
    if not durable or durable[0]["type"] != "metadata" or durable[-1]["type"] != "summary":
        wrong.append(f"want metadata first and a summary last, got {[frame['type'] for frame in durable]}")
    for frame in durable:
        if frame["type"] == "result":
            results.setdefault(frame["index"], []).append(frame["result"])
    for index, found in results.items():
        if len(found) != 1:
            wrong.append(f"#{index}: want one result, got {len(found)}")
        else:
            wrong += _compared(index, SAMPLES[index], urls[index], found[0])
    if durable and durable[-1]["type"] == "summary":
        wrong += _totals(durable[-1])
    return wrong


def _compared(index: int, sample: Sample, url: str, result: Frame) -> list[str]:
    error, document = result["error"], result["document"]
    wanted = {"url": url, "status": sample.status, "error": sample.error, "title": sample.title}
    got = {
        "url": result["url"],
        "status": result["status"],
        "error": error and error["type"],
        "title": document and document["title"],
    }
    return [
        f"#{index} {sample.url} ({sample.about}): want {name} {value!r}, got {got[name]!r}"
        for name, value in wanted.items()
        if got[name] != value
    ]


def _totals(summary: Frame) -> list[str]:
    failed = sum(sample.error is not None for sample in SAMPLES)
    wanted = {
        "status": "completed",
        "total_urls": len(SAMPLES),
        "successful": len(SAMPLES) - failed,
        "failed": failed,
        "cancelled": 0,
        "unfinished": [],
    }
    return [
        f"summary: want {name} {value!r}, got {summary[name]!r}"
        for name, value in wanted.items()
        if summary[name] != value
    ]
