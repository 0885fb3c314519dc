# SPDX-License-Identifier: MIT
"""How one cut-out is drawn into a frame: varied, scaled, harmonised, with a shadow, its edges unlabelled."""

from __future__ import annotations

import cv2
import numpy as np

from ..targets import IGNORE


def vary(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror, turn, and shift the colours of a cut-out (premultiplied, as `load_cutouts` gives it)."""
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    if rng.random() < 0.3:
        h, w = rgba.shape[:2]
        side = int(np.hypot(h, w)) + 2
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-35, 35), 1)
        turn[:, 2] += ((side - w) / 2, (side - h) / 2)
        rgba = cv2.warpAffine(np.ascontiguousarray(rgba), turn, (side, side))
        ys, xs = np.nonzero(rgba[..., 3] > 8)
        rgba = rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    colour = rgba[..., :3] * rng.uniform(0.75, 1.25, 3).astype(np.float32)
    return np.dstack([colour.clip(0, 255).astype(np.uint8), rgba[..., 3]])


def blend(
    image: np.ndarray,
    labels: np.ndarray,
    rgba: np.ndarray,
    foot: tuple[int, int],
    height: int,
    label: int,
    rng: np.random.Generator,
    shadow: float = 0.7,
    harmonise: bool = True,
) -> np.ndarray:
    """Draw ``rgba`` in place, ``height`` px high, bottom centre at ``foot``; returns the pixels it owns.

    Its colours are premultiplied by alpha, and edges are feathered inwards: nothing that lay around the
    object in its own picture comes along, which would tell a paste from the scene.
    """
    scale = min(height / rgba.shape[0], 0.45 * labels.shape[1] / rgba.shape[1])
    height = round(rgba.shape[0] * scale)
    width = max(2, round(rgba.shape[1] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    rgba = cv2.resize(np.ascontiguousarray(rgba), (width, max(2, height)), interpolation=interpolation)
    x0, y0 = foot[0] - width // 2, foot[1] - rgba.shape[0] + 1
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(rgba.shape[0], image.shape[0] - y0), min(width, image.shape[1] - x0)
    owned = np.zeros(labels.shape, bool)
    if bottom - top < 3 or right - left < 3:
        return owned
    rgba = rgba[top:bottom, left:right]
    window = np.s_[y0 + top : y0 + bottom, x0 + left : x0 + right]

    if shadow and rng.random() < shadow:
        _shade(image, (foot[0], foot[1]), width, height, rng.uniform(0.3, 0.65))
    rgba = rgba.astype(np.float32)
    opacity = rgba[..., 3]
    if harmonise:
        rgba, opacity = _harmonised(rgba, image[window].mean(), rng)
    alpha = opacity[..., None] / 255  # [h,w,1]
    colour = 255 * rgba[..., :3] / np.maximum(rgba[..., 3:], 1)
    image[window] = (alpha * colour + (1 - alpha) * image[window]).clip(0, 255).astype(np.uint8)
    solid = alpha[..., 0] > 0.5
    edge = (alpha[..., 0] > 0.1) & ~solid
    owned[window] = solid
    view = labels[window]
    view[edge] = IGNORE
    view[solid] = label
    return owned


def _harmonised(
    rgba: np.ndarray, brightness: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The object [h,w,4] nearer to its place's brightness, of varied sharpness; its feathered opacity."""
    feather = rng.uniform(0.3, 1.0)
    own = 255 * rgba[..., :3].sum() / max(3 * rgba[..., 3].sum(), 1)  # the object's mean brightness
    gain = np.clip((brightness + 25) / (own + 25), 0.5, 1.5)
    rgba[..., :3] *= 1 + rng.uniform(0.2, 0.8) * (gain - 1)
    if rng.random() < 0.5:
        rgba = cv2.GaussianBlur(rgba, (3, 3), rng.uniform(0.3, 1.2))
    soft = cv2.GaussianBlur(rgba[..., 3], (3, 3), feather)
    return rgba, np.minimum(rgba[..., 3], soft)


def _shade(image: np.ndarray, foot: tuple[int, int], width: int, height: int, strength: float) -> None:
    """A soft elliptic contact shadow under the object, in place."""
    half_w, half_h = max(2, int(width * 0.6)), max(2, int(height * 0.12))
    x0, x1 = max(0, foot[0] - half_w), min(image.shape[1], foot[0] + half_w)
    y0, y1 = max(0, foot[1] - half_h), min(image.shape[0], foot[1] + half_h)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    dark = np.clip(1 - ((x - foot[0]) / half_w) ** 2 - ((y - foot[1]) / half_h) ** 2, 0, 1)[..., None]
    image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * (1 - strength * dark)).astype(np.uint8)
