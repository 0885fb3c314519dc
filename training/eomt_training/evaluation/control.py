# SPDX-License-Identifier: MIT
"""What pasting alone does to the score: ordinary segments of other frames, which are no anomaly."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..data.datamodule import CONTROL_CLASSES
from ..data.paste import paste_control
from ..targets import IGNORE
from .frames import Frames
from .predictor import Predicts
from .semantic import Progress


def evaluate_control(
    predict: Predicts,
    frames: Frames,
    threshold: float,
    seed: int,
    progress: Progress = iter,
    class_ids: Sequence[int] = CONTROL_CLASSES,
    surface_ids: Sequence[int] = (3, 4),
) -> dict[str, float]:
    """Share of pixels (in %) at or above ``threshold`` on ordinary segments that were pasted.

    A detector of paste edges fires on ``pasted``; ``around`` is the rest of the same frames, ``before`` the
    same place without the paste. Each pasted segment comes from another frame, is of
    ``class_ids``, keeps its class and stands on ``surface_ids``.
    ``excess`` is pasted - around in percentage points, with its 95 % interval when pastes are drawn again.
    """
    hits: list[list[int]] = []  # a row a paste: pixels that fire, pasted | around | before
    pixels: list[list[int]] = []
    for i in progress(range(len(frames))):
        rng = np.random.default_rng((seed, i))
        other = frames[int((i + rng.integers(1, len(frames))) % len(frames))]
        sample, pasted = paste_control(frames[i], other, rng, class_ids, surface_ids=surface_ids)
        if not pasted.any():
            continue
        score = predict(sample, ("eomt_ext",))[1]["eomt_ext"]
        clean = predict(frames[i], ("eomt_ext",))[1]["eomt_ext"]
        near = cv2.dilate(pasted.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        regions = [(score, pasted), (score, ~near & (sample.labels != IGNORE)), (clean, pasted)]
        hits.append([int((values[mask] >= threshold).sum()) for values, mask in regions])
        pixels.append([int(mask.sum()) for _, mask in regions])
    if not hits:
        raise ValueError(f"no ordinary segment could be pasted into any of the {len(frames)} frames")
    fired, total = np.array(hits), np.array(pixels)  # [N,3]
    pasted_share, around_share, before_share = 100 * fired.sum(0) / total.sum(0)
    draws = np.random.default_rng(seed).integers(len(hits), size=(1000, len(hits)))
    shares = 100 * fired[draws].sum(1) / total[draws].sum(1)  # [1000,3]
    low, high = np.quantile(shares[:, 0] - shares[:, 1], [0.025, 0.975])
    return {
        "pastes": len(hits),
        "threshold": threshold,
        "pasted": float(pasted_share),
        "around": float(around_share),
        "before": float(before_share),
        "excess": float(pasted_share - around_share),
        "excess_low": float(low),
        "excess_high": float(high),
    }
