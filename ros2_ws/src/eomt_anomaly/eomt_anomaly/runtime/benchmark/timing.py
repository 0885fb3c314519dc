# SPDX-License-Identifier: MIT
"""Interleaved timing: every round runs each contestant once, so that a disturbance meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PAUSE_S = 0.02  # between two runs: pools whose threads wait by spinning (ONNX Runtime, OpenMP) calm down
RESAMPLES = 2000
QUANTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0}


@dataclass
class Samples:
    """Of one contestant, a value for each round: wall clock, CPU time of the process, and stages; ms."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 1,
    say: Callable[[str], Any] = lambda text: None,
    pause_s: float = PAUSE_S,
    before: Callable[[], Any] = lambda: None,
) -> dict[str, Samples]:
    """Time each of `runs` once a round; who goes first changes with each round.

    A run that returns a mapping of stages, ms, has them kept. `warmup` rounds come first and do not count,
    nor does `before`, which is called ahead of each run.
    """
    names, samples = list(runs), {name: Samples() for name in runs}
    for number in range(-warmup, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before()
            time.sleep(pause_s)
            wall, cpu = time.perf_counter(), time.process_time()
            stages = runs[name]()
            taken = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
            if number < 0:
                continue
            samples[name].wall.append(taken[0])
            samples[name].cpu.append(taken[1])
            if isinstance(stages, Mapping):
                for stage, ms in stages.items():
                    samples[name].stages.setdefault(stage, []).append(ms)
        say(f"warm-up {number + warmup + 1} of {warmup}" if number < 0 else f"round {number + 1} of {rounds}")
    return samples


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 (values that occurred, never interpolated), mean, min and max."""
    sample = np.asarray(values, np.float64)
    picked = np.percentile(sample, list(QUANTILES.values()), method="inverted_cdf")
    numbers = dict(zip(QUANTILES, picked)) | {"mean": sample.mean(), "min": sample.min(), "max": sample.max()}
    return {name: round(float(value), 4) for name, value in numbers.items()}


def ratio(theirs: Sequence[float], ours: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """theirs / ours of the same rounds: `median` of the rounds' ratios, and its 95 % `interval`.

    The interval is a percentile bootstrap over `RESAMPLES` resamples of the rounds (Efron 1979); None for
    fewer than three rounds, which have none worth the name.
    """
    ratios = np.asarray(theirs, np.float64) / np.asarray(ours, np.float64)
    interval = None
    if len(ratios) >= 3:
        draws = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))  # [R, rounds]
        interval = [round(float(x), 4) for x in np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))]
    return {"median": round(float(np.median(ratios)), 4), "interval": interval}
