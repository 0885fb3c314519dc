# SPDX-License-Identifier: MIT
"""The alert threshold of a checkpoint, and what it promises."""

from __future__ import annotations

import math
from typing import Any

from ..metrics.anomaly import PixelMetrics
from ..metrics.conformal import control_risk
from .frames import Frames, anomaly_truth
from .predictor import Predicts
from .semantic import Progress

LOWEST = 1e-6  # the node takes none below
SINGLE_QUERY = 1 - math.exp(-0.9)  # eomt_ext where one query alone is 95 % sure of its mask and of P(anomaly)
METHOD = "conformal risk control of the share of normal pixels that fire in a frame"
METHOD_TOO_FEW = "lowest threshold that at most the wanted share of normal pixels reaches"
METHOD_CAPPED = "highest threshold that a single sure query still reaches"


def normal_scores(predict: Predicts, frames: Frames, progress: Progress = iter) -> PixelMetrics:
    """Counts of the published eomt_ext score over the known pixels of frames as they are (calibration)."""
    metrics = PixelMetrics()
    for i in progress(range(len(frames))):
        sample = frames[i]
        metrics.update(predict(sample, ("eomt_ext",))[1]["eomt_ext"], anomaly_truth(sample.labels))
    return metrics


def calibration(metrics: PixelMetrics, rate: float) -> dict[str, Any]:
    """Threshold on eomt_ext for a wanted false-positive rate in (0,1), with the guarantee it carries.

    Rates are shares of a frame's normal pixels in [0,1]; see `metrics.conformal`.
    It is at most `SINGLE_QUERY`: above, an obstacle that only one query finds would never raise anything,
    and that is worse than a false alert. The rate is then not kept, and the result says so.
    """
    chosen = control_risk(metrics.normal, rate, SINGLE_QUERY)
    if chosen.capped:
        promise = (
            f"none: {rate:g} would take a higher threshold, but an obstacle that a single query finds would "
            "then raise nothing: train against what fires on these frames"
        )
    else:
        promise = (
            f"on a new frame drawn like the {chosen.frames} calibration frames (exchangeable with them), the "
            "expected share of normal pixels at or above the threshold is at most "
            f"{chosen.guaranteed_rate:.4g}"
        )
    if not chosen.within_target and not chosen.capped:
        needed = math.ceil(1 / rate - 1)
        promise += (
            f"; {chosen.frames} frames are too few to guarantee {rate:g}, which takes at least {needed}: the "
            "threshold keeps it on the calibration frames themselves"
        )
    return {
        "score": "eomt_ext",
        "threshold": max(chosen.threshold, LOWEST),
        "method": METHOD_CAPPED if chosen.capped else METHOD if chosen.within_target else METHOD_TOO_FEW,
        "false_positive_rate": rate,
        "calibration_rate": chosen.mean_rate,
        "guaranteed_rate": chosen.guaranteed_rate,
        "within_target": chosen.within_target,
        "guarantee": promise,
        "frames": chosen.frames,
    }


def thresholds(metrics: PixelMetrics, rate: float) -> list[str]:
    """What rates around ``rate`` would give, "--fpr 0.002: 0.587": a small step can be a large one here.

    Left out is what so few frames cannot guarantee: its threshold is chosen in another way.
    """
    rates = [float(f"{factor * rate:.3g}") for factor in (0.5, 0.75, 1.25, 1.5, 2)]
    found = {other: calibration(metrics, other) for other in rates if other < 1}
    return [
        f"--fpr {other:g}: {one['threshold']:.4g}" + " (capped)" * (one["method"] == METHOD_CAPPED)
        for other, one in found.items()
        if one["method"] != METHOD_TOO_FEW
    ]


def beside(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The contents of calibration.json with a new calibration in the place of that of its short side.

    The first one stays the first; those of other weights or another score are left out.
    """
    kept = [before, *before.get("other_sizes", [])] if before else []
    kept = [one for one in kept if all(one.get(k) == new[k] for k in ("weights_sha256", "score"))]
    sizes = {one["short_side"]: one for one in kept if "short_side" in one} | {new["short_side"]: new}
    first, *others = ({k: v for k, v in one.items() if k != "other_sizes"} for one in sizes.values())
    return first | ({"other_sizes": others} if others else {})
