# SPDX-License-Identifier: MIT
"""Starts the node by itself, and again after a failure, until it runs or somebody else takes over. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S, LONGEST_S = 1.0, 60.0   # wait after the first failure, doubled after each further one


class Autostart:
    """Call `step` often. `start()` configures and activates, and says whether that worked."""

    def __init__(self, start: Callable[[], bool], clock: Callable[[], float] = time.monotonic):
        self._start, self._clock = start, clock
        self._wait = FIRST_S
        self._due: float | None = None

    def begin(self) -> None:
        """The next `step` starts the node."""
        self._due = self._clock()

    def cancel(self) -> None:
        """Somebody has asked for a transition: from now on the state is theirs."""
        self._due = None

    def step(self) -> float | None:
        """Start the node if it is time; returns the seconds until the next attempt where this one failed."""
        if self._due is None or self._clock() < self._due:
            return None
        self._due = None
        if self._start():
            return None
        wait, self._wait = self._wait, min(2 * self._wait, LONGEST_S)
        self._due = self._clock() + wait
        return wait
