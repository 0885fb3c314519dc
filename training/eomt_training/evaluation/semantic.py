# SPDX-License-Identifier: MIT
"""How well a model labels the classes it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..metrics.semantic import ConfusionMatrix
from .frames import Frames
from .predictor import Predicts

Progress = Callable[[Iterable[int]], Iterable[int]]


def evaluate_semantic(
    predict: Predicts, frames: Frames, progress: Progress = iter, pictures: Path | None = None
) -> dict[str, Any]:
    """mIoU, mean and overall accuracy and IoU by class name, all in %, and the confusion matrix.

    ``confusion`` counts pixels, [C][C], rows truth; ``frame_miou`` is one value a frame, in %. With
    ``pictures``, each prediction is written there as NAME.png in the classes' colours.
    """
    labels = predict.labels
    confusion, by_frame = ConfusionMatrix(len(labels)), []
    for i in progress(range(len(frames))):
        sample = frames[i]
        classes, _ = predict(sample)
        confusion.update(classes, sample.labels)
        one = ConfusionMatrix(len(labels))
        one.update(classes, sample.labels)
        by_frame.append(round(100 * one.compute()["miou"], 2))
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(pictures / f"{sample.name}.png"), class_colors(classes, labels)[..., ::-1])
    result = confusion.compute()
    return {
        "frames": len(frames),
        **{k: 100 * result[k] for k in ("miou", "macc", "aacc")},
        "iou": {label.name: 100 * float(value) for label, value in zip(labels, result["iou"])},
        "confusion": confusion.counts.tolist(),
        "frame_miou": by_frame,
    }


def class_colors(classes: np.ndarray, labels: Iterable[Any]) -> np.ndarray:
    """Class ids [H,W] -> their labels' colours, uint8 [H,W,3] RGB; ids that are no class are black."""
    palette = np.zeros((256, 3), np.uint8)
    for label in labels:
        palette[label.id] = label.color
    return palette[classes]
