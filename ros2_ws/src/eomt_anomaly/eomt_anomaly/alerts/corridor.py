# SPDX-License-Identifier: MIT
"""The corridor: the part of the picture where an obstacle means STOP."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .ground_plane import CameraModel

MODES = ("auto", "ground", "image")
GRID_COLUMNS = 320  # about as many rays across are followed to the ground


@dataclass(frozen=True, kw_only=True)
class Corridor:
    """The vehicle's path, on the ground in metres or in the picture as a polygon.

    mode: "ground" uses the metres and needs a usable CameraModel. "image" uses the polygon. "auto" is
        "ground" where a usable CameraModel is given and "image" where not. Where "ground" has no usable
        CameraModel, or its metres lie outside the picture (a pitch of the wrong sign), the whole picture
        is the corridor: the cautious reading.
    half_width_m: half the corridor's width, metres, (0, 50].
    length_m: how far ahead of the camera it reaches, metres, (0, 500].
    polygon: at least 3 corners (u, v) relative to the picture's width and height, each in [0, 1].
    """

    mode: str = "auto"
    half_width_m: float = 1.5
    length_m: float = 30.0
    polygon: tuple[tuple[float, float], ...] = ((0.42, 0.5), (0.58, 0.5), (0.85, 1.0), (0.15, 1.0))

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"corridor mode is {self.mode!r}; choose one of {', '.join(MODES)}")
        if not 0 < self.half_width_m <= 50:
            raise ValueError(f"corridor half_width_m is {self.half_width_m}; give metres in (0, 50]")
        if not 0 < self.length_m <= 500:
            raise ValueError(f"corridor length_m is {self.length_m}; give metres in (0, 500]")
        corners = np.asarray(self.polygon, dtype=float)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
            raise ValueError(f"corridor polygon is {self.polygon}; give at least three (u, v) corners")
        if not ((corners >= 0) & (corners <= 1)).all():
            raise ValueError(f"corridor polygon is {self.polygon}; u and v are relative: give them in [0, 1]")
        if abs(cv2.contourArea(corners.astype(np.float32))) < 1e-4:
            raise ValueError(f"corridor polygon is {self.polygon}: it has no area; give the corners in order")

    def mask(self, shape: tuple[int, int], camera: CameraModel | None) -> np.ndarray:
        """Rasterise for a picture of `shape` (rows, columns), which may be a reduced copy of the camera's.

        Returns bool [rows, columns], True inside. On the ground this takes about 0.1 s: keep the result.
        """
        usable = camera if camera is not None and camera.problem is None else None
        if self.mode == "image" or (self.mode == "auto" and usable is None):
            return self._image_mask(shape)
        everywhere = np.ones(shape, bool)
        mask = everywhere if usable is None else self._ground_mask(shape, usable)
        return mask if mask.any() else everywhere

    def _image_mask(self, shape: tuple[int, int]) -> np.ndarray:
        rows, columns = shape
        corners = np.asarray(self.polygon) * (columns, rows) - 0.5  # px, pixel centres at integers
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
        return mask.astype(bool)

    def _ground_mask(self, shape: tuple[int, int], camera: CameraModel) -> np.ndarray:
        reduction = max(1, round(shape[1] / GRID_COLUMNS))
        rows, columns = (-(-side // reduction) for side in shape)
        v, u = np.mgrid[0:rows, 0:columns]  # centres of the grid's cells, in the camera's pixels:
        u = (u + 0.5) * (camera.width / columns) - 0.5
        v = (v + 0.5) * (camera.height / rows) - 0.5
        ground = camera.ground_points(np.stack([u, v], axis=-1).reshape(-1, 2)).reshape(rows, columns, 3)
        x, y = ground[..., 0], ground[..., 1]  # NaN above the horizon, which compares as False
        inside = (x > 0) & (x <= self.length_m) & (abs(y) <= self.half_width_m)
        mask = cv2.resize(inside.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return mask.astype(bool)
