# SPDX-License-Identifier: MIT
"""Where on flat ground a pixel lies, from the camera's calibration, its height and its pitch."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.polynomial import Polynomial

# Accepted lengths of D for each distortion model of sensor_msgs/CameraInfo.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4)}
TARGET_PX = 0.01  # error at which the inversion of a lens model is good enough
MAX_REPROJECTION_PX = 0.1  # and above which it has failed
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
            return _unit(_to_plane(pixels, self.K)) @ self.R  # row vectors: ray @ R is R transposed @ ray
        if not self.D.any() and self.distortion_model != "equidistant":
            return _unit(_to_plane(pixels, self.K))
        if self.distortion_model == "equidistant":
            return _fisheye_rays(pixels, self.K, self.D if self.D.size else np.zeros(4))
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


def range_with_pitch_error(distance_m: float, height_m: float, error_rad: float) -> float:
    """Where a point `distance_m` ahead is put when the camera is thought to look down `error_rad` too far.

    In metres, for a camera `height_m` above flat ground: height / tan(atan(height / distance) + error).
    Infinite where the ray no longer meets the ground. Raises ValueError for a distance or height that is
    not above 0.
    """
    for name, value in (("distance_m", distance_m), ("height_m", height_m)):
        if not value > 0:
            raise ValueError(f"{name} is {value!r}: give metres above 0")
    below = math.atan2(height_m, distance_m) + error_rad
    return height_m / math.tan(below) if below > 0 else math.inf


def _square(values) -> np.ndarray:
    """As float [3, 3] where there are nine values; otherwise in the shape given, for `problem` to refuse."""
    values = np.asarray(values, dtype=float)
    return values.reshape(3, 3) if values.size == 9 else values


def _to_plane(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points [N, 2] of the plane one metre ahead at which an undistorted camera sees `pixels` [N, 2]."""
    return (np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(K).T)[:, :2]


def _unit(plane: np.ndarray) -> np.ndarray:
    """Unit rays [N, 3] through the points [N, 2] of the plane one metre ahead."""
    rays = np.c_[plane, np.ones(len(plane))]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _polynomial_rays(pixels: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Invert plumb_bob or rational_polynomial; what does not project back onto its pixel becomes NaN.

    OpenCV's five iterations give the start; Newton's method goes on where these are not enough. So does a ray
    from where the lens model has folded back: it may meet a pixel on the picture's other side.
    """
    plane = cv2.undistortPoints(pixels[:, None], K, D)[:, 0]
    error = pixels - _project(plane, K, D)  # [N, 2], px
    step = 1e-6
    for _ in range(20):
        rough = np.linalg.norm(error, axis=1) > TARGET_PX
        if not rough.any():
            break
        here = plane[rough]
        base = pixels[rough] - error[rough]
        along_x = (_project(here + (step, 0), K, D) - base) / step  # columns of the Jacobian, [n, 2] each
        along_y = (_project(here + (0, step), K, D) - base) / step
        determinant = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
        with np.errstate(all="ignore"):
            dx = (error[rough, 0] * along_y[:, 1] - error[rough, 1] * along_y[:, 0]) / determinant
            dy = (error[rough, 1] * along_x[:, 0] - error[rough, 0] * along_x[:, 1]) / determinant
            plane[rough] = here + np.c_[dx, dy]
            error[rough] = pixels[rough] - _project(plane[rough], K, D)
    rays = _unit(plane)
    found = np.linalg.norm(error, axis=1) <= MAX_REPROJECTION_PX
    rays[~(found & (np.linalg.norm(plane, axis=1) < _fold(D)))] = np.nan
    return rays


def _fold(D: np.ndarray) -> float:
    """Where on the plane one metre ahead a lens model's distortion stops growing with the radius; inf: never.

    Radially, r (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6); beyond it or the first pole
    there are no true pixels.
    """
    k1, k2, _, _, k3, k4, k5, k6 = np.r_[D, np.zeros(8)][:8]
    above, below, square = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6]), Polynomial([0, 1])
    slope = (above + 2 * square * above.deriv()) * below - 2 * square * above * below.deriv()  # its sign
    return math.sqrt(min(_first_root(slope), _first_root(below)))


def _first_root(polynomial: Polynomial) -> float:
    """The smallest real root above 0, or inf."""
    roots = polynomial.trim().roots()
    return min((x.real for x in roots if abs(x.imag) < 1e-9 * abs(x) and x.real > 0), default=math.inf)


def _project(plane: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] at which the distorted camera sees points [N, 2] of the plane one metre ahead."""
    points = np.c_[plane, np.ones(len(plane))]
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, D)[0][:, 0]


def _fisheye_rays(pixels: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Invert r = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸) by Newton's method; θ, off the axis, up to 180°."""
    plane = _to_plane(pixels, K)
    radius = np.linalg.norm(plane, axis=1)
    powers = np.array([1, 3, 5, 7, 9])
    weights = np.r_[1, D]
    fold = math.sqrt(_first_root(Polynomial(weights * powers)))  # in θ²: from there on r falls again
    theta = np.minimum(radius, np.pi / 2)
    with np.errstate(all="ignore"):
        for _ in range(20):
            error = (weights * theta[:, None] ** powers).sum(1) - radius
            slope = (weights * powers * theta[:, None] ** (powers - 1)).sum(1)
            theta = theta - error / slope
        error = (weights * theta[:, None] ** powers).sum(1) - radius
        good = (abs(error) * K[0, 0] <= MAX_REPROJECTION_PX) & (theta >= 0) & (theta < min(fold, np.pi))
        direction = np.where(radius[:, None] > 1e-12, plane / radius[:, None], 0)
        rays = np.c_[np.sin(theta)[:, None] * direction, np.cos(theta)]
    rays[~good] = np.nan
    return rays
