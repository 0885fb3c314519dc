# SPDX-License-Identifier: MIT
"""The drivable surface in a class map, with the holes that obstacles punch into it filled, and its rim."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Surface:
    """Where the vehicle may drive.

    labelled: bool [h, w], the pixels that are not ignored and whose own class is drivable.
    inner: bool [h, w], these, closed and filled.
    rimmed: bool [h, w], `inner` and its rim.
    fraction: share in [0, 1] of the pixels that are not ignored that are labelled.
    """

    labelled: np.ndarray
    inner: np.ndarray
    rimmed: np.ndarray
    fraction: float


def drivable_surface(class_map: np.ndarray, drivable_ids: tuple[int, ...], rim_px: int,
                     ignore: np.ndarray | None = None) -> Surface:
    """Find the surface in `class_map` (uint8 [h, w]).

    An obstacle's own pixels get arbitrary classes, so the labelled road has a hole where it stands. Cracks up
    to the rim's width are closed, enclosed holes filled, and the road is taken to go on below the picture's
    bottom edge, which closes the notch of an obstacle that this edge cuts. An obstacle that hides the far end
    of the road leaves no hole: its foot touches the road, and the rim (`rim_px` wide) holds the foot.

    `ignore` (bool [h, w], the vehicle itself) counts as road for filling, and as nothing afterwards.
    """
    lookup = np.zeros(256, np.uint8)
    lookup[list(drivable_ids)] = 1
    road = cv2.LUT(class_map, lookup)  # uint8 [h, w], 1 = a drivable class
    labelled, seen = road.astype(bool), road.size
    if ignore is not None:
        labelled &= ~ignore
        seen = max(int((~ignore).sum()), 1)
        road[ignore] = 1

    closed = 1 - _dilated(1 - _dilated(road, rim_px), rim_px)
    inner = _filled(_bridged_below(closed))[:-1]
    if ignore is not None:
        inner[ignore] = 0
    rimmed = _dilated(inner, rim_px)
    if ignore is not None:
        rimmed[ignore] = 0
    return Surface(labelled, inner.astype(bool), rimmed.astype(bool), np.count_nonzero(labelled) / seen)


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Grow the mask (uint8 0/1) by `radius` pixels; the cost does not depend on the radius."""
    if not mask.any():
        return mask  # the distance to nothing is not defined
    return (cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3) <= radius).astype(np.uint8)


def _bridged_below(road: np.ndarray) -> np.ndarray:
    """Add a row below the picture [h + 1, w], drivable between the ends of the last row's drivable pixels."""
    taller = cv2.copyMakeBorder(road, 0, 1, 0, 0, cv2.BORDER_CONSTANT, value=0)
    columns = np.flatnonzero(road[-1])
    if columns.size:
        taller[-1, columns[0]:columns[-1] + 1] = 1
    return taller


def _filled(mask: np.ndarray) -> np.ndarray:
    """Fill every hole that the mask (uint8 0/1) encloses."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED)
