# SPDX-License-Identifier: MIT
"""A threshold with a guarantee on false alarms: conformal risk control (Angelopoulos et al., 2022,
arXiv 2208.02814, theorem 1).

A frame's loss is the share of its normal pixels that fire (score >= threshold): in [0,1], and it falls as
the threshold rises. With n calibration frames of mean loss R, a threshold with
n/(n+1) R + 1/(n+1) <= alpha has an expected loss of at most alpha on a new frame, if that frame is
exchangeable with the calibration frames: drawn like them, in any order. The expectation is over both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .keys import END, to_keys, to_scores
from .spool import Spool


@dataclass(frozen=True)
class Threshold:
    """A chosen threshold; all rates are shares in [0,1].

    ``mean_rate`` is R at the threshold; ``guaranteed_rate`` bounds the expected loss on a new frame. Where
    ``within_target`` is false there are too few frames to guarantee the wanted rate: the threshold then
    has R <= wanted, and ``guaranteed_rate`` = (n wanted + 1) / (n + 1) is the smallest level it guarantees.
    Or the threshold would lie too high (``capped``): it then has whatever R is left, and guarantees nothing
    (None), as no level that is read off the calibration frames themselves is one.
    """

    threshold: float
    frames: int
    mean_rate: float
    guaranteed_rate: float | None
    within_target: bool
    capped: bool = False


def control_risk(normal: Spool, rate: float, highest: float = math.inf) -> Threshold:
    """The lowest threshold that keeps the expected share of firing normal pixels at ``rate`` or below.

    Args:
        normal: one run of keys for each frame, its normal pixels; frames without any are left out.
        rate: alpha, in (0,1).
        highest: the threshold is no higher than this, whatever fires then.

    Raises:
        ValueError: there is no frame, ``rate`` is out of range, or no finite score is high enough.
    """
    check_rate(rate)
    runs = [run for run in normal.runs if len(run)]
    n = len(runs)
    if not n:
        raise ValueError("no frame has a normal pixel")
    bound = ((n + 1) * rate - 1) / n  # R must not exceed it
    within = bound >= 0
    key = _lowest_key(runs, bound if within else rate)
    if to_scores(np.uint32(key)) > highest:
        mean = _mean_rate(runs, int(to_keys(np.float32(highest))))
        return Threshold(highest, n, mean, None, within_target=False, capped=True)
    return Threshold(
        threshold=float(to_scores(np.uint32(key))),
        frames=n,
        mean_rate=_mean_rate(runs, key),
        guaranteed_rate=rate if within else (n * rate + 1) / (n + 1),
        within_target=within,
    )


def check_rate(rate: float) -> None:
    """Raises ValueError for a wanted false-positive rate outside of (0,1)."""
    if not 0 < rate < 1:
        raise ValueError(f"a false-positive rate of {rate} is wanted: give a share in (0, 1)")


def _mean_rate(runs: list[np.ndarray], key: int) -> float:
    """Mean over frames of the share of keys at or above ``key``."""
    return float(np.mean([1 - np.searchsorted(run, np.uint32(key)) / len(run) for run in runs]))


def _lowest_key(runs: list[np.ndarray], bound: float) -> int:
    """The lowest key with a mean rate of at most ``bound``, by bisection: the rate falls as keys rise."""
    low, high = 0, int(max(run[-1] for run in runs)) + 1  # nothing reaches high
    if high >= END or not np.isfinite(to_scores(np.uint32(high))):
        raise ValueError("the highest score is the largest float there is: no threshold lies above it")
    while low < high:
        middle = (low + high) // 2
        if _mean_rate(runs, middle) <= bound:
            high = middle
        else:
            low = middle + 1
    return low
