"""How busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path


def busy_s() -> float:
    """Seconds that all cores together were not idle, ever."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")
