# SPDX-License-Identifier: MIT
"""Flat things on the road that are no obstacles: kerb stripes, markings, bars, patches, stains, shadows.

Drawn in perspective over the surface, which keeps its label: whatever its colours, paint is road.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .folders import Sample

SHIFT = 4  # fractional bits of OpenCV's polygon corners
NEAR, FAR = 1.2, 40.0  # camera heights ahead


@dataclass(frozen=True)
class View:
    """A level pin-hole camera over flat ground; lengths on the ground in heights of the camera."""

    focal: float  # px
    horizon: float  # row
    centre: float  # column

    def pixels(self, across: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """[N,2] u, v of ground points `across` to the right and `ahead`."""
        return np.stack(
            [self.centre + self.focal * across / ahead, self.horizon + self.focal / ahead], axis=1
        )


def paint_road(
    sample: Sample,
    rng: np.random.Generator,
    surface_ids: Sequence[int] = (3, 4),
    count: tuple[int, int] = (1, 3),
) -> Sample:
    """A copy of ``sample`` with painted things on the pixels of ``surface_ids``; labels unchanged."""
    height, width = sample.labels.shape
    surface = np.isin(sample.labels, surface_ids)
    rows = np.flatnonzero(surface.mean(axis=1) > 0.02)  # a few stray pixels are no horizon
    if not len(rows):
        return sample
    top = int(rows[0])
    view = View(
        width * rng.uniform(0.6, 1.1), top - rng.uniform(0, 0.03) * height, width * rng.uniform(0.4, 0.6)
    )
    image = sample.image.astype(np.float32)
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        cover, colour = np.zeros((height, width), np.uint8), np.zeros((height, width, 3), np.uint8)
        kind = KINDS[int(rng.integers(len(KINDS)))]
        for corners, paint in kind(view, rng):
            points = [np.round(corners.clip(-8 * width, 8 * width) * (1 << SHIFT)).astype(np.int32)]
            cv2.fillPoly(cover, points, 255, cv2.LINE_AA, SHIFT)
            cv2.fillPoly(colour, points, paint.tolist(), cv2.LINE_8, SHIFT)
            cv2.polylines(colour, points, True, paint.tolist(), 1, cv2.LINE_8, SHIFT)  # under the soft edge
        sigma, opacity = rng.uniform(0.3, 1.2), rng.uniform(0.6, 1)
        if kind is patch:
            sigma *= 6 ** rng.random()  # a stain fades out
        alpha = cv2.GaussianBlur(cover, (0, 0), sigma) * surface * np.float32(opacity / 255)
        light = image.mean(axis=2, keepdims=True) / max(float(image[surface].mean()), 1)  # keeps the texture
        image += alpha[..., None] * ((colour * light.clip(0.5, 1.5)).clip(0, 255) - image)
    return Sample(image.round().astype(np.uint8), sample.labels, sample.name)


Part = tuple[np.ndarray, np.ndarray]  # corners [N,2] px, rgb in 0..255


def _colour(rng: np.random.Generator) -> np.ndarray:
    """White, yellow, or any; as bright as paint is."""
    kind = rng.random()
    if kind < 0.35:
        return np.full(3, rng.uniform(170, 250))
    if kind < 0.5:
        return np.array([220, 180, 40]) * rng.uniform(0.7, 1.1)
    return rng.uniform(10, 235, 3)


def _ribbon(
    view: View, rng: np.random.Generator, width: float, dash: float, colours: Sequence[np.ndarray | None]
) -> list[Part]:
    """Pieces of a bent band that runs ahead; a colour of None leaves a gap."""
    start, bend, slope = rng.uniform(-5, 5), rng.normal(0, 0.006), rng.normal(0, 0.12)
    ahead = NEAR + rng.uniform(0, 4)
    parts: list[tuple[np.ndarray, np.ndarray | None]] = []
    while ahead < FAR:
        ends = np.linspace(ahead, min(ahead + dash, FAR), 4)
        middle = start + slope * ends + bend * ends**2
        colour = colours[len(parts) % len(colours)]
        outline = np.concatenate(
            [view.pixels(middle - width / 2, ends), view.pixels(middle + width / 2, ends)[::-1]]
        )
        parts.append((outline, colour))
        ahead += dash
    return [(outline, colour) for outline, colour in parts if colour is not None]


def kerb(view: View, rng: np.random.Generator) -> list[Part]:
    """A striped kerb in two colours."""
    return _ribbon(view, rng, rng.uniform(0.2, 0.8), rng.uniform(0.3, 1.5), (_colour(rng), _colour(rng)))


def line(view: View, rng: np.random.Generator) -> list[Part]:
    """A line, solid or dashed."""
    other = _colour(rng) if rng.random() < 0.3 else None
    return _ribbon(view, rng, rng.uniform(0.05, 0.2), rng.uniform(0.8, 4), (_colour(rng), other))


def bars(view: View, rng: np.random.Generator) -> list[Part]:
    """Parallel bars, as of a crossing, a parking place or a road number."""
    colour, width, gap = _colour(rng), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.6)
    ahead, depth = rng.uniform(NEAR, 12), rng.uniform(0.3, 3)
    first, turn = rng.uniform(-4, 2), rng.normal(0, 0.3)
    parts = []
    for i in range(int(rng.integers(2, 10))):
        left = first + i * (width + gap)
        across = np.array([left, left + width, left + width + turn, left + turn])
        parts.append((view.pixels(across, ahead + np.array([0, 0, depth, depth])), colour))
    return parts


def patch(view: View, rng: np.random.Generator) -> list[Part]:
    """Stains, mended places or shadows: ragged outlines without colour, or as brown as rust and earth."""
    tint = np.array([1, *rng.uniform(0.4, 0.9, 2)]) if rng.random() < 0.5 else np.ones(3)
    tone, size = rng.uniform(15, 200) * tint, 0.1 * 15 ** rng.random()
    across, ahead = rng.uniform(-3, 3), rng.uniform(NEAR + 0.5, 16)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 12))))
        radius = size * rng.uniform(0.5, 1, len(angles))
        right = across + rng.normal(0, size) + radius * np.cos(angles)
        away = np.maximum(ahead + rng.normal(0, size) + 1.5 * radius * np.sin(angles), 0.6)
        parts.append((view.pixels(right, away), tone * rng.uniform(0.8, 1.2)))
    return parts


KINDS = (kerb, kerb, line, bars, patch, patch)
