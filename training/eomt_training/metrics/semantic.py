# SPDX-License-Identifier: MIT
"""mIoU and friends from a confusion matrix; pixels labelled outlier (254) or void (255) take no part."""

from __future__ import annotations

from typing import Any

import numpy as np


class ConfusionMatrix:
    """Counts of (truth, prediction) pixels, added up image by image.

    A prediction that is no class (a void output, say) misses its pixel and is no other class's mistake:
    ``table``, int64 [C,C+1], counts it in its last column.
    """

    def __init__(self, num_classes: int):
        self.table = np.zeros((num_classes, num_classes + 1), np.int64)

    @property
    def counts(self) -> np.ndarray:
        """int64 [C,C]: rows truth, columns prediction."""
        return self.table[:, :-1]

    def update(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """prediction and labels: integer arrays of one shape; labels >= C are ignored."""
        if prediction.shape != labels.shape:
            raise ValueError(f"prediction {prediction.shape} and labels {labels.shape} differ in shape")
        rows, columns = self.table.shape
        known = labels < rows
        predicted = np.minimum(prediction[known], rows).astype(np.int64)
        pairs = labels[known].astype(np.int64) * columns + predicted
        self.table += np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)

    def compute(self) -> dict[str, Any]:
        """``miou``, ``macc``, ``aacc`` in [0,1] and ``iou`` per class (NaN: absent everywhere)."""
        hits = np.diag(self.counts).astype(np.float64)
        truth, predicted = self.table.sum(1), self.counts.sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou, accuracy = hits / (truth + predicted - hits), hits / truth
        return {
            "miou": float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan"),
            "macc": float(np.nanmean(accuracy)) if np.isfinite(accuracy).any() else float("nan"),
            "aacc": float(hits.sum() / max(self.table.sum(), 1)),
            "iou": iou,
        }
