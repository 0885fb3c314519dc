# SPDX-License-Identifier: MIT
"""Runs the package's command-line tools as processes of their own, against the fake engine of `node_rig`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from node_rig import next_domain


def start(tool: str, *args, domain: int | None = None) -> subprocess.Popen:
    """Start `eomt_anomaly.ros.TOOL`; its detector, where it needs one, is the fake one."""
    call = "main()" if tool == "bag_player" else "main(module='node_rig')"
    code = f"import sys; from eomt_anomaly.ros.{tool} import main; sys.exit({call})"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    env = os.environ | {
        "PYTHONPATH": path,
        "ROS_DOMAIN_ID": str(domain or next_domain()),
        "PYTHONUNBUFFERED": "1",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(tool: str, *args, seconds: float = 90.0) -> tuple[int, str]:
    """Run it to its end: (status, output)."""
    process = start(tool, *args)
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, output


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def children_of(pid: int) -> list[int]:
    """Ids of the processes that this one started."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # that thread has ended meanwhile
            found += map(int, file.read_text().split())
    return found
