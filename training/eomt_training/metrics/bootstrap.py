# SPDX-License-Identifier: MIT
"""How much a metric moves when frames are drawn again."""

from __future__ import annotations

import numpy as np

from .anomaly import PixelMetrics
from .spool import Spool, slices


def resampled(metrics: PixelMetrics, seed: int, resamples: int = 400, bins: int = 2048) -> np.ndarray:
    """AuPRC and FPR95 in [0,1] when frames are drawn again, float64 [resamples,2] (bootstrap; Efron, 1979).

    The draws depend on the seed and the number of frames alone, so rows of two scores on the same frames are
    pairs. Draws without an anomalous pixel are left out. Scores are binned, half of the edges at quantiles of
    all pixels and half at those of the anomalous ones: these are few, and precision is decided among them.
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
            auprc = np.sum(np.diff(tp, prepend=0) / tp[-1] * tp / np.maximum(tp + fp, 1))
            fpr95 = fp[np.searchsorted(tp, 0.95 * tp[-1])] / max(fp[-1], 1)
            values.append((auprc, fpr95))
    return np.array(values)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrapped values."""
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
