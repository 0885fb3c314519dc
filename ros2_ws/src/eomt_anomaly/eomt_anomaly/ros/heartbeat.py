# SPDX-License-Identifier: MIT
"""A beat on the steady clock in a thread of its own: it goes on whatever the worker and the executor do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Heartbeat(threading.Thread):
    """Calls `beat()` every `period` seconds until `stop`; exceptions go to `report` and it goes on."""

    def __init__(self, period: float, beat: Callable[[], None], report: Callable[[Exception], None]):
        super().__init__(name="heartbeat", daemon=True)
        self._period, self._beat, self._report = period, beat, report
        self._over = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            try:
                self._beat()
            except Exception as error:
                self._report(error)
            due = max(due + self._period, time.monotonic())   # a late beat is not made up for
            self._over.wait(due - time.monotonic())

    def stop(self) -> None:
        """No beat begins after this returns (unless the current one hangs for more than a second)."""
        self._over.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(1.0)
