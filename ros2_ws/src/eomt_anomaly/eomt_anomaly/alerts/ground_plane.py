# SPDX-License-Identifier: MIT
"""Where on flat ground a pixel lies, from the camera's calibration, its height and its pitch."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .lens import COEFFICIENTS, straight_rays, viewing_rays

MIN_DEPRESSION = 1e-3  # sine of the smallest angle below the horizon that gives a position (0.06 degrees)


@dataclass(frozen=True, eq=False, kw_only=True)
class CameraModel:
    """A calibrated camera above flat ground.

    width, height: size in pixels of the images the calibration (and `ground_points`) speaks of.
    K: 3x3 intrinsic matrix, row-major or nested. For rectified images give the left 3x3 of CameraInfo's P.
    D: distortion coefficients, empty for none; ignored when `rectified`.
    distortion_model: "plumb_bob", "rational_polynomial" or "equidistant" (fisheye), as in CameraInfo.
    rectified: True when the images are already free of distortion.
    R: 3x3 rectification rotation (camera to rectified frame), used when `rectified`; identity for a single
        camera.
    height_m: the camera's height above the ground, metres, > 0.
    whole: left, top, right and bottom edge, in these images' pixels, of the picture that they are a part of
        (a region of interest); None: they are the whole. The optical axis must lie in it.
    pitch_rad: downward tilt of the optical axis, radians; positive looks down (rotation about y left,
        REP 103).

    Points are in the base frame: x forward, y left, z up (REP 103), its origin on the ground below the
    camera.

    A calibration that cannot be used (an uncalibrated camera has a K of zeros) never raises and never gives a
    position: `problem` says what is wrong, and every point is NaN or None.
    """

    width: int
    height: int
    K: np.ndarray
    D: np.ndarray = field(default_factory=lambda: np.empty(0))
    distortion_model: str = "plumb_bob"
    rectified: bool = False
    R: np.ndarray = field(default_factory=lambda: np.eye(3))
    whole: tuple[float, float, float, float] | None = None
    height_m: float = 0.0
    pitch_rad: float = 0.0
    problem: str | None = field(init=False, default=None)

    def __post_init__(self):
        object.__setattr__(self, "K", _square(self.K))
        object.__setattr__(self, "D", np.asarray(self.D, dtype=float).ravel())
        object.__setattr__(self, "R", _square(self.R))
        object.__setattr__(self, "problem", self._find_problem())

    @classmethod
    def from_camera_info(cls, info, *, rectified: bool, height_m: float,
                         pitch_rad: float = 0.0) -> CameraModel:
        """Make one from a sensor_msgs/CameraInfo (or anything with its fields) for the images it comes with.

        Takes K and D for raw images, P and R for rectified ones, and follows the binning and the region of
        interest.
        """
        intrinsic = np.array(info.p if rectified else info.k, dtype=float)
        K = intrinsic.reshape(3, -1)[:, :3].copy() if intrinsic.size in (9, 12) else intrinsic
        across, down = max(1, info.binning_x), max(1, info.binning_y)
        left, top = info.roi.x_offset, info.roi.y_offset
        if K.shape == (3, 3):
            K[0, 2] -= left
            K[1, 2] -= top
            K[0] /= across
            K[1] /= down
        return cls(
            width=(info.roi.width or info.width) // across, height=(info.roi.height or info.height) // down,
            K=K, D=info.d, R=info.r if rectified and np.any(info.r) else np.eye(3), rectified=rectified,
            whole=(-left / across, -top / down, (info.width - left) / across, (info.height - top) / down),
            distortion_model=info.distortion_model, height_m=height_m, pitch_rad=pitch_rad)

    def same_as(self, other: CameraModel | None) -> bool:
        """True when `other` gives the same positions: what was computed for one holds for the other."""
        if other is None or other is self:
            return other is self
        plain = ("width", "height", "distortion_model", "rectified", "height_m", "pitch_rad")
        return (all(getattr(self, name) == getattr(other, name) for name in plain)
                and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in "KDR"))

    def ground_point(self, u: float, v: float) -> tuple[float, float, float] | None:
        """Position (x, y, 0) in metres of the ground seen at pixel (u, v); None at or above the horizon."""
        x, y, z = self.ground_points(np.array([[u, v]], dtype=float))[0].tolist()
        return None if any(map(math.isnan, (x, y, z))) else (x, y, z)

    def ground_points(self, pixels: np.ndarray) -> np.ndarray:
        """Positions [N, 3] in metres of the ground seen at `pixels` [N, 2] (u, v; pixel centres at integers).

        A row is NaN where there is none: at or above the horizon, outside the lens model, unusable
        calibration.
        """
        pixels = np.asarray(pixels, dtype=float)
        if self.problem is not None:
            return np.full((len(pixels), 3), np.nan)
        right, down, ahead = self._rays(pixels).T  # each [N], unit length, optical frame
        cosine, sine = np.cos(self.pitch_rad), np.sin(self.pitch_rad)
        forward = ahead * cosine - down * sine
        below = ahead * sine + down * cosine  # sine of the angle below the horizon
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.where(below > MIN_DEPRESSION, self.height_m / below, np.nan)
        return np.stack([forward * scale, -right * scale, 0 * scale], axis=-1)

    def _rays(self, pixels: np.ndarray) -> np.ndarray:
        """Unit viewing rays [N, 3] (x right, y down, z ahead); NaN where the lens model has none."""
        if self.rectified:
            return straight_rays(pixels, self.K) @ self.R  # row vectors: ray @ R is R transposed @ ray
        return viewing_rays(pixels, self.K, self.D, self.distortion_model)

    def _find_problem(self) -> str | None:
        if self.K.shape != (3, 3) or not np.isfinite(self.K).all():
            return f"K must be 3x3 and finite, got shape {self.K.shape}; calibrate the camera"
        fx, fy, cx, cy = self.K[0, 0], self.K[1, 1], self.K[0, 2], self.K[1, 2]
        if not (fx > 0 and fy > 0):
            return f"focal lengths are fx={fx:g}, fy={fy:g}: the camera is not calibrated; calibrate it"
        if abs(self.K[2] - (0, 0, 1)).max() > 1e-6 or self.K[1, 0] != 0:
            return "K is not an intrinsic matrix (its last row must be 0 0 1); calibrate the camera"
        if not (self.width > 0 and self.height > 0):
            return f"image size is {self.width}x{self.height}; CameraInfo must carry the images' size"
        left, top, right, bottom = self.whole or (0, 0, self.width, self.height)
        if not (left <= cx <= right and top <= cy <= bottom):
            return f"principal point ({cx:g}, {cy:g}) is outside {right - left:g}x{bottom - top:g}: wrong K"
        if self.R.shape != (3, 3) or not np.allclose(self.R @ self.R.T, np.eye(3), atol=1e-3):
            return f"R is not a rotation: {self.R.tolist()}; calibrate the camera"
        if not self.rectified and (self.distortion_model or self.D.any()):
            lengths = COEFFICIENTS.get(self.distortion_model)
            if lengths is None:
                known = ", ".join(COEFFICIENTS)
                return f"distortion model {self.distortion_model!r} is unknown; use one of {known}"
            if len(self.D) not in lengths or not np.isfinite(self.D).all():
                counts = " or ".join(map(str, lengths[1:]))
                return f"{self.distortion_model} needs {counts} finite coefficients, got {self.D.tolist()}"
        if not (np.isfinite(self.height_m) and self.height_m > 0):
            return f"camera height is {self.height_m} m; set the camera's height above the ground in metres"
        if not abs(self.pitch_rad) <= np.pi / 2:
            return f"camera pitch is {self.pitch_rad} rad; set radians in [-pi/2, pi/2], positive down"
        return None


def _square(values) -> np.ndarray:
    """As float [3, 3] where there are nine values; otherwise in the shape given, for `problem` to refuse."""
    values = np.asarray(values, dtype=float)
    return values.reshape(3, 3) if values.size == 9 else values
