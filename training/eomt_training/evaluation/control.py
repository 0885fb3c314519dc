# SPDX-License-Identifier: MIT
"""What pasting alone does to the score: ordinary segments of other frames, which are no anomaly."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..data.datamodule import CONTROL_CLASSES
from ..data.paste import paste_control
from ..metrics.anomaly import PixelMetrics
from ..metrics.curves import medians
from ..targets import IGNORE, OUTLIER
from .frames import Frames, anomaly_truth
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
    tpr95: float | None = None,
) -> dict[str, float]:
    """Share of pixels (in %) at or above ``threshold`` on ordinary segments that were pasted.

    A detector of paste edges fires on ``pasted``; ``around`` is the rest of the same frames, ``before`` the
    same place without the paste, both without outliers of the frames' own. Each pasted segment comes from
    another frame, is of ``class_ids``, keeps its class and stands on ``surface_ids``.
    ``excess`` is pasted - around in percentage points, with its 95 % interval when pastes are drawn again.

    The scores themselves: ``median_*`` of the three, on the score's scale, and ``auroc_around``,
    ``auroc_before`` in [0,1], how well the score tells pasted pixels from the others (0.5: not at all).
    ``tpr95``: a threshold, e.g. that which 95 % of unseen objects' pixels reach, at which the three shares
    are also taken (``*_tpr95``, in %).
    """
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frame: segments are pasted from one frame into another, give two")
    hits: list[list[int]] = []  # a row a paste: pixels that fire, pasted | around | before
    pixels: list[list[int]] = []
    to_around, to_before = PixelMetrics(), PixelMetrics()  # anomalous: what was pasted
    for i in progress(range(len(frames))):
        rng = np.random.default_rng((seed, i))
        frame, other = frames[i], frames[int((i + rng.integers(1, len(frames))) % len(frames))]
        sample, pasted = paste_control(frame, other, rng, class_ids, surface_ids=surface_ids)
        if not pasted.any():
            continue
        score = predict(sample, ("eomt_ext",))[1]["eomt_ext"]
        clean = predict(frame, ("eomt_ext",))[1]["eomt_ext"]
        near = cv2.dilate(pasted.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        around = ~near & (anomaly_truth(sample.labels) == 0)
        before = pasted & (frame.labels != OUTLIER)
        regions = [(score, pasted), (score, around), (clean, before)]
        hits.append([int((values[mask] >= threshold).sum()) for values, mask in regions])
        pixels.append([int(mask.sum()) for _, mask in regions])
        to_around.update(score, np.where(pasted, 1, np.where(around, 0, IGNORE)))
        to_before.update(
            np.stack([score, clean]), np.stack([np.where(pasted, 1, IGNORE), np.where(before, 0, IGNORE)])
        )
    if not hits:
        raise ValueError(f"no ordinary segment could be pasted into any of the {len(frames)} frames")
    fired, total = np.array(hits), np.array(pixels)  # [N,3]
    pasted_share, around_share, before_share = 100 * fired.sum(0) / total.sum(0)
    draws = np.random.default_rng(seed).integers(len(hits), size=(1000, len(hits)))
    shares = 100 * fired[draws].sum(1) / total[draws].sum(1)  # [1000,3]
    low, high = np.quantile(shares[:, 0] - shares[:, 1], [0.025, 0.975])
    result = {
        "pastes": len(hits),
        "threshold": threshold,
        "pasted": float(pasted_share),
        "around": float(around_share),
        "before": float(before_share),
        "excess": float(pasted_share - around_share),
        "excess_low": float(low),
        "excess_high": float(high),
        "auroc_around": to_around.compute()["auroc"],
        "auroc_before": to_before.compute()["auroc"],
    }
    result["median_around"], result["median_pasted"] = medians(to_around)
    result["median_before"] = medians(to_before)[0]
    if tpr95 is not None:
        around, at_pasted = to_around.rates_at(tpr95)
        shares_at = {"pasted": at_pasted, "around": around, "before": to_before.rates_at(tpr95)[0]}
        result |= {"threshold_tpr95": tpr95} | {f"{k}_tpr95": 100 * v for k, v in shares_at.items()}
    return result
