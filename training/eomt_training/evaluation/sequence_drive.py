# SPDX-License-Identifier: MIT
"""A rendered drive and its kept maps through the rules that make alerts of them."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from eomt_anomaly.alerts import MonitorParams
from eomt_anomaly.alerts.ground_plane import CameraModel
from eomt_anomaly.alerts.monitor import LookAgain
from eomt_anomaly.runtime import Engine

from ..data.sequences import OBSTACLE, SPECK_PX, Sequence
from .sequence_maps import Maps
from .sequence_replay import Replay, replay
from .sequence_scores import matched

REFERENCE = "eomt_ext"


def drive(
    s: Sequence,
    maps: Maps,
    score: str,
    knots: dict[str, list[float]],
    params: MonitorParams,
    every: int,
    engine: Engine | None = None,
) -> Replay:
    """One drive through the Monitor, with its camera's calibration.

    knots: of each score its `quantiles`, on whose scales all but `REFERENCE` are brought. every: frames are
    every n-th of the drive. engine: looks again where an alert begins; None: nothing does.
    """
    camera = CameraModel(
        width=s.about["size"][0],
        height=s.about["size"][1],
        K=np.array(s.about["K"]),
        height_m=s.about["height_m"],
        pitch_rad=s.about["pitch_rad"],
    )

    def scaled(values: np.ndarray) -> np.ndarray:
        return values if score == REFERENCE else matched(values, knots[score], knots[REFERENCE])

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        classes, values = maps.read(i, score)
        return classes, scaled(values)

    def look_again(i: int) -> LookAgain | None:
        if engine is None:
            return None

        @cache  # the rules without memory ask about the same boxes
        def look(boxes: tuple[tuple[int, int, int, int], ...]) -> np.ndarray:
            return scaled(engine.look_again(s.image(i), maps.read(i, score)[1], boxes))

        return lambda boxes: look(tuple(boxes))

    def truth(i: int) -> tuple[list, list]:
        labels, seen = s.labels(i), s.visible(i)
        known = {o.obstacle for o in seen}
        masks = (
            (labels == OBSTACLE + o["id"]).astype(np.uint8)
            for o in s.about["obstacles"]
            if o["id"] not in known
        )
        return seen, [cv2.boundingRect(mask) for mask in masks if 0 < mask.sum() < SPECK_PX]

    on_road = {o["id"]: o["on_road"] for o in s.about["obstacles"]}
    rate_hz, indices = s.about["rate_hz"] / every, range(0, len(s), every)
    return replay(params, read, truth, camera, indices, rate_hz, s.name, on_road, look_again)
