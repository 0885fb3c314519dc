# SPDX-License-Identifier: MIT
"""What stands beside the numbers of a measurement (machine, versions), and how they are written down."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any


def host() -> dict[str, Any]:
    """The machine it ran on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory = next(
        (int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")),
        None,
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory and round(memory, 1),
        "system": platform.platform(),
    }


def packages(names: Iterable[str]) -> dict[str, str]:
    """Versions of Python packages; those that are not installed from wheels are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_json(path: Path, content: dict) -> None:
    """Standard JSON (no NaN), written whole or not at all."""
    text = json.dumps(content, indent=1, allow_nan=False)
    temporary = path.with_suffix(".part")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
