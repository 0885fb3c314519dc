# SPDX-License-Identifier: MIT
"""Pixel metrics of an anomaly score, pooled over a data set, exact for ties and any range of scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .keys import to_keys, to_scores
from .spool import MAX_KEYS, Spool, slices

IGNORE = 255
LEVELS = (80, 90, 95, 99)  # TPR in %


class PixelMetrics:
    """Average precision, AUROC, FPR and TNR at a TPR, best F1, and curves; equal to scikit-learn's.

    Every pixel counts by its float32 score; nothing is binned. Memory is bounded, whatever the data set:
    ``max_pixels`` of each class wait in memory (4 bytes each), the others on disk (see `Spool`), and
    `compute` reads back slices of ``max_pixels``; its peak is about 50 bytes times ``max_pixels``.
    """

    def __init__(self, max_pixels: int = MAX_KEYS) -> None:
        self.max_pixels = max_pixels
        self.normal, self.anomalous = Spool(max_pixels), Spool(max_pixels)  # a run each image

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add an image: scores float (higher = more anomalous); labels 0 normal, 1 anomaly, 255 void.

        Raises ValueError for NaN or infinite scores, other labels, or differing shapes.
        """
        scores, labels = np.asarray(scores), np.asarray(labels)
        if scores.shape != labels.shape:
            raise ValueError(f"scores {scores.shape} and labels {labels.shape} differ in shape")
        normal, anomalous = labels == 0, labels == 1
        if not (normal | anomalous | (labels == IGNORE)).all():
            raise ValueError(
                f"labels must be 0, 1 or 255, found {sorted(set(np.unique(labels).tolist()) - {0, 1, 255})}"
            )
        for spool, mask in ((self.normal, normal), (self.anomalous, anomalous)):
            if not np.isfinite(chosen := scores[mask].astype(np.float32)).all():
                raise ValueError("scores hold NaN or infinite values (as float32)")
            spool.add(to_keys(chosen))

    @property
    def has_both_classes(self) -> bool:
        return bool(len(self.normal) and len(self.anomalous))

    @property
    def prevalence(self) -> float:
        """Share of the labelled pixels that are anomalous."""
        return len(self.anomalous) / max(len(self.normal) + len(self.anomalous), 1)

    def steps(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Thresholds from the highest score down, in slices: score float32, FP and TP counts int64, all [K].

        A pixel fires where its score is >= the threshold.
        """
        total = np.zeros((2, 1), np.int64)
        for keys, counts in slices((self.normal, self.anomalous), self.max_pixels):
            fp, tp = cumulative = total + np.cumsum(counts, axis=1)
            total = cumulative[:, -1:]
            yield to_scores(keys), fp, tp

    def by_image(self) -> Iterator[PixelMetrics]:
        """The metrics of each image alone, in the order they came."""
        for normal, anomalous in zip(self.normal.runs, self.anomalous.runs):
            one = PixelMetrics(self.max_pixels)
            one.normal.add(normal)
            one.anomalous.add(anomalous)
            yield one

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """FPR and TPR of pixels with a score >= ``threshold``; NaN for a class without pixels."""
        key = to_keys(np.array([threshold]))[0]

        def rate(spool: Spool) -> float:
            fired = sum(len(run) - int(np.searchsorted(run, key)) for run in spool.runs)
            return fired / len(spool) if len(spool) else float("nan")

        return rate(self.normal), rate(self.anomalous)

    def compute(self) -> dict[str, float]:
        """See `pixel_metrics`."""
        if not self.has_both_classes:
            raise ValueError(
                f"there are {len(self.normal)} normal and {len(self.anomalous)} anomalous pixels: metrics "
                "need at least one of each (in label images 1 is anomalous and 255 void: a mask of 0 and 255 "
                "has no anomaly)"
            )
        result = {"auprc": 0.0, "auroc": 0.0, "best_f1": -1.0, "best_f1_threshold": 0.0}
        fpr_at: dict[int, float] = {}
        threshold_at: dict[int, float] = {}
        last_fpr = last_tpr = 0.0
        for scores, fp, tp in self.steps():
            tpr, fpr, precision = tp / len(self.anomalous), fp / len(self.normal), tp / (tp + fp)
            result["auprc"] += float(np.sum(np.diff(tpr, prepend=last_tpr) * precision))
            middle = (tpr + np.concatenate([[last_tpr], tpr[:-1]])) / 2
            result["auroc"] += float(np.sum(np.diff(fpr, prepend=last_fpr) * middle))
            f1 = 2 * tp / (tp + fp + len(self.anomalous))
            best = int(f1.argmax())
            if f1[best] > result["best_f1"]:
                result |= {"best_f1": float(f1[best]), "best_f1_threshold": float(scores[best])}
            for level in LEVELS:
                if level not in fpr_at and tpr[-1] >= level / 100:
                    reached = np.searchsorted(tpr, level / 100)
                    fpr_at[level], threshold_at[level] = float(fpr[reached]), float(scores[reached])
            last_tpr, last_fpr = tpr[-1], fpr[-1]
        result |= {"fpr95": fpr_at[95], "threshold_tpr95": threshold_at[95]}
        return result | {f"tnr_at_tpr{level}": 1 - fpr_at[level] for level in LEVELS}


def pixel_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of one set of pixels: labels 0 normal, 1 anomaly, 255 void.

    Returns, in [0,1]: ``auprc`` (average precision), ``auroc``, ``fpr95`` (FPR at the first threshold with
    TPR >= 0.95), ``tnr_at_tpr80/90/95/99``, ``best_f1``; and on the score's scale ``best_f1_threshold`` and
    ``threshold_tpr95``, at which ``fpr95`` is taken.
    """
    metrics = PixelMetrics()
    metrics.update(scores, labels)
    return metrics.compute()
