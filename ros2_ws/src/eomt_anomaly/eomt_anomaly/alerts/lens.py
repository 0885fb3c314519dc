# SPDX-License-Identifier: MIT
"""Lens models of sensor_msgs/CameraInfo, inverted: from a pixel of a raw image to its viewing ray."""
from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.polynomial import Polynomial

# Accepted lengths of D for each distortion model.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12, 14), "equidistant": (0, 4)}
TARGET_PX = 0.01  # error at which the inversion of a lens model is good enough
MAX_REPROJECTION_PX = 0.1  # and above which it has failed


def viewing_rays(pixels: np.ndarray, K: np.ndarray, D: np.ndarray, model: str) -> np.ndarray:
    """Unit viewing rays [N, 3] (x right, y down, z ahead) of `pixels` [N, 2]; NaN where the lens has none.

    K [3, 3], D and model as in CameraInfo; D may be empty. No other model than those of `COEFFICIENTS`.
    """
    if model == "equidistant":
        return _fisheye_rays(pixels, K, D if D.size else np.zeros(4))
    return _polynomial_rays(pixels, K, D) if D.any() else straight_rays(pixels, K)


def straight_rays(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Unit viewing rays [N, 3] of `pixels` [N, 2] through a lens without distortion."""
    return _unit(_to_plane(pixels, K))


def _to_plane(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points [N, 2] of the plane one metre ahead at which an undistorted camera sees `pixels` [N, 2]."""
    return (np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(K).T)[:, :2]


def _unit(plane: np.ndarray) -> np.ndarray:
    """Unit rays [N, 3] through the points [N, 2] of the plane one metre ahead."""
    through = np.c_[plane, np.ones(len(plane))]
    return through / np.linalg.norm(through, axis=1, keepdims=True)


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
