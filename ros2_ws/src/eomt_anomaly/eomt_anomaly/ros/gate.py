# SPDX-License-Identifier: MIT
"""Whether frames are let in at all, and what the alerts say while they are not."""

from __future__ import annotations

from collections.abc import Callable

from ..alerts import Reason
from .mailbox import Drop


class Gate:
    """`active` follows the lifecycle, `enabled` the service; `worker` adds what is wrong with the worker."""

    def __init__(self, worker: Callable[[], Reason] = lambda: Reason.NONE):
        self.active, self.enabled, self.warming = False, True, False
        self._worker = worker

    def drop(self) -> Drop | None:
        """How a frame that comes now is counted, or None if it may pass."""
        if not self.active:
            return Drop.INACTIVE
        return None if self.enabled else Drop.DISABLED

    def reasons(self) -> Reason:
        """Why every camera is UNKNOWN whatever it sees, or NONE."""
        reasons = Reason.NONE if self.active else Reason.INACTIVE
        reasons |= Reason.NONE if self.enabled else Reason.DISABLED
        reasons |= Reason.WARMING_UP if self.warming else Reason.NONE
        return reasons | self._worker()
