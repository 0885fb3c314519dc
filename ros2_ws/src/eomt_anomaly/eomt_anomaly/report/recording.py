# SPDX-License-Identifier: MIT
"""What was observed during one replay, as plain data: the input of everything else in this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..alerts.levels import Level, Reason

UNKNOWN, CLEAR, CAUTION, STOP = Level
LEVELS = tuple(level.name for level in Level)

_REASONS = {
    Reason.NO_INPUT: "no picture has come",
    Reason.STALE_INPUT: "the newest judged picture is too old",
    Reason.INVALID_INPUT: "invalid picture",
    Reason.STALLED_WORKER: "inference takes too long",
    Reason.INFERENCE_ERROR: "inference failed",
    Reason.INACTIVE: "node not active",
    Reason.DISABLED: "switched off",
    Reason.WARMING_UP: "too few judged frames yet",
    Reason.INVALID_OUTPUT: "invalid network output",
    Reason.TIME_JUMP: "time jumped",
    Reason.NO_DRIVABLE_SURFACE: "no drivable surface seen",
    Reason.OBSTACLE: "obstacle",
    Reason.OBSTACLE_IN_CORRIDOR: "obstacle in the corridor",
}


def reason_text(reasons: int) -> str:
    """The reason bits in words, or "" for none."""
    known = [text for reason, text in _REASONS.items() if reason & reasons]
    rest = reasons & ~int(sum(_REASONS))
    return ", ".join(known + ([f"unknown reason bits {rest:#x}"] if rest else []))


@dataclass(frozen=True)
class Box:
    """An alerted obstacle: box in px of the picture, confidence in [0, 1], distance m (None: unknown)."""

    track_id: int
    x: int
    y: int
    width: int
    height: int
    level: int
    confidence: float
    distance_m: float | None = None


@dataclass
class Frame:
    """One picture that was published. Times are seconds since the replay began, on one monotonic clock.

    `index` counts the published pictures, `source_ns` is the picture's stamp in the bag. `received_s` is when
    the alert on this frame arrived (None: it was dropped), `age_s` how old the picture's stamp was then,
    `node_latency_s` what the node itself says it took. `maps(name)` gives the pictures the node made of it,
    None where one did not come: "overlay" uint8 [H,W,3], "mask" uint8 [H,W], "heatmap" float32 [H,W].
    `camera` is the detector's name for where the picture comes from.
    """

    index: int
    source_ns: int
    due_s: float
    sent_s: float
    received_s: float | None = None
    age_s: float | None = None
    node_latency_s: float | None = None
    level: int = UNKNOWN
    reasons: int = 0
    boxes: tuple[Box, ...] = ()
    maps: Callable[[str], np.ndarray | None] = lambda name: None
    camera: str = ""

    @property
    def judged(self) -> bool:
        """Did an alert on this frame come back?"""
        return self.received_s is not None

    @property
    def latency_s(self) -> float | None:
        """From publishing the picture to having its alert, as a user of the alerts sees it."""
        return None if self.received_s is None else self.received_s - self.sent_s


@dataclass(frozen=True)
class LevelChange:
    """From `time_s` on the alert topic said `level` for `reasons`; heartbeats count as well."""

    time_s: float
    level: int
    reasons: int


@dataclass
class Recording:
    """One replay. `dropped` counts by reason; `len(frames) == judged + sum(dropped.values())`, always."""

    frames: list[Frame]
    levels: list[LevelChange]
    dropped: dict[str, int]
    duration_s: float
    info: dict = field(
        default_factory=dict
    )  # model, device, versions, hashes, … as they stand in summary.json
    class_names: list[str] = field(default_factory=list)
    class_colors: list[tuple[int, int, int]] = field(default_factory=list)
    drivable_ids: list[int] = field(default_factory=list)
    threshold: float = 0.5
    notes: list[str] = field(default_factory=list)

    @property
    def judged(self) -> list[Frame]:
        """The frames that came back, in the order in which they were published."""
        return [frame for frame in self.frames if frame.judged]

    def check(self) -> None:
        """Raises AssertionError where the books do not balance."""
        lost = sum(self.dropped.values())
        if len(self.frames) != len(self.judged) + lost or min(self.dropped.values(), default=0) < 0:
            raise AssertionError(
                f"{len(self.frames)} frames in, {len(self.judged)} out and {lost} dropped "
                f"({self.dropped}) do not add up: please report this"
            )


def together(recordings: Sequence[Recording]) -> Recording:
    """Several cameras of one run as one: frames in the order of publishing, drops added up.

    There is no course of the level, for each camera has its own. One recording is returned as it is.
    """
    if len(recordings) == 1:
        return recordings[0]
    dropped: dict[str, int] = {}
    for recording in recordings:
        for reason, count in recording.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return replace(
        recordings[0],
        frames=sorted((f for r in recordings for f in r.frames), key=lambda frame: frame.sent_s),
        levels=[],
        dropped=dropped,
        duration_s=max(r.duration_s for r in recordings),
        notes=[note for r in recordings for note in r.notes],
    )
