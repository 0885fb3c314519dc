# SPDX-License-Identifier: MIT
"""A second look: the network sees once more, at another scale, what is about to raise an alert.

Where the first look is wrong, the second, with other patches over other surroundings, is seldom wrong in the
same way; what both see stays. A network that runs smaller than it was trained looks from closer, where things
have the size they had in training; one that runs as trained looks from farther, for they could only be larger
than that. What this does to alerts is measured in docs/alert_quality.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .pipeline import Picture

ZOOM = 2.0      # how much closer it looks, at most
BEYOND = 1.25   # how much larger than in training it may see things; no closer than so much is not worth it
FARTHER = 0.53  # then it sees the whole image this much smaller: at 252 px where it runs at 476
MARGIN = 2.0    # a window is so many times as large as what it is about
MOST = 4        # windows from closer of an image; what is in none keeps its first value
STEPS = 8       # their heights are multiples of the largest / STEPS: the engine meets few sizes

Box = tuple[int, int, int, int]   # x, y, width, height, px


def zoom(short_side: int, trained_side: int) -> float:
    """How much larger the second look sees things, for a network that runs at one short side (px) and was
    trained at another: above 1 from closer, below 1 from farther."""
    closer = min(ZOOM, BEYOND * trained_side / short_side)
    return closer if closer > BEYOND else FARTHER


def look_again(engine: Any, image: Picture, anomaly: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The anomaly map float32 [H,W], averaged in a window around each box with what the network sees there.

    engine: `Engine`. image: uint8 [H,W,3], the one that `anomaly` [H,W] is of; both stay as they are.
    boxes: px, the most important first. Raises as `Engine.infer`. The same map where `engine.zoom` is 1.
    """
    if engine.zoom == 1.0:
        return anomaly
    look = _from_closer if engine.zoom > 1.0 else _from_farther
    again = look(engine, image, boxes, *anomaly.shape)    # [H,W], -1 where it did not look
    return np.where(again < 0, anomaly, (anomaly + again) / 2)


def _from_closer(engine: Any, image: Picture, boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    places = windows(boxes, height, width, engine.zoom, engine.aspect)
    crops = [image[y:y + h, x:x + w] for x, y, w, h in places]
    crops = [np.ascontiguousarray(crop) if isinstance(crop, np.ndarray) else crop.contiguous()
             for crop in crops]
    again = np.full((height, width), -1.0, np.float32)
    for (x, y, w, h), crop in zip(places, crops):
        part = again[y:y + h, x:x + w]
        seen = engine.infer([crop])[0].anomaly    # one a pass: where the image fitted into memory, this does
        np.maximum(part, seen, out=part)          # two windows over a pixel: the higher one
    return again


def _from_farther(engine: Any, image: Picture, boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    again, seen = np.full((height, width), -1.0, np.float32), engine.infer_farther(image).anomaly
    for x, y, w, h in boxes:
        right, down = (round((MARGIN - 1) / 2 * extent) for extent in (w, h))
        around = np.s_[max(0, y - down):y + h + down, max(0, x - right):x + w + right]
        again[around] = seen[around]
    return again


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


def boxes_of_all_windows(height: int, width: int, closer: float = ZOOM, aspect: float = 1.0) -> list[Box]:
    """A box for each size of window that `windows` can give, the largest last."""
    largest = min(height, width / aspect)
    heights = [int(largest * step / STEPS / MARGIN) for step in range(math.ceil(STEPS / closer), STEPS + 1)]
    return [(0, 0, max(1, int(high * aspect)), max(1, high)) for high in heights]


def _inside(box: Box, window: Box) -> bool:
    return all(outer <= inner and inner + extent <= outer + side
               for inner, extent, outer, side in zip(box[:2], box[2:], window[:2], window[2:]))
