# SPDX-License-Identifier: MIT
"""Starts the detector as a process of its own and always ends it, by its own id."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .transport import profile_environment

DOMAINS = 100  # 1 to 100: from 102 on, some computers' ports for outgoing connections overlap DDS's
END_S = 10.0  # given to a process after SIGINT, and half of it after SIGTERM


class ChildError(RuntimeError):
    """The process ended by itself; the text has its last words."""


def isolate(domain_id: int | None = None) -> int:
    """Give this process and its children a ROS domain of their own; return it. Call before rclpy.init.

    Sets the package's shared-memory profile too, unless the user has set one: without it, pictures are lost.
    """
    domain = _own_domain() if domain_id is None else domain_id
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(profile_environment())
    return domain


@functools.cache  # the same at every call: the first one changes ROS_DOMAIN_ID
def _own_domain() -> int:
    """A domain that is not the user's, and that no other process of this user takes while this one lives.

    Where no lock can be had (no folder for it, all domains taken), it is only not the user's.
    """
    users = os.environ.get("ROS_DOMAIN_ID", "").strip()
    numbers = (1 + (os.getpid() + k) % DOMAINS for k in range(DOMAINS))
    domains = [number for number in numbers if str(number) != users]
    return next(filter(_lock, domains), domains[0])


def _lock(domain: int) -> bool:
    """Take the domain's lock, unless another process has it; the kernel gives it back when this one ends."""
    try:
        path = Path(tempfile.gettempdir(), f"eomt_anomaly_{os.getuid()}_domain_{domain}.lock")
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True


def write_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    """A ROS parameter file for any node name."""
    lines = [f"    {name}: {json.dumps(value)}" for name, value in parameters.items()]
    path.write_text("\n".join(["/**:", "  ros__parameters:", *lines]) + "\n", encoding="utf-8")


class Child:
    """`python -m MODULE ARGUMENTS`, its output in a file. Leaving the context ends the process."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path):
        self.module, self.log = module, log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    def check(self) -> None:
        """Raises ChildError if the process has ended."""
        if (status := self.process.poll()) is not None:
            raise ChildError(f"{self.module} ended with status {status}:\n{self.last_words()}")

    def last_words(self, lines: int = 15) -> str:
        """The end of its output."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in text[-lines:]) or "  (it said nothing)"

    def end(self) -> int:
        """Interrupt, then terminate, then kill; return its status."""
        for number, seconds in ((signal.SIGINT, END_S), (signal.SIGTERM, END_S / 2), (signal.SIGKILL, None)):
            if self.process.poll() is None:
                self.process.send_signal(number)
            try:
                return self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("unreachable: a killed process was waited for without a limit")
