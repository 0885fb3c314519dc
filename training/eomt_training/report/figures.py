# SPDX-License-Identifier: MIT
"""What a report shows of a measurement beside its numbers: curves, histograms, best and worst frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from eomt_anomaly.report.pictures import colored_heatmap

from ..evaluation import Anomalies, class_colors
from ..evaluation.frames import Frames
from ..evaluation.predictor import Predicts
from ..metrics.curves import curve, histogram

OUTLINE = (171, 71, 188)  # RGB, of true anomalies; the report's style names it --truth


@dataclass
class Panel:
    """Pictures of one frame, uint8 [H,W,3] RGB each, and what they are."""

    caption: str
    pictures: list[np.ndarray]


@dataclass
class AnomalyFigures:
    """Of one model on one set of frames; curves and histograms by score."""

    curves: dict[str, dict[str, np.ndarray]]
    histograms: dict[str, tuple[np.ndarray, np.ndarray]]
    best: list[Panel] = field(default_factory=list)
    worst: list[Panel] = field(default_factory=list)


def anomaly_figures(
    seen: Anomalies, main: str, labels: Sequence[Any], threshold: float | None = None, shown: int = 3
) -> AnomalyFigures:
    """``shown`` frames with the highest and the lowest AuPRC of the score ``main``, and all curves.

    Panels: picture with the true anomalies outlined, class map, score. ``threshold`` outlines what fires.
    """
    drawn = {name: histogram(metrics) for name, metrics in seen.pixels.items()}
    result = AnomalyFigures({name: curve(metrics) for name, metrics in seen.pixels.items()}, drawn)
    quality = seen.frame_auprc(main)
    order = [int(i) for i in np.argsort(quality) if np.isfinite(quality[i])]
    low, high = (0.0, 1.0) if main == "eomt_ext" else (drawn[main][0][0], drawn[main][0][-1])

    def panel(i: int) -> Panel:
        sample, truth, score = seen.frames[i], seen.maps["truth", i], seen.maps[main, i]
        heat = colored_heatmap((score - low) / max(high - low, 1e-12))
        if threshold is not None:
            heat = outlined(heat, score >= threshold, (255, 255, 255))
        pictures = [sample.image, class_colors(seen.maps["classes", i], labels), heat]
        pictures = [outlined(p, truth == 1, OUTLINE) for p in pictures]
        return Panel(f"{sample.name}: AuPRC {100 * quality[i]:.1f} %", pictures)

    result.worst = [panel(i) for i in order[:shown]]
    result.best = [panel(i) for i in order[::-1][:shown] if i not in order[:shown]]
    return result


def semantic_panels(
    predict: Predicts, frames: Frames, frame_miou: Sequence[float], shown: int = 3
) -> dict[str, list[Panel]]:
    """``best`` and ``worst`` frames by mIoU: picture, prediction, ground truth, mistakes in red."""
    order = [int(i) for i in np.argsort(frame_miou) if np.isfinite(frame_miou[i])]

    def panel(i: int) -> Panel:
        sample = frames[i]
        classes = predict(sample)[0]
        wrong = (classes != sample.labels) & (sample.labels < len(predict.labels))
        mistakes = np.where(wrong[..., None], np.array([211, 47, 47], np.uint8), sample.image // 2)
        colored = [class_colors(ids, predict.labels) for ids in (classes, sample.labels)]
        return Panel(f"{sample.name}: mIoU {frame_miou[i]:.1f} %", [sample.image, *colored, mistakes])

    worst, best = order[:shown], [i for i in order[::-1][:shown] if i not in order[:shown]]
    return {"worst": [panel(i) for i in worst], "best": [panel(i) for i in best]}


def outlined(picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """A copy of an RGB picture with the mask's contour drawn on it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thick = max(1, round(picture.shape[0] / 240))
    return cv2.drawContours(picture.copy(), contours, -1, color, thick)
