# SPDX-License-Identifier: MIT
"""What a report draws: points of the PR and ROC curves and histograms, from exact counts."""

from __future__ import annotations

import numpy as np

from .anomaly import PixelMetrics
from .keys import to_scores


def curve(metrics: PixelMetrics, points: int = 300) -> dict[str, np.ndarray]:
    """``tpr``, ``fpr``, ``precision`` in [0,1] and ``threshold``, float64 [K], from the highest score down.

    Every point is exact; of the thresholds, the last in each of ``points`` steps of TPR and of FPR is kept.
    """
    kept, total = [], np.array([[len(metrics.normal)], [len(metrics.anomalous)]])
    for scores, fp, tp in metrics.steps():
        step = np.stack([fp, tp]) * points // np.maximum(total, 1)
        last = np.append(np.flatnonzero((step[:, 1:] != step[:, :-1]).any(0)), len(scores) - 1)
        kept.append(np.stack([scores[last], fp[last], tp[last]]).astype(np.float64))
    threshold, fp, tp = np.concatenate(kept, axis=1)
    return {"tpr": tp / total[1], "fpr": fp / total[0], "precision": tp / (tp + fp), "threshold": threshold}


def medians(metrics: PixelMetrics) -> tuple[float, float]:
    """Exact medians of the normal and the anomalous pixels' scores; the higher of two middle ones."""
    found = [float("nan"), float("nan")]
    halves = np.array([(len(metrics.normal) + 1) // 2, (len(metrics.anomalous) + 1) // 2])
    before = np.zeros(2, np.int64)
    for scores, fp, tp in metrics.steps():
        for row, counted in enumerate((fp, tp)):
            if before[row] < halves[row] <= counted[-1]:
                found[row] = float(scores[np.searchsorted(counted, halves[row])])
        before = np.array([fp[-1], tp[-1]])
    return found[0], found[1]


def histogram(metrics: PixelMetrics, bins: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Edges float64 [bins+1] over the range of the scores, and pixels in each bin, int64 [2,bins].

    Rows: normal, anomalous.
    """
    runs = [run for spool in (metrics.normal, metrics.anomalous) for run in spool.runs if len(run)]
    low, high = to_scores(np.array([min(r[0] for r in runs), max(r[-1] for r in runs)])).astype(float)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts, before = np.zeros((2, bins), np.int64), np.zeros((2, 1), np.int64)
    for scores, fp, tp in metrics.steps():
        cumulative = np.stack([fp, tp])
        index = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
        for row, counted in zip(counts, np.diff(cumulative, axis=1, prepend=before)):
            row += np.bincount(index, weights=counted, minlength=bins).astype(np.int64)
        before = cumulative[:, -1:]
    return edges, counts
