# SPDX-License-Identifier: MIT
"""What the alert says (`Level`), why (`Reason`), and how it changes from frame to frame (`LevelMachine`)."""
from __future__ import annotations

from collections import deque
from enum import IntEnum, IntFlag


class Level(IntEnum):
    """Alert level; the values are those of `eomt_anomaly_msgs/ObstacleAlertArray.LEVEL_*`.

    UNKNOWN is zero so that a message nobody filled in never reads as CLEAR.
    """

    UNKNOWN = 0
    CLEAR = 1
    CAUTION = 2
    STOP = 3


class Reason(IntFlag):
    """Why the level is not CLEAR; the bits are those of `eomt_anomaly_msgs/ObstacleAlertArray.REASON_*`."""

    NONE = 0
    NO_INPUT = 1
    STALE_INPUT = 2
    INVALID_INPUT = 4
    STALLED_WORKER = 8
    INFERENCE_ERROR = 16
    INACTIVE = 32
    DISABLED = 64
    WARMING_UP = 128
    INVALID_OUTPUT = 256
    TIME_JUMP = 512
    NO_DRIVABLE_SURFACE = 1024
    OBSTACLE = 2048
    OBSTACLE_IN_CORRIDOR = 4096


class LevelMachine:
    """The level as a function of the last `clear_frames` observations, and of nothing else.

    An observation is what one frame alone says: STOP or CAUTION (an obstacle), CLEAR (judged, and clean) or
    UNKNOWN (could not be judged). With W the last `clear_frames` observations, the level is

    1. the highest of W, if that is CAUTION or STOP (so it rises at once and falls after a whole window);
    2. CLEAR, if W is full and all CLEAR (so one frame that could not be judged ends CLEAR at once);
    3. UNKNOWN otherwise (at the start, and after frames that could not be judged).
    """

    def __init__(self, clear_frames: int):
        """`clear_frames` ≥ 1: clean frames in succession before CLEAR. Raises ValueError otherwise."""
        if clear_frames < 1:
            raise ValueError(f"clear_frames is {clear_frames}: CLEAR needs a clean frame; give 1 or more")
        self._window: deque[tuple[Level, Reason]] = deque(maxlen=clear_frames)

    def reset(self) -> None:
        """Forget every frame: UNKNOWN until `clear_frames` clean ones have been seen again."""
        self._window.clear()

    def update(self, observed: Level, reasons: Reason = Reason.NONE) -> Level:
        """Take one frame's observation and its reasons; return the level."""
        self._window.append((Level(observed), Reason(reasons)))
        return self.level

    @property
    def level(self) -> Level:
        """The level now."""
        highest = self._highest()
        if highest >= Level.CAUTION:
            return highest
        full = len(self._window) == self._window.maxlen
        return Level.CLEAR if full and all(seen == Level.CLEAR for seen, _ in self._window) else Level.UNKNOWN

    @property
    def reasons(self) -> Reason:
        """Why the level is what it is: the reasons of the newest frame and of those that hold the level.

        NONE exactly when CLEAR; WARMING_UP when UNKNOWN only for want of clean frames.
        """
        level = self.level
        if level == Level.CLEAR:
            return Reason.NONE
        reasons = self._window[-1][1] if self._window else Reason.NONE
        for observed, why in self._window:
            if observed == level:
                reasons |= why
        return reasons or Reason.WARMING_UP

    def _highest(self) -> Level:
        return max((seen for seen, _ in self._window), default=Level.UNKNOWN)
