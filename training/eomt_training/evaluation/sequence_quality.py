# SPDX-License-Identifier: MIT
"""How good alerts are over whole drives: obstacles found, time to the first alert, false alerts, flicker."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eomt_anomaly.alerts import Level

from .sequence_replay import Replay

SHARES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)  # of the picture, in [0,1]
TARGET_SHARE = 0.005
DISTANCES = ((0, 5), (5, 10), (10, 15), (15, 20), (20, 30), (30, 40), (40, 60))  # metres
ALERTING = (Level.CAUTION, Level.STOP)
Wanted = Callable[[float, float], bool]  # of a share and metres
Sizes = list[tuple[float, float, bool]]  # (share, metres, alerted) of an obstacle, frame by frame


def obstacles(drive: Replay, on_road: bool = True) -> dict[int, Sizes]:
    """The frames in which each obstacle on the road (or beside it) is in view."""
    found: dict[int, Sizes] = {}
    for moment in drive.moments:
        for o, alerted in moment.seen:
            if drive.on_road[o.obstacle] == on_road:
                found.setdefault(o.obstacle, []).append((o.share, o.distance_m, alerted))
    return found


def covers(least: float) -> Wanted:
    """Whether an obstacle covers at least this share of the picture."""
    return lambda share, _: share >= least


def between(near: float, far: float) -> Wanted:
    """Whether it is at least `near` and less than `far` metres away."""
    return lambda _, away: near <= away < far


def found_in(frames: Sizes, wanted: Wanted) -> bool | None:
    """Whether an obstacle was alerted in a frame for which wanted(share, metres); None if there is none."""
    hits = [alerted for share, away, alerted in frames if wanted(share, away)]
    return any(hits) if hits else None


def frames_to_alert(frames: Sizes, share: float) -> float | None:
    """Frames to the first alert, from the first in which the obstacle covers `share`, counted as 1.

    1 where it was alerted before, infinity where never, None where it never covers so much.
    """
    start = next((n for n, (covered, _, _) in enumerate(frames) if covered >= share), None)
    if start is None:
        return None
    first = next((n for n, (_, _, alerted) in enumerate(frames) if alerted), math.inf)
    return max(1.0, first - start + 1)


def changes_per_second(levels: Sequence[Level], rate_hz: float) -> float:
    """Level changes per second between successive frames, after the warm-up (the first known level).

    NaN where less than two frames are left.
    """
    known = next((n for n, level in enumerate(levels) if level != Level.UNKNOWN), len(levels))
    left = list(levels[known:])
    if len(left) < 2:
        return math.nan
    return sum(a != b for a, b in zip(left, left[1:])) / (len(left) - 1) * rate_hz


def episodes(levels: Sequence[Level]) -> int:
    """How often the level rises to CAUTION or STOP from below."""
    raised = [level in ALERTING for level in levels]
    return sum(now and not before for before, now in zip([False, *raised], raised))


def rate(groups: Sequence[Sequence[bool]], rng: np.random.Generator, resamples: int = 2000) -> dict[str, Any]:
    """Share of True in %, its 95 % interval when groups (drives) are drawn again (percentile bootstrap).

    Where all or none are True the bootstrap says nothing: then the exact (Clopper-Pearson) bound is given.
    """
    hits = np.array([sum(g) for g in groups if len(g)], float)
    counts = np.array([len(g) for g in groups if len(g)], float)
    n, found = int(counts.sum()), int(hits.sum())
    if n == 0:
        return {"percent": math.nan, "low": math.nan, "high": math.nan, "found": 0, "of": 0}
    bound = 0.025 ** (1 / n)
    if found == n:
        low, high = bound, 1.0
    elif found == 0:
        low, high = 0.0, 1 - bound
    else:
        drawn = rng.integers(len(hits), size=(resamples, len(hits)))
        low, high = np.quantile(hits[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return {
        "percent": 100 * found / n,
        "low": 100 * float(low),
        "high": 100 * float(high),
        "found": found,
        "of": n,
    }


def per_minute(
    events: Sequence[int], minutes: Sequence[float], rng: np.random.Generator, resamples: int = 2000
) -> dict[str, Any]:
    """Events a minute over drives, and the 95 % interval when drives are drawn again.

    Without any event the upper bound is the exact one of a Poisson rate, -ln 0.025 / minutes.
    """
    happened, lasted = np.array(events, float), np.array(minutes, float)
    total = float(lasted.sum())
    if total == 0:
        return {"rate": math.nan, "low": math.nan, "high": math.nan, "events": 0, "minutes": 0.0}
    if happened.sum() == 0:
        low, high = 0.0, -math.log(0.025) / total
    else:
        drawn = rng.integers(len(lasted), size=(resamples, len(lasted)))
        low, high = np.quantile(happened[drawn].sum(1) / lasted[drawn].sum(1), [0.025, 0.975])
    return {
        "rate": float(happened.sum()) / total,
        "low": float(low),
        "high": float(high),
        "events": int(happened.sum()),
        "minutes": total,
    }


def measure(drives: Sequence[Replay], seed: int = 0) -> dict[str, Any]:
    """Every figure over drives with obstacles and clean ones (without any). Shares and recalls in %."""
    rng = np.random.default_rng(seed)
    busy, clean = [d for d in drives if d.on_road], [d for d in drives if not d.on_road]
    frames = {road: [list(obstacles(d, road).values()) for d in busy] for road in (True, False)}

    def recall(wanted: Wanted, road: bool = True) -> dict[str, Any]:
        told = [[found_in(o, wanted) for o in group] for group in frames[road]]
        return rate([[bool(f) for f in group if f is not None] for group in told], rng)

    def first_alert(share: float) -> dict[str, Any]:
        counts = [t for g in frames[True] for o in g if (t := frames_to_alert(o, share)) is not None]
        finite = [t for t in counts if math.isfinite(t)]
        middle = sorted(counts)[(len(counts) - 1) // 2] if counts else math.nan
        return {
            "median_frames": middle if math.isfinite(middle) else None,
            "obstacles": len(counts),
            "never": len(counts) - len(finite),
            "p95_frames_of_found": float(np.quantile(finite, 0.95)) if finite else math.nan,
        }

    levels = [[m.level for m in d.moments] for d in drives]
    lasted = [d.minutes for d in clean]
    false = [len({t for m in d.moments for t in m.false_tracks}) for d in clean]
    raised = [[m.level for m in d.moments] for d in clean]
    in_alert = [m.level in ALERTING for d in clean for m in d.moments]
    return {
        "drives": len(busy),
        "clean_drives": len(clean),
        "frames": sum(len(d.moments) for d in drives),
        "recall_by_share": {f"{100 * s:g}": recall(covers(s)) for s in SHARES},
        "recall_beside_road": recall(covers(TARGET_SHARE), road=False),
        "recall_by_distance": {f"{a}-{b}": recall(between(a, b)) for a, b in DISTANCES},
        "first_alert": {f"{100 * s:g}": first_alert(s) for s in SHARES},
        "false_alerts_per_minute": per_minute(false, lasted, rng),
        "false_episodes_per_minute": per_minute([episodes(r) for r in raised], lasted, rng),
        "false_stops_per_minute": per_minute(
            [episodes([x if x == Level.STOP else Level.CLEAR for x in r]) for r in raised], lasted, rng
        ),
        "clean_time_alerting": 100 * float(np.mean(in_alert)) if in_alert else math.nan,
        "time_unknown": 100 * float(np.mean([x == Level.UNKNOWN for group in levels for x in group])),
        "flicker_tracked": _mean([changes_per_second(x, d.rate_hz) for x, d in zip(levels, drives)]),
        "flicker_untracked": _mean([changes_per_second(d.untracked, d.rate_hz) for d in drives]),
        "by_drive": [_one(d) for d in drives],
    }


def _one(drive: Replay) -> dict[str, Any]:
    told = [found_in(o, covers(TARGET_SHARE)) for o in obstacles(drive).values()]
    told = [t for t in told if t is not None]
    return {
        "name": drive.name,
        "minutes": drive.minutes,
        "found": sum(told),
        "of": len(told),
        "false_alerts": len({t for m in drive.moments for t in m.false_tracks}),
    }


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def verdicts(figures: dict[str, Any]) -> dict[str, bool]:
    """Whether the targets are met.

    At least 95 % of at least 60 obstacles that cover 0.5 % of the picture are found; at most one false alert
    a minute over at least ten clean ones; at most 3 frames to the first alert (median).
    """
    large, false = figures["recall_by_share"]["0.5"], figures["false_alerts_per_minute"]
    median = figures["first_alert"]["0.5"]["median_frames"]
    return {
        "recall": large["of"] >= 60 and large["percent"] >= 95,
        "false_alerts": false["minutes"] >= 10 and false["rate"] <= 1,
        "first_alert": median is not None and median <= 3,
    }
