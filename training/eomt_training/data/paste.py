# SPDX-License-Identifier: MIT
"""Outlier exposure: put unknown objects (and, as controls, ordinary segments) into a labelled frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..targets import IGNORE, OUTLIER
from .blend import blend, vary
from .folders import Sample

MIX_TRIES = 10  # places looked at for a part of another frame


@dataclass(frozen=True)
class PasteOptions:
    """How outliers are put into a frame; ranges are (from, to), shares in [0,1].

    Attributes:
        count: objects a frame. size: their heights, in heights of the camera above the road.
        anywhere: share that stands anywhere in the lower half, not on the surface.
        shadow: share with a contact shadow.
        harmonise: brightness matched to the place, sharpness varied, edges feathered inwards.
        mix: share of frames with parts of another training frame instead (see `anomaly_mix`).
        mix_size: heights of these parts, as shares of the frame's.
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
    for _ in range(int(rng.integers(how.count[0], how.count[1] + 1))):
        rgba = vary(cutouts[int(rng.integers(len(cutouts)))], rng)
        foot = _foot(labels, surface_ids, rng, how.anywhere)
        height = _perspective_height(foot[1], labels.shape[0], rng, how.size)
        blend(image, labels, rgba, foot, height, OUTLIER, rng, how.shadow, how.harmonise)
    return Sample(image, labels, sample.name)


def anomaly_mix(
    sample: Sample, other: Sample, rng: np.random.Generator, how: PasteOptions = PasteOptions()
) -> Sample:
    """A copy of ``sample`` with parts of another frame pasted anywhere, of any size, labelled `OUTLIER`.

    After AnomalyMix (PEBAL, arXiv 2111.12264), without a second data set: nothing is harmonised, and no part
    comes to lie where its own main class covers half of the place. A part that finds no place is left out.
    """
    image, labels = sample.image.copy(), sample.labels.copy()
    if (other.labels == IGNORE).all():
        return Sample(image, labels, sample.name)
    for _ in range(int(rng.integers(how.count[0], how.count[1] + 1))):
        part, main = cut_part(other, rng)
        part = vary(part, rng)
        height = round(labels.shape[0] * rng.uniform(*how.mix_size))
        half = max(1, round(height * part.shape[1] / part.shape[0] / 2))
        for _ in range(MIX_TRIES):
            x, y = int(rng.integers(labels.shape[1])), int(rng.integers(height // 2, labels.shape[0]))
            place = labels[max(0, y - height + 1) : y + 1, max(0, x - half) : x + half]
            if (place == main).mean() < 0.5:
                blend(image, labels, part, (x, y), height, OUTLIER, rng, shadow=0, harmonise=False)
                break
    return Sample(image, labels, sample.name)


def cut_part(frame: Sample, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A random polygon of a frame, RGBA uint8 [h,w,4] premultiplied, and the label most frequent in it.

    Its centre lies where classes meet, so that it shows no whole class; anywhere in a frame of one class.
    What is IGNORE is transparent: a class that is left out of training must not come back as an outlier.
    Raises ValueError for a frame that is IGNORE everywhere.
    """
    height, width = frame.labels.shape
    labelled = frame.labels != IGNORE
    meet = np.zeros((height, width), bool)
    meet[1:] |= frame.labels[1:] != frame.labels[:-1]
    meet[:, 1:] |= frame.labels[:, 1:] != frame.labels[:, :-1]
    meet &= labelled
    candidates = np.flatnonzero(meet if meet.any() else labelled)
    y, x = divmod(int(rng.choice(candidates)), width)
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(6, 13))))
    reach = height * rng.uniform(0.06, 0.2, 2) * rng.uniform(0.5, 1, (len(angles), 1))  # [K,2]
    corners = [x, y] + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [corners.round().astype(np.int32)], 1)
    mask[y, x] = 1
    box_x, box_y, w, h = cv2.boundingRect(mask)
    window = np.s_[box_y : box_y + h, box_x : box_x + w]
    inside = mask[window] * labelled[window]
    main = int(np.bincount(frame.labels[window][inside > 0]).argmax())
    return np.dstack([frame.image[window] * inside[..., None], 255 * inside]), main


def paste_control(
    sample: Sample,
    other: Sample,
    rng: np.random.Generator,
    class_ids: Sequence[int],
    min_pixels: int = 400,
    surface_ids: Sequence[int] = (3, 4),
    size: tuple[float, float] | None = None,
) -> tuple[Sample, np.ndarray]:
    """A copy of ``sample`` with an ordinary segment of another frame pasted in, under its own class label.

    It is no anomaly: a detector of paste edges fires here, a detector of the unknown does not.
    ``size``: its height (from, to) in heights of the camera where it stands; None: as large as it was.
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
        height = _perspective_height(foot[1], labels.shape[0], rng, size) if size else h
        pasted = blend(
            image, labels, rgba, foot, min(height, labels.shape[0] // 2), int(class_id), rng, shadow=0
        )
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
