# SPDX-License-Identifier: MIT
"""The newest frame of each camera, waiting for the worker: a queue of one, so latency cannot build up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Drop(str, Enum):
    """Why a frame was not judged."""

    OVERWRITTEN = "overwritten"   # a newer frame of the same camera came before the worker was free
    STALE = "stale"               # older than max_age when the worker reached it, or from before a reset
    INVALID = "invalid"           # its message or its stamp is wrong
    INACTIVE = "inactive"         # the node was not active
    DISABLED = "disabled"         # switched off with the service ~/enable
    ERROR = "error"               # inference or what follows it failed
    FROZEN = "frozen"             # like those before it to the last byte, for frozen_timeout
    TRANSPORT = "transport"       # lost in DDS before the node could take it (gaps.py)


@dataclass(frozen=True)
class Frame:
    """One message on its way.

    `received` is in monotonic seconds, `age_then` the node clock's seconds from the stamp to that moment, and
    `epoch` the camera's when it came: a reset in between makes the frame worthless.
    `stages` collects on the way how many seconds each step took (names: docs/benchmarking.md).
    """

    camera: str
    message: Any
    received: float
    age_then: float = 0.0
    epoch: int = 0
    stages: dict[str, float] = field(default_factory=dict, compare=False)

    def age(self, now: float) -> float:
        """Seconds since the stamp at monotonic time `now`; jumps of the node clock do not disturb it."""
        return self.age_then + now - self.received


@dataclass
class Counts:
    """What became of the frames of one camera; `received == judged + sum(dropped.values()) + pending`, where
    `received` holds those, too, that were seen to be lost on the way here."""

    received: int = 0
    judged: int = 0
    dropped: Counter = field(default_factory=Counter)
    pending: int = 0              # in the slot or with the worker


class Mailbox:
    """One slot a camera. Any thread may `put`, one worker takes; every frame is settled exactly once."""

    def __init__(self, cameras: Iterable[str]):
        self._counts = {camera: Counts() for camera in cameras}
        self._slots: dict[str, Frame] = {}
        self._served = {camera: 0 for camera in self._counts}   # turn in which the camera was last served
        self._turn = 0
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Leave a frame for the worker; an unread one of the same camera is dropped as overwritten."""
        with self._changed:
            counts = self._counts[frame.camera]
            counts.received += 1
            counts.pending += 1
            if frame.camera in self._slots:
                self._drop(frame.camera, Drop.OVERWRITTEN)
            self._slots[frame.camera] = frame
            self._changed.notify_all()

    def refuse(self, camera: str, reason: Drop, number: int = 1) -> None:
        """Count frames that never came as far as the slot."""
        with self._changed:
            counts = self._counts[camera]
            counts.received += number
            counts.dropped[reason.value] += number

    def take(self, limit: int, window: float, timeout: float) -> list[Frame]:
        """Take at most `limit` frames, the camera that has waited longest for its turn first.

        Waits up to `timeout` seconds for a first frame, then up to `window` seconds for other cameras.
        Returns an empty list when nothing came.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._slots, timeout):
                return []
            enough = min(limit, len(self._counts))
            until = time.monotonic() + window
            while len(self._slots) < enough:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            self._turn += 1
            turn = sorted(self._slots, key=self._served.__getitem__)[:limit]
            self._served.update(dict.fromkeys(turn, self._turn))
            return [self._slots.pop(camera) for camera in turn]

    def settle(self, frame: Frame, reason: Drop | None = None) -> None:
        """Close the account of a taken frame: judged, or dropped for `reason`."""
        with self._changed:
            if reason is not None:
                self._drop(frame.camera, reason)
                return
            counts = self._counts[frame.camera]
            counts.pending -= 1
            counts.judged += 1

    def clear(self, reason: Drop) -> None:
        """Drop whatever waits in the slots."""
        with self._changed:
            for camera in list(self._slots):
                del self._slots[camera]
                self._drop(camera, reason)

    def counts(self, camera: str) -> Counts:
        """A consistent copy of one camera's account."""
        with self._changed:
            counts = self._counts[camera]
            return Counts(counts.received, counts.judged, Counter(counts.dropped), counts.pending)

    def _drop(self, camera: str, reason: Drop) -> None:
        self._counts[camera].pending -= 1
        self._counts[camera].dropped[reason.value] += 1
