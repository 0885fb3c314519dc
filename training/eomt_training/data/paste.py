# SPDX-License-Identifier: MIT
"""Outlier exposure: put unknown objects (and, as controls, ordinary segments) into a labelled frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..targets import IGNORE, OUTLIER
from .folders import Sample


@dataclass(frozen=True)
class PasteOptions:
    """How outliers are put into a frame; ranges are (from, to), shares in [0,1].

    Attributes:
        count: objects a frame. size: their heights, in heights of the camera above the road.
        anywhere: share that stands anywhere in the lower half, not on the surface.
        shadow: share with a contact shadow.
        harmonise: brightness matched to the place, sharpness varied, edges feathered inwards.
        mix: share of frames with AnomalyMix instead: anywhere, of any size, as they were cut out.
        mix_size: their heights, as shares of the frame's.
    """

    count: tuple[int, int] = (1, 3)
    size: tuple[float, float] = (0.3, 1.7)
    anywhere: float = 1 / 6
    shadow: float = 0.7
    harmonise: bool = True
    mix: float = 0.0
    mix_size: tuple[float, float] = (0.08, 0.5)


def paste_objects(
    sample: Sample,
    cutouts: Sequence[np.ndarray],
    rng: np.random.Generator,
    surface_ids: Sequence[int] = (3, 4),
    how: PasteOptions = PasteOptions(),
) -> Sample:
    """A copy of ``sample`` with cut-outs (RGBA, premultiplied) pasted, labelled `OUTLIER`.

    By default objects are scaled by perspective (larger towards the bottom), mostly on the drivable surface
    or pavement, harmonised in brightness, feathered, with a contact shadow.
    """
    image, labels = sample.image.copy(), sample.labels.copy()
    mixed = how.mix > 0 and rng.random() < how.mix
    for _ in range(int(rng.integers(how.count[0], how.count[1] + 1))):
        rgba = _vary(cutouts[int(rng.integers(len(cutouts)))], rng)
        if mixed:
            height = round(labels.shape[0] * rng.uniform(*how.mix_size))
            foot = int(rng.integers(labels.shape[1])), int(rng.integers(height // 2, labels.shape[0]))
            _blend(image, labels, rgba, foot, height, OUTLIER, rng, shadow=0, harmonise=False)
        else:
            foot = _foot(labels, surface_ids, rng, how.anywhere)
            height = _perspective_height(foot[1], labels.shape[0], rng, how.size)
            _blend(image, labels, rgba, foot, height, OUTLIER, rng, how.shadow, how.harmonise)
    return Sample(image, labels, sample.name)


def paste_control(
    sample: Sample,
    other: Sample,
    rng: np.random.Generator,
    class_ids: Sequence[int],
    min_pixels: int = 400,
    surface_ids: Sequence[int] = (3, 4),
) -> tuple[Sample, np.ndarray]:
    """A copy of ``sample`` with an ordinary segment of another frame pasted in, under its own class label.

    It is no anomaly: a detector of paste edges fires here, a detector of the unknown does not.
    Returns the frame and the mask of pasted pixels (bool [H,W]; empty where nothing fitted).
    """
    image, labels = sample.image.copy(), sample.labels.copy()
    pasted = np.zeros(labels.shape, bool)
    for class_id in rng.permutation(np.asarray(class_ids)):
        count, components, stats, _ = cv2.connectedComponentsWithStats(
            (other.labels == class_id).astype(np.uint8)
        )
        large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= min_pixels]
        if not large:
            continue
        i = int(rng.choice(large))
        x, y, w, h = stats[i, :4]
        mask = components[y : y + h, x : x + w] == i
        if mask.sum() > 0.05 * labels.size:  # a whole road: take an object-sized blob of it
            w, h, mask, (x, y) = _blob(mask, x, y, rng)
        crop = other.image[y : y + h, x : x + w] * mask[..., None]
        rgba = np.dstack([crop, mask.astype(np.uint8) * 255])
        foot = _foot(labels, surface_ids, rng)
        pasted = _blend(image, labels, rgba, foot, min(h, labels.shape[0] // 2), int(class_id), rng, shadow=0)
        break
    return Sample(image, labels, sample.name), pasted


def _blob(
    mask: np.ndarray, x: int, y: int, rng: np.random.Generator
) -> tuple[int, int, np.ndarray, tuple[int, int]]:
    """An elliptic part of a large segment, a seventh of its sides or so."""
    h, w = max(mask.shape[0] // 4, 12), max(mask.shape[1] // 7, 12)
    ys, xs = np.nonzero(mask)
    k = int(rng.integers(len(ys)))
    y0, x0 = min(ys[k], mask.shape[0] - h), min(xs[k], mask.shape[1] - w)
    ellipse = np.zeros((h, w), np.uint8)
    cv2.ellipse(ellipse, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    return w, h, mask[y0 : y0 + h, x0 : x0 + w] & (ellipse > 0), (x + x0, y + y0)


def _foot(
    labels: np.ndarray, surface_ids: Sequence[int], rng: np.random.Generator, anywhere: float = 1 / 6
) -> tuple[int, int]:
    """Where the object stands (x, y): on the surface, or for a share anywhere in the lower half."""
    on = np.isin(labels, surface_ids)
    if rng.random() < anywhere or not on.any():
        height, width = labels.shape
        return int(rng.integers(width)), int(rng.integers(height // 2, height))
    rows = np.flatnonzero(on.any(1))  # rows first: near ground has more pixels, far ground matters too
    y = int(rng.choice(rows))
    return int(rng.choice(np.flatnonzero(on[y]))), y


def _perspective_height(
    y: int, height: int, rng: np.random.Generator, size: tuple[float, float], horizon: float = 0.4
) -> int:
    """Pixels an object of ``size`` (from, to) camera heights takes when it stands at row y."""
    drop = max(y - horizon * height, 0.04 * height)
    return int(np.clip(drop * rng.uniform(*size), 0.03 * height, 0.6 * height))


def _vary(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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


def _blend(
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
