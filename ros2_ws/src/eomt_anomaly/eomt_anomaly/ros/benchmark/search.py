# SPDX-License-Identifier: MIT
"""The highest rate that a system sustains, by a bounded number of probes. Pure: no clock, no ROS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Probed = TypeVar("Probed")


@dataclass(frozen=True)
class Found(Generic[Probed]):
    """`sustained` is the highest rate that held (Hz), `failed` the lowest above it that did not; None: none.

    `converged`: the two are within the tolerance, and `failed` failed twice. `probes` are all (rate, held,
    what the probe returned).
    """

    sustained: float | None
    failed: float | None
    converged: bool
    probes: list[tuple[float, bool, Probed]]


def search(
    probe: Callable[[float], tuple[bool, Probed]],
    start: float,
    *,
    tolerance: float = 0.05,
    most: int = 12,
    lowest: float = 0.05,
    highest: float = 1000.0,
) -> Found[Probed]:
    """Double or halve from `start` (Hz) until the limit lies between two probes, then bisect on a log scale.

    The rate that failed last is tried again at the end, and if it holds now, the search goes on: a passing
    disturbance must not set the limit.

    `probe(rate)` says whether the rate held. Ends when failed / sustained ≤ 1 + `tolerance`, after `most`
    probes, or at `lowest` or `highest`. Raises ValueError for arguments out of range.
    """
    if not 0 < lowest <= start <= highest < math.inf:
        raise ValueError(f"start is {start:g} Hz: give a rate between {lowest:g} and {highest:g}")
    if not tolerance > 0 or most < 1:
        raise ValueError(f"tolerance is {tolerance:g} and most is {most}: give positive numbers")
    probes: list[tuple[float, bool, Probed]] = []
    low: float | None = None
    high: float | None = None
    rate, confirmed = start, False
    while len(probes) < most and not confirmed:
        held, what = probe(rate)
        probes.append((rate, held, what))
        if held:
            low, high = rate, None if rate == high else high
        else:
            confirmed, high = rate == high, rate
        if low is None:
            if rate == lowest:
                break
            rate = max(rate / 2, lowest)
        elif high is None:
            if rate == highest:
                break
            rate = min(rate * 2, highest)
        else:
            close = high <= low * (1 + tolerance)
            rate = high if close else math.sqrt(low * high)
    return Found(low, high, confirmed, probes)
