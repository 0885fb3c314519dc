# SPDX-License-Identifier: MIT
"""Anomalous regions of one frame: threshold → components → those that lie or stand on the surface."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .surface import Surface

FOOT_SHARE = 0.5      # share of a region's foot that must be on the rim for it to stand there
CORRIDOR_SHARE = 0.1  # share of a region's foot that is enough to be in the corridor


@dataclass(frozen=True)
class Region:
    """One connected anomalous region; pixels are those of the arrays it was found in.

    box: (x, y, width, height), left-top corner and size, px.
    area_px: number of pixels at or above the lower threshold.
    mean_score, peak_score: of the anomaly in [0, 1] over these pixels.
    centroid: (u, v), px.
    contact: (u, v), px, where it meets the ground: the lower edge of its lowest pixels, the middle one of
        them.
    on_drivable: share in [0, 1] of its pixels on the surface or its rim.
    in_corridor: whether it meets the ground inside the corridor.
    strong: whether enough of it lies at or above the upper threshold to start a track.
    """

    box: tuple[int, int, int, int]
    area_px: int
    mean_score: float
    peak_score: float
    centroid: tuple[float, float]
    contact: tuple[float, float]
    on_drivable: float
    in_corridor: bool
    strong: bool


def find_regions(anomaly: np.ndarray, surface: Surface, corridor: np.ndarray, *, threshold: float,
                 leave_threshold: float, min_area_px: float,
                 ignore: np.ndarray | None = None) -> Iterator[Region]:
    """Find the regions that matter, one by one, most important first: all strong ones before the weak ones,
    among these the ones that reach into the corridor first, and then the largest on the surface.

    anomaly: float32 [h, w] in [0, 1]. corridor, ignore: bool [h, w] (ignored pixels are never anomalous).
    A region is a connected component (8 neighbours) of anomaly ≥ leave_threshold with at least `min_area_px`
    pixels; it is strong when at least `min_area_px` of them reach `threshold`. It is kept when
    - at least `min_area_px` of it lie on the filled surface, or
    - it stands on the surface or its rim: at least half of its foot does. The foot is the lowest pixel of
      each of its columns, without those where the picture's edge or the ignored vehicle cuts it; where all of
      it is cut, `min_area_px` of the region on the rim are enough. Or
    - enough of its foot is in the corridor, whatever class the network gives the ground there. Only where
      the corridor is the whole picture, and so says nothing of the ground, must this foot be on the surface
      or its rim.
    It is in the corridor when enough of its foot is: a tenth of its width, or the side of the smallest square
    that counts.
    """
    candidate = (anomaly >= leave_threshold).astype(np.uint8)  # [h, w], 0 or 1
    if ignore is not None:
        candidate[ignore] = 0
    count, labels, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
        candidate, 8, cv2.CV_32S, cv2.CCL_BBDT)
    areas = stats[:, cv2.CC_STAT_AREA]
    if not (areas[1:] >= min_area_px).any():  # as in most frames; label 0 is the background
        return
    on_rim = np.bincount(labels[surface.rimmed], minlength=count)
    on_inner = np.bincount(labels[surface.inner], minlength=count)
    strong = np.bincount(labels[anomaly >= threshold], minlength=count) >= min_area_px
    blocking = surface.rimmed if corridor.all() else corridor  # bool [h, w], where a foot is in the way
    in_way = np.bincount(labels[blocking], minlength=count)
    size = on_rim + in_way
    near = (areas >= min_area_px) & (size > 0)
    near[0] = False

    # Where the picture ends below a pixel, or the vehicle hides what is below, the foot is out of sight.
    hidden_below = np.zeros(anomaly.shape, bool)
    hidden_below[-1] = True
    if ignore is not None:
        hidden_below[:-1] |= ignore[1:]

    for label in sorted(np.flatnonzero(near), key=lambda i: (not strong[i], not in_way[i], -size[i])):
        x, y, width, height = (int(value) for value in stats[label, :4])
        crop = np.s_[y:y + height, x:x + width]
        inside = labels[crop] == label  # bool [height, width]
        foot = height - 1 - inside[::-1].argmax(axis=0)  # [width], row of each column's lowest pixel
        at_foot = (y + foot, x + np.arange(width))
        enough = min(CORRIDOR_SHARE * width, min_area_px ** 0.5)  # columns
        on_foot = surface.rimmed[at_foot][~hidden_below[at_foot]]
        stands = on_foot.mean() >= FOOT_SHARE if on_foot.size else on_rim[label] >= min_area_px
        blocks = blocking[at_foot].sum() >= enough
        if not (stands or blocks or on_inner[label] >= min_area_px):
            continue
        scores = anomaly[crop][inside]
        lowest = np.flatnonzero(foot == height - 1)
        yield Region(
            box=(x, y, width, height),
            area_px=int(areas[label]),
            mean_score=float(scores.mean()),
            peak_score=float(scores.max()),
            centroid=(float(centroids[label, 0]), float(centroids[label, 1])),
            contact=(float(x + lowest[len(lowest) // 2]), y + height - 0.5),
            on_drivable=float(on_rim[label] / areas[label]),
            in_corridor=bool(corridor[at_foot].sum() >= enough),
            strong=bool(strong[label]),
        )


def scaled(region: Region, sx: float, sy: float) -> Region:
    """The same region in a picture `sx` times as wide and `sy` times as high, to a millionth of a pixel."""
    x, y, width, height = region.box
    left, top = int(np.floor(x * sx)), int(np.floor(y * sy))
    right, bottom = (int(np.ceil(round(edge, 6))) for edge in ((x + width) * sx, (y + height) * sy))
    return Region(
        box=(left, top, right - left, bottom - top),
        area_px=max(1, round(region.area_px * sx * sy)),
        mean_score=region.mean_score,
        peak_score=region.peak_score,
        centroid=_scaled_point(region.centroid, sx, sy),
        contact=_scaled_point(region.contact, sx, sy),
        on_drivable=region.on_drivable,
        in_corridor=region.in_corridor,
        strong=region.strong,
    )


def _scaled_point(point: tuple[float, float], sx: float, sy: float) -> tuple[float, float]:
    """Pixel centres are at integers, so the picture's left-top corner is at (-0.5, -0.5)."""
    return round((point[0] + 0.5) * sx - 0.5, 6), round((point[1] + 0.5) * sy - 0.5, 6)
