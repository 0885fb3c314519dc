# SPDX-License-Identifier: MIT
"""The maps of one frame: whether they are well-formed, a smaller copy, and the higher of two."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def check_maps(class_map: np.ndarray, anomaly: np.ndarray,
               ignore_mask: np.ndarray | None) -> np.ndarray | None:
    """Raise ValueError unless they are as `Monitor.update` wants them; return the ignore mask as bool."""
    for name, array, dtype in (("class_map", class_map, np.uint8), ("anomaly", anomaly, np.float32)):
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 2 or not array.size:
            raise ValueError(f"{name} must be a {np.dtype(dtype)} array [H, W], got {_described(array)}")
    if anomaly.shape != class_map.shape:
        raise ValueError(f"anomaly is {anomaly.shape} and class_map {class_map.shape}; "
                         f"give both the same shape")
    if ignore_mask is None:
        return None
    if not isinstance(ignore_mask, np.ndarray) or ignore_mask.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"ignore_mask must be bool or uint8, got {_described(ignore_mask)}")
    if ignore_mask.shape != class_map.shape:
        raise ValueError(f"ignore_mask is {ignore_mask.shape} and the image {class_map.shape}; "
                         f"give a mask of the image's size")
    return ignore_mask.astype(bool)


def reduced(class_map: np.ndarray, anomaly: np.ndarray, ignore: np.ndarray | None,
            process_width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Reduce the maps to at most `process_width` columns; class by centre pixel, anomaly by mean.

    A pixel that holds any of the vehicle is ignored: the mean of its anomaly would not be the road's alone.
    """
    class_map, anomaly = np.ascontiguousarray(class_map), np.ascontiguousarray(anomaly)  # no flips
    height, width = class_map.shape
    if width <= process_width:
        return class_map, anomaly, ignore
    size = (process_width, max(1, round(height * process_width / width)))  # cv2: (columns, rows)
    class_map = cv2.resize(class_map, size, interpolation=cv2.INTER_NEAREST_EXACT)
    anomaly = cv2.resize(anomaly, size, interpolation=cv2.INTER_AREA)
    if ignore is not None:
        ignore = cv2.resize(ignore * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 0
    return class_map, anomaly, ignore


def at_least(again: np.ndarray, first: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """The map `again`, but in the boxes nowhere below `first`."""
    kept = again.copy() if boxes else again
    for x, y, width, height in boxes:
        part = np.s_[y:y + height, x:x + width]
        np.maximum(again[part], first[part], out=kept[part])
    return kept


def _described(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
