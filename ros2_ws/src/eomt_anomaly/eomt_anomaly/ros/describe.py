# SPDX-License-Identifier: MIT
"""What stands beside the numbers of a measurement (machine, versions), and how they are written down."""
from __future__ import annotations

import contextlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from rclpy.utilities import get_rmw_implementation_identifier

PACKAGES = ("torch", "numpy", "opencv-python-headless", "rosbags")


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


def versions() -> dict[str, str]:
    """What it ran with; packages that are not installed from wheels are left out."""
    found = {
        "python": platform.python_version(),
        "rmw": get_rmw_implementation_identifier(),
        **({"ros_distro": os.environ["ROS_DISTRO"]} if "ROS_DISTRO" in os.environ else {}),
    }
    for package in ("eomt_anomaly", "rclpy", *PACKAGES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def report_lines(summary: dict) -> str:
    """The result in a few lines of text."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in summary["dropped"].items()) or "none"
    lines = [
        f"frames   {summary['frames_in']} in = {summary['frames_out']} judged + "
        f"{sum(summary['dropped'].values())} "
        f"dropped ({dropped}); {summary['fps']['out']} fps"
    ]
    for name in ("latency_ms", "age_ms"):
        lines.append(
            f"{name:<11}" + "  ".join(f"{key} {summary[name][key]}" for key in ("p50", "p95", "p99", "p999"))
        )
    if (found := summary["quality"]) is not None:
        lines.append(
            f"quality  AuPRC {found['pixels']['auprc']}, FPR95 {found['pixels']['fpr95']}, mIoU "
            f"{found['masks']['miou']}"
        )
        lines.append(
            "         {encounters_alerted} of {encounters} obstacle encounters alerted, {false_alert_frames} "
            "false "
            "alerts on {clean_frames} clean frames".format(**found["obstacles"])
        )
    return "\n".join(lines)


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
