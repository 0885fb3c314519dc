# SPDX-License-Identifier: MIT
"""What stands beside every measured number: the device, and how much memory a process took."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    named = _field(Path("/proc/cpuinfo"), "model name")
    return named or platform.processor() or platform.machine()


def peak_mb() -> float:
    """Largest resident memory of this process so far, MiB, shared libraries included (Linux: VmHWM)."""
    return int(_field(Path("/proc/self/status"), "VmHWM").split()[0]) / 1024


def _field(path: Path, name: str) -> str:
    """The first "name: value" of a file in /proc, "" where there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
