# SPDX-License-Identifier: MIT
"""mIoU and friends from a confusion matrix; pixels labelled outlier (254) or void (255) take no part."""

from __future__ import annotations

from typing import Any

import numpy as np


class ConfusionMatrix:
    """Counts [C,C] of (truth, prediction) pixels, added up image by image."""

    def __init__(self, num_classes: int):
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """prediction and labels: integer arrays of one shape; labels >= C are ignored."""
        if prediction.shape != labels.shape:
            raise ValueError(f"prediction {prediction.shape} and labels {labels.shape} differ in shape")
        n = len(self.counts)
        known = labels < n
        pairs = labels[known].astype(np.int64) * n + prediction[known]
        self.counts += np.bincount(pairs, minlength=n * n).reshape(n, n)

    def compute(self) -> dict[str, Any]:
        """``miou``, ``macc``, ``aacc`` in [0,1] and ``iou`` per class (NaN: absent everywhere)."""
        hits = np.diag(self.counts).astype(np.float64)
        truth, predicted = self.counts.sum(1), self.counts.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou, accuracy = hits / (truth + predicted - hits), hits / truth
        return {
            "miou": float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan"),
            "macc": float(np.nanmean(accuracy)) if np.isfinite(accuracy).any() else float("nan"),
            "aacc": float(hits.sum() / max(self.counts.sum(), 1)),
            "iou": iou,
        }
