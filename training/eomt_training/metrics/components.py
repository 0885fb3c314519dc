# SPDX-License-Identifier: MIT
"""Component metrics of SegmentMeIfYouCan (Chan et al., NeurIPS 2021, arXiv 2104.14812, section 4.2).

Does a segmentation find each anomaly, and is what it finds an anomaly? Large objects weigh no more than
small ones, unlike in pixel metrics. Components are 8-connected.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

IGNORE = 255
TAUS = np.arange(25, 80, 5) / 100  # 0.25, 0.30, ..., 0.75


@dataclass(frozen=True)
class MinSize:
    """Pixels below which a component is left out: predicted ones are dropped, true ones become void."""

    predicted: int
    truth: int


TRACKS = {"anomaly": MinSize(500, 100), "obstacle": MinSize(50, 10)}  # the benchmark's two tracks


class ComponentMetrics:
    """sIoU of every true component and PPV of every predicted one, collected image by image."""

    def __init__(self, min_size: MinSize = TRACKS["obstacle"]):
        self.min_size = min_size
        self.siou: list[float] = []
        self.ppv: list[float] = []

    def update(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """predicted bool [H,W] (score >= threshold); labels [H,W]: 0 normal, 1 anomaly, 255 void."""
        if predicted.shape != labels.shape:
            raise ValueError(f"prediction {predicted.shape} and labels {labels.shape} differ in shape")
        truth, small = _components(labels == 1, self.min_size.truth)
        found, _ = _components(predicted & (labels != IGNORE), self.min_size.predicted)
        found[small] = 0  # after sizes and ids, as the benchmark does: what remains is still one component
        siou, ppv = component_scores(found, truth)
        self.siou += siou
        self.ppv += ppv

    def compute(self) -> dict[str, float]:
        """``siou`` and ``ppv`` (means) and ``f1_star`` in [0,1]; NaN where there is no such component.

        F1(tau) = 2 TP / (2 TP + FN + FP): a true component is found where sIoU >= tau, a predicted one is
        false where PPV < tau; F1* is its mean over tau = 0.25, 0.30, ..., 0.75.
        """
        siou, ppv = np.array(self.siou), np.array(self.ppv)
        found, false = (siou >= TAUS[:, None]).sum(1), (ppv < TAUS[:, None]).sum(1)
        f1 = 2 * found / np.maximum(found + len(siou) + false, 1)  # 2 TP + FN + FP = TP + truths + FP
        return {
            "siou": float(siou.mean()) if len(siou) else float("nan"),
            "ppv": float(ppv.mean()) if len(ppv) else float("nan"),
            "f1_star": float(f1.mean()) if len(siou) else float("nan"),
        }


def component_scores(found: np.ndarray, truth: np.ndarray) -> tuple[list[float], list[float]]:
    """sIoU of each true and PPV of each predicted component; both int32 [H,W], 0 background, 1..n ids.

    Predicted ids without a pixel are ignored.

    sIoU(k) = |k n K'| / |(k u K') \\ A|, K' = the predicted components that touch k, A = their pixels on
    other true components: a prediction over two neighbours is no mistake. PPV(k') = |k' n truth| / |k'|.
    """
    shape = int(truth.max()) + 1, int(found.max()) + 1
    pairs = np.bincount((truth.astype(np.int64) * shape[1] + found).ravel(), minlength=shape[0] * shape[1])
    pairs = pairs.reshape(shape)  # [T+1,P+1] pixels; row and column 0: background
    overlap = pairs[1:, 1:]
    true_area, found_area = pairs[1:].sum(1), pairs[:, 1:].sum(0)
    touching = overlap > 0
    on_background = touching @ pairs[0, 1:]  # [T] pixels of K' on no true component at all
    siou = overlap.sum(1) / np.maximum(true_area + on_background, 1)
    there = found_area > 0
    return siou.tolist(), (overlap.sum(0)[there] / found_area[there]).tolist()


def _components(mask: np.ndarray, min_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [H,W] of components of at least ``min_size`` px, numbered 1..n; mask of the smaller ones."""
    count, ids, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= min_size
    large[0] = False
    numbers = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return numbers[ids], mask & ~large[ids]
