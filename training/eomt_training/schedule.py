# SPDX-License-Identifier: MIT
"""Schedules, as pure functions of the step."""

from __future__ import annotations


def warmup_poly(step: int, total: int, start: int = 0, warmup: int = 500, power: float = 0.9) -> float:
    """Learning-rate factor in [0,1]: 0 before ``start``, linear over ``warmup`` steps, then polynomial to 0.

    t counts the optimiser steps taken. factor = (t - start) / warmup up to t0 = start + warmup, then
    (1 - (t - t0) / (T - t0))^power (EoMT's two-stage schedule, arXiv 2503.19108: heads start at 0, pretrained
    blocks when the heads are warm).
    """
    if step < start:
        return 0.0
    if step < start + warmup:
        return (step - start) / warmup
    peak = start + warmup
    return max(0.0, 1 - (step - peak) / max(total - peak, 1)) ** power


def mask_probability(step: int, total: int, block: int, num_blocks: int, power: float = 0.9) -> float:
    """Probability of masked attention in decoder block ``block`` (EoMT's annealing).

    The ``total`` steps fall into num_blocks + 2 equal phases; block i is masked (1) until phase i + 1 begins,
    anneals to 0 during it, and stays unmasked.
    """
    phase = total / (num_blocks + 2)
    begin, end = (block + 1) * phase, (block + 2) * phase
    if step < begin:
        return 1.0
    if step >= end:
        return 0.0
    return (1 - (step - begin) / (end - begin)) ** power
