# SPDX-License-Identifier: MIT
"""Where on flat ground a pixel lies, from the camera's calibration, its height and its pitch."""
from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

# Accepted lengths of D for each distortion model of sensor_msgs/CameraInfo.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4)}
MAX_REPROJECTION_PX = 0.1
MIN_DEPRESSION = 1e-3  # sine of the smallest angle below the horizon that still gives a position (0.06 degrees)


@dataclass(frozen=True, eq=False, kw_only=True)
class CameraModel:
    """A calibrated camera above flat ground.

    width, height: size in pixels of the images the calibration (and `ground_points`) speaks of.
    K: 3x3 intrinsic matrix, row-major or nested. For rectified images give the left 3x3 of CameraInfo's P.
    D: distortion coefficients, empty for none; ignored when `rectified`.
    distortion_model: "plumb_bob", "rational_polynomial" or "equidistant" (fisheye), as in CameraInfo.
    rectified: True when the images are already free of distortion.
    height_m: the camera's height above the ground, metres, > 0.
    pitch_rad: downward tilt of the optical axis, radians; positive looks down (rotation about y left, REP 103).

    Points are in the base frame: x forward, y left, z up (REP 103), its origin on the ground below the camera.

    A calibration that cannot be used (an uncalibrated camera has a K of zeros) never raises and never gives a
    position: `problem` says what is wrong, and every point is NaN or None.
    """

    width: int
    height: int
    K: np.ndarray
    D: np.ndarray = ()
    distortion_model: str = "plumb_bob"
    rectified: bool = False
    height_m: float = 0.0
    pitch_rad: float = 0.0
    problem: str | None = field(init=False, default=None)

    def __post_init__(self):
        object.__setattr__(self, "K", np.asarray(self.K, dtype=float))
        object.__setattr__(self, "D", np.asarray(self.D, dtype=float).ravel())
        if self.K.size == 9:
            object.__setattr__(self, "K", self.K.reshape(3, 3))
        object.__setattr__(self, "problem", self._find_problem())

    def same_as(self, other: CameraModel | None) -> bool:
        """True when `other` gives the same positions: what was computed for one holds for the other."""
        return other is self or (
            other is not None
            and (self.width, self.height, self.distortion_model, self.rectified, self.height_m, self.pitch_rad)
            == (other.width, other.height, other.distortion_model, other.rectified, other.height_m, other.pitch_rad)
            and np.array_equal(self.K, other.K, equal_nan=True)
            and np.array_equal(self.D, other.D, equal_nan=True)
        )

    def ground_point(self, u: float, v: float) -> tuple[float, float, float] | None:
        """Position (x, y, 0) in metres of the ground seen at pixel (u, v); None at or above the horizon."""
        point = self.ground_points(np.array([[u, v]], dtype=float))[0]
        return None if np.isnan(point).any() else tuple(float(value) for value in point)

    def ground_points(self, pixels: np.ndarray) -> np.ndarray:
        """Positions [N, 3] in metres of the ground seen at `pixels` [N, 2] (u, v; pixel centres at integers).

        A row is NaN where there is none: at or above the horizon, outside the lens model, unusable calibration.
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
        """Unit viewing rays [N, 3] (optical frame: x right, y down, z ahead); NaN where the lens model has none."""
        if self.rectified or not self.D.any():
            plane = (np.linalg.inv(self.K) @ np.c_[pixels, np.ones(len(pixels))].T).T[:, :2]
            return _unit(plane)
        if self.distortion_model == "equidistant":
            return _fisheye_rays(pixels, self.K, self.D)
        return _polynomial_rays(pixels, self.K, self.D)

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
        if not (0 <= cx <= self.width and 0 <= cy <= self.height):
            return f"principal point ({cx:g}, {cy:g}) is outside {self.width}x{self.height}; K is of another size"
        if not self.rectified and self.D.any():
            lengths = COEFFICIENTS.get(self.distortion_model)
            if lengths is None:
                return f"distortion model {self.distortion_model!r} is unknown; use one of {', '.join(COEFFICIENTS)}"
            if len(self.D) not in lengths or not np.isfinite(self.D).all():
                return f"{self.distortion_model} needs {lengths[1:]} finite coefficients, got {self.D.tolist()}"
        if not (np.isfinite(self.height_m) and self.height_m > 0):
            return f"camera height is {self.height_m} m; set the camera's height above the ground in metres"
        if not abs(self.pitch_rad) <= np.pi / 2:
            return f"camera pitch is {self.pitch_rad} rad; set it in radians within [-pi/2, pi/2], positive down"
        return None


def _unit(plane: np.ndarray) -> np.ndarray:
    """Unit rays [N, 3] through the points [N, 2] of the plane one metre ahead."""
    rays = np.c_[plane, np.ones(len(plane))]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _polynomial_rays(pixels: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Invert plumb_bob or rational_polynomial; what does not project back onto its pixel becomes NaN."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
    plane = cv2.undistortPointsIter(pixels[:, None], K, D, np.eye(3), np.eye(3), stop)[:, 0]
    rays = _unit(plane)
    again = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, D)[0][:, 0]
    rays[~(np.linalg.norm(again - pixels, axis=1) <= MAX_REPROJECTION_PX)] = np.nan
    return rays


def _fisheye_rays(pixels: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Invert r = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) by Newton's method; θ, the angle off the axis, up to 180°."""
    plane = (np.linalg.inv(K) @ np.c_[pixels, np.ones(len(pixels))].T).T[:, :2]
    radius = np.linalg.norm(plane, axis=1)
    powers = np.array([1, 3, 5, 7, 9])
    weights = np.r_[1, D]
    theta = np.minimum(radius, np.pi / 2)
    with np.errstate(all="ignore"):
        for _ in range(20):
            error = (weights * theta[:, None] ** powers).sum(1) - radius
            slope = (weights * powers * theta[:, None] ** (powers - 1)).sum(1)
            theta = theta - error / slope
        error = (weights * theta[:, None] ** powers).sum(1) - radius
        slope = (weights * powers * theta[:, None] ** (powers - 1)).sum(1)
        good = (abs(error) * K[0, 0] <= MAX_REPROJECTION_PX) & (slope > 0) & (theta >= 0) & (theta <= np.pi)
        direction = np.where(radius[:, None] > 1e-12, plane / radius[:, None], 0)
        rays = np.c_[np.sin(theta)[:, None] * direction, np.cos(theta)]
    rays[~good] = np.nan
    return rays
