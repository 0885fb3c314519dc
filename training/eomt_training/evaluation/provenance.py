# SPDX-License-Identifier: MIT
"""Which code measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

MODEL = "../ros2_ws/src/eomt_anomaly/eomt_anomaly/model"


def git_commit(*also: str) -> str:
    """The commit of the code, ``+changes`` where edited; ``unknown`` without git.

    Edits count in training, in the model, and in ``also``, paths relative to training.
    """
    training = Path(__file__).resolve().parents[2]

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(training), *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        edited = git("status", "--porcelain", "--", ".", MODEL, *also)
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
