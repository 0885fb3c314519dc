# SPDX-License-Identifier: MIT
"""Kept maps through `alerts.Monitor`: what was said of each frame, and which obstacle it was about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eomt_anomaly.alerts import Level, Monitor, MonitorParams, Track
from eomt_anomaly.alerts.ground_plane import CameraModel
from eomt_anomaly.alerts.monitor import LookAgain

from ..data.sequences import Visible

Box = tuple[int, int, int, int]
OF_OBSTACLE, OF_ALERT, MAX_RATIO = 0.25, 0.5, 10.0


@dataclass(frozen=True)
class Moment:
    """One judged frame: the level, (obstacle in view, alerted or not) and ids of the alerts about none."""

    level: Level
    seen: list[tuple[Visible, bool]] = field(default_factory=list)
    false_tracks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Replay:
    """A whole drive. on_road: by obstacle id; `untracked`: each frame's level from that frame alone."""

    name: str
    rate_hz: float
    on_road: dict[int, bool]
    moments: list[Moment]
    untracked: list[Level]

    @property
    def minutes(self) -> float:
        return len(self.moments) / self.rate_hz / 60


def matches(alert: Box, obstacle: Box) -> bool:
    """Whether an alert's box is about an obstacle's: (x, y, width, height), pixels.

    It covers a quarter of it and is no more than ten times as large, or lies half inside it (a part of it).
    """
    width = min(alert[0] + alert[2], obstacle[0] + obstacle[2]) - max(alert[0], obstacle[0])
    height = min(alert[1] + alert[3], obstacle[1] + obstacle[3]) - max(alert[1], obstacle[1])
    shared = max(width, 0) * max(height, 0)
    own, other = alert[2] * alert[3], obstacle[2] * obstacle[3]
    return shared >= OF_ALERT * own or (shared >= OF_OBSTACLE * other and own <= MAX_RATIO * other)


def moment(
    level: Level, alerts: Sequence[Track], visible: Sequence[Visible], specks: Sequence[Box] = ()
) -> Moment:
    """One frame's account. Only alerts seen in this frame count for an obstacle; a coasting one is neither.

    An alert about something too small for `visible` (its box is in `specks`) is not a false one.
    """
    fresh = [a for a in alerts if a.frames_missed == 0]
    seen = [(o, any(matches(a.box, o.box) for a in fresh)) for o in visible]
    known = [o.box for o in visible] + list(specks)
    return Moment(level, seen, tuple(a.track_id for a in fresh if not any(matches(a.box, b) for b in known)))


def untracked(params: MonitorParams) -> MonitorParams:
    """The same rules without memory: every frame is judged by itself."""
    return replace(params, confirm_hits=1, confirm_window=1, caution_hits=1, coast_frames=0, clear_frames=1)


def replay(
    params: MonitorParams,
    maps: Callable[[int], tuple[np.ndarray, np.ndarray]],
    truth: Callable[[int], tuple[list[Visible], list[Box]]],
    camera: CameraModel,
    indices: Iterable[int],
    rate_hz: float,
    name: str = "",
    on_road: dict[int, bool] | None = None,
    look_again: Callable[[int], LookAgain | None] = lambda _: None,
) -> Replay:
    """Judge the frames `indices` of a drive, `rate_hz` of them a second, as the node would.

    maps(i): class map uint8 [H,W] and anomaly float32 [H,W] in [0,1]; truth(i): obstacles in view and
    the boxes of those too small to be; look_again(i): the frame's second look, None for none.
    """
    monitor, alone = Monitor(params), Monitor(untracked(params))
    moments, levels = [], []
    for n, i in enumerate(indices):
        classes, anomaly = maps(i)
        again = look_again(i)
        result = monitor.update(classes, anomaly, n / rate_hz, camera, look_again=again)
        moments.append(moment(result.level, result.alerts, *truth(i)))
        levels.append(alone.update(classes, anomaly, n / rate_hz, camera, look_again=again).level)
    return Replay(name, rate_hz, on_road or {}, moments, levels)
