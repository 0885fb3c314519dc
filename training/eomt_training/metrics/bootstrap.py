# SPDX-License-Identifier: MIT
"""How much a metric moves when frames are drawn again."""

from __future__ import annotations

import numpy as np

from .anomaly import PixelMetrics
from .spool import Spool, slices


def bootstrap_auprc(
    metrics: PixelMetrics, seed: int, resamples: int = 400, bins: int = 2048
) -> tuple[float, float]:
    """95 % interval of AuPRC when frames are drawn again (percentile bootstrap; Efron, 1979).

    Scores are binned, half of the edges at quantiles of all pixels and half at those of the anomalous ones:
    these are few, and precision is decided among them.
    """
    rng, frames = np.random.default_rng(seed), len(metrics.normal.lengths)
    every = _quantiles((metrics.normal, metrics.anomalous), bins // 2, metrics.max_pixels)
    edges = np.union1d(every, _quantiles((metrics.anomalous,), bins // 2, metrics.max_pixels))
    counts = np.zeros((frames, 2, len(edges) + 1), np.int64)
    for row, spool in enumerate((metrics.normal, metrics.anomalous)):
        for frame, run in enumerate(spool.runs):
            at = np.concatenate([[0], np.searchsorted(run, edges), [len(run)]])
            counts[frame, row] = np.diff(at)
    values = []
    for _ in range(resamples):
        fp, tp = np.cumsum(counts[rng.integers(frames, size=frames)].sum(0)[:, ::-1], axis=1)
        if tp[-1] > 0:
            values.append(float(np.sum(np.diff(tp, prepend=0) / tp[-1] * tp / np.maximum(tp + fp, 1))))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _quantiles(spools: tuple[Spool, ...], count: int, max_keys: int) -> np.ndarray:
    """Keys that cut the spools' pixels into ``count`` parts of about one size, uint32."""
    total, passed, found = sum(map(len, spools)), 0, []
    for keys, counts in slices(spools, max_keys):
        reached = passed + np.cumsum(counts.sum(0))
        step = reached * count // total
        found.append(keys[np.flatnonzero(np.diff(step, prepend=passed * count // total))])
        passed = int(reached[-1])
    return np.concatenate(found)
