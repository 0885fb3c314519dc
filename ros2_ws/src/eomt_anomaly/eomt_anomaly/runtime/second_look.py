# SPDX-License-Identifier: MIT
"""A second look: the network sees once more, from closer, what is about to raise an alert.

Where the first look is wrong, the second, with other patches over other surroundings, is seldom wrong in the
same way; what both see stays. It helps a network that runs smaller than it was trained: from closer it sees
things at the size they had in training. What that does to alerts is measured in docs/alerts.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .pipeline import Picture

ZOOM = 2.0     # how much closer it looks, at most
BEYOND = 1.25  # how much larger than in training it may see things; for no more than that it does not look
MARGIN = 2.0   # a window is so many times as large as what it is about
MOST = 4       # windows of an image; what is in none keeps its first value
STEPS = 8      # heights of windows are multiples of the largest / STEPS: the engine meets few sizes

Box = tuple[int, int, int, int]   # x, y, width, height, px


def zoom(short_side: int, trained_side: int) -> float:
    """How much closer the second look is for a network that runs at one short side (px) and was trained at
    another; 1.0: there is none."""
    closer = min(ZOOM, BEYOND * trained_side / short_side)
    return closer if closer > BEYOND else 1.0


def look_again(engine: Any, image: Picture, anomaly: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The anomaly map float32 [H,W], averaged in a window around each box with what the network sees there.

    engine: `Engine`. image: uint8 [H,W,3], the one that `anomaly` [H,W] is of; both stay as they are.
    boxes: px, the most important first. Raises as `Engine.infer`. The same map where `engine.zoom` is 1.
    """
    if engine.zoom == 1.0:
        return anomaly
    places = windows(boxes, anomaly.shape[0], anomaly.shape[1], engine.zoom, engine.aspect)
    crops = [image[y:y + height, x:x + width] for x, y, width, height in places]
    crops = [np.ascontiguousarray(crop) if isinstance(crop, np.ndarray) else crop.contiguous()
             for crop in crops]
    again = np.full(anomaly.shape, -1.0, np.float32)      # [H,W], -1 where it did not look
    for (x, y, width, height), prediction in zip(places, engine.infer(crops)):
        part = again[y:y + height, x:x + width]
        np.maximum(part, prediction.anomaly, out=part)    # two windows over a pixel: the higher one
    return np.where(again < 0, anomaly, (anomaly + again) / 2)


def windows(boxes: Sequence[Box], height: int, width: int, closer: float = ZOOM,
            aspect: float = 1.0) -> list[Box]:
    """At most `MOST` windows of an image of `height` x `width` px, each box inside one of them.

    aspect: width / height of a window. It is `MARGIN` times as large as its box, at least 1 / `closer` of the
    largest that the image has room for, and at most that one: then a box may reach out of it.
    """
    largest = min(height, width / aspect)                 # height of a window, px
    found: list[Box] = []
    for box in boxes:
        if len(found) == MOST or any(_inside(box, window) for window in found):
            continue
        x, y, w, h = box
        wanted = max(largest / closer, MARGIN * max(h, w / aspect))
        high = min(largest, math.ceil(STEPS * wanted / largest) * largest / STEPS)
        size = max(1, int(high * aspect)), max(1, int(high))
        left, top = (max(0, min(round(start + (extent - side) / 2), end - side))
                     for start, extent, side, end in zip((x, y), (w, h), size, (width, height)))
        found.append((left, top, *size))
    return found


def _inside(box: Box, window: Box) -> bool:
    return all(outer <= inner and inner + extent <= outer + side
               for inner, extent, outer, side in zip(box[:2], box[2:], window[:2], window[2:]))
