# SPDX-License-Identifier: MIT
"""The versions that a measurement through ROS ran with, and its result as text."""

from __future__ import annotations

import os
import platform

from rclpy.utilities import get_rmw_implementation_identifier

from ..report.origin import packages

PACKAGES = ("torch", "numpy", "opencv-python-headless", "rosbags")


def versions() -> dict[str, str]:
    """What it ran with; packages that are not installed from wheels are left out."""
    return {
        "python": platform.python_version(),
        "rmw": get_rmw_implementation_identifier(),
        **({"ros_distro": os.environ["ROS_DISTRO"]} if "ROS_DISTRO" in os.environ else {}),
        **packages(("eomt_anomaly", "rclpy", *PACKAGES)),
    }


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
