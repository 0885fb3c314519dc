# SPDX-License-Identifier: MIT
"""How far one contestant's maps are from those of the fp32 exact reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..pipeline import Prediction


def agreement(reference: Sequence[Prediction], found: Sequence[Prediction]) -> dict[str, float]:
    """Over all images: pixels of the same class, %, and absolute differences of the published anomaly [0,1).

    Raises ValueError where a map is missing or has another size.
    """
    if [p.class_map.shape for p in reference] != [p.class_map.shape for p in found]:
        raise ValueError("the maps have other sizes than the reference's")
    same = np.concatenate([(a.class_map == b.class_map).ravel() for a, b in zip(reference, found)])
    apart = np.concatenate([np.abs(a.anomaly - b.anomaly).ravel() for a, b in zip(reference, found)])
    return {
        "argmax_percent": 100 * float(same.mean()),
        "anomaly_max_abs": float(apart.max()),
        "anomaly_mean_abs": float(apart.mean()),
    }
