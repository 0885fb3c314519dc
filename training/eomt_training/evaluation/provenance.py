# SPDX-License-Identifier: MIT
"""Which code measured."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_commit() -> str:
    """The commit of the training and model code, ``+changes`` where edited; ``unknown`` without git."""
    training = Path(__file__).resolve().parents[2]

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(training), *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        edited = git("status", "--porcelain", "--", ".", "../ros2_ws/src/eomt_anomaly/eomt_anomaly/model")
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
