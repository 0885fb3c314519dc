# SPDX-License-Identifier: MIT
"""Pixel metrics of an anomaly score, pooled over a data set, exact for ties and any range of scores."""

from __future__ import annotations

import numpy as np

IGNORE = 255


class PixelMetrics:
    """Average precision, AUROC and FPR at a TPR, from counts of each distinct float32 score.

    Memory grows with the distinct score values, not with the pixels: 20 bytes for each, and as many pixels
    again wait to be counted (5 bytes each), so that counting stays quick however many images come.
    Nothing is binned: results equal scikit-learn's on all pixels at once.
    """

    def __init__(self) -> None:
        self._values = np.zeros(0, np.float32)
        self._counts = np.zeros((2, 0), np.int64)  # rows: normal, anomaly
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add pixels: scores float (higher = more anomalous); labels 0 normal, 1 anomaly, 255 void.

        Raises ValueError for NaN or infinite scores, other labels, or differing shapes.
        """
        scores, labels = np.asarray(scores), np.asarray(labels)
        if scores.shape != labels.shape:
            raise ValueError(f"scores {scores.shape} and labels {labels.shape} differ in shape")
        valid = labels != IGNORE
        scores, labels = scores[valid].astype(np.float32), labels[valid]
        if not np.isfinite(scores).all():
            raise ValueError("scores hold NaN or infinite values")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"labels must be 0, 1 or 255, found {sorted(set(np.unique(labels).tolist()) - {0, 1})}"
            )
        self._waiting.append((scores + 0.0, labels == 1))  # + 0.0: -0 and 0 are one value
        if sum(len(s) for s, _ in self._waiting) > max(len(self._values), 1_000_000):
            self._count()

    def _count(self) -> None:
        """Merge the waiting pixels into the table of distinct values."""
        if not self._waiting:
            return
        scores, anomalous = (np.concatenate(parts) for parts in zip(*self._waiting))
        values, index = np.unique(np.concatenate([self._values, scores]), return_inverse=True)
        old, new = index[: len(self._values)], index[len(self._values) :]
        parts = new[~anomalous], new[anomalous]
        counts = np.stack([np.bincount(part, minlength=len(values)) for part in parts])
        counts[:, old] += self._counts
        self._values, self._counts, self._waiting = values, counts, []

    @property
    def values(self) -> np.ndarray:
        """Distinct scores, float32 [N], ascending."""
        self._count()
        return self._values

    @property
    def counts(self) -> np.ndarray:
        """Pixels with each of `values`, int64 [2,N]: normal, anomalous."""
        self._count()
        return self._counts

    @property
    def has_both_classes(self) -> bool:
        return bool((self.counts.sum(1) > 0).all())

    def compute(self) -> dict[str, float]:
        """See `pixel_metrics`."""
        if not self.has_both_classes:
            raise ValueError("metrics need at least one normal and one anomalous pixel")
        fp, tp = np.cumsum(self.counts[:, ::-1], axis=1).astype(np.float64)  # from the highest score down
        tpr, fpr, precision = tp / tp[-1], fp / fp[-1], tp / (tp + fp)
        f1 = 2 * precision * tpr / np.maximum(precision + tpr, 1e-12)
        best = int(f1.argmax())
        result = {
            "auprc": float(np.sum(np.diff(tpr, prepend=0.0) * precision)),
            "auroc": float(np.sum(np.diff(fpr, prepend=0.0) * (tpr + np.concatenate([[0.0], tpr[:-1]])) / 2)),
            "fpr95": float(fpr[np.searchsorted(tpr, 0.95)]),
            "best_f1": float(f1[best]),
            "best_f1_threshold": float(self.values[::-1][best]),
        }
        for level in (80, 90, 95, 99):
            result[f"tnr_at_tpr{level}"] = float(1 - fpr[np.searchsorted(tpr, level / 100)])
        return result

    def threshold_at_fpr(self, rate: float) -> float:
        """The lowest score that at most a share ``rate`` of the normal pixels reaches."""
        normal = np.cumsum(self.counts[0, ::-1])
        allowed = np.flatnonzero(normal <= rate * normal[-1])
        if not len(allowed):
            raise ValueError(
                f"no threshold keeps the false-positive rate at {rate}: the highest score is shared by more"
            )
        return float(self.values[::-1][allowed[-1]])


def pixel_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of one set of pixels: labels 0 normal, 1 anomaly, 255 void.

    Returns, in [0,1]: ``auprc`` (average precision), ``auroc``, ``fpr95`` (FPR at the first threshold with
    TPR >= 0.95), ``tnr_at_tpr80/90/95/99``, ``best_f1``; and ``best_f1_threshold`` on the score's scale.
    """
    metrics = PixelMetrics()
    metrics.update(scores, labels)
    return metrics.compute()
