# SPDX-License-Identifier: MIT
"""What spans a road and is no obstacle: gantries, arches, bridges; for training only.

Object space as in `objects`: metres, x along the road, y up, z to the right, the road's middle at the origin.
Feet reach a metre into the ground, which is not level beside a road.
"""

from __future__ import annotations

import numpy as np

from .objects import Prop
from .shapes import METAL, PLAIN, STONE, box, paint, skin, tube

FOOT = -1.0  # m


def _boards(rng, half: float, y: float, x: float) -> list[np.ndarray]:
    """Boards with blocks instead of letters, to both sides of a beam `y` above the road."""
    parts, at = [], -half * rng.uniform(0.3, 0.95)
    for _ in range(int(rng.integers(0, 5))):
        wide, high = rng.uniform(0.8, 4.0), rng.uniform(0.5, 1.6)
        back, ink = paint(rng), paint(rng)
        parts.append(box((0.1 + 2 * x, high, wide), (0, y, at + wide / 2), back))
        for k in range(int(rng.integers(0, 8))):
            size = (0.14 + 2 * x, high * rng.uniform(0.3, 0.7), wide / 8 * rng.uniform(0.4, 0.9))
            parts.append(box(size, (0, y, at + wide * (k + 0.6) / 8), ink))
        at += wide + rng.uniform(0, 2)
        if at > half - 1:
            break
    return parts


def _gantry(rng, half: float) -> list[np.ndarray]:
    c, h, r = paint(rng), rng.uniform(4.2, 7.5), rng.uniform(0.08, 0.45)
    posts = [tube((0, FOOT, s * half), (0, h, s * half), r, r, c, METAL) for s in (-1, 1)]
    beam = box((2 * r, rng.uniform(0.2, 1.2), 2 * half + 2 * r), (0, h, 0), paint(rng), METAL)
    return [*posts, beam, *_boards(rng, half, h, r)]


def _arch(rng, half: float) -> list[np.ndarray]:
    """Half an ellipse of a thick hose, inflated or of tyres, plain or in bands."""
    r, bands = rng.uniform(0.3, 1.8), int(rng.integers(1, 16))
    h, half = rng.uniform(4.5, 9.0) + r, half + r
    colours = [paint(rng) for _ in range(int(rng.integers(1, 3)))]
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    parts = []
    for k in range(bands):
        t = np.linspace(k, k + 1, 24 // bands + 2)[:, None] * np.pi / bands  # [R,1]
        out = r * np.cos(turn)  # [S], away from the arch's middle
        y, z = (h + out) * np.sin(t), (half + out) * np.cos(t)
        x = np.broadcast_to(r * np.sin(turn), y.shape)
        parts.append(skin(np.stack([x, y, z], axis=-1), colours[k % len(colours)], (STONE, PLAIN)[k % 2]))
    return [*parts, *_boards(rng, half * 0.4, h, r)]


def _bridge(rng, half: float) -> list[np.ndarray]:
    c, deep, h, thick = (
        np.full(3, rng.uniform(0.25, 0.75)) * rng.uniform(0.9, 1.1, 3),
        rng.uniform(2, 10),
        rng.uniform(4.5, 6.5),
        rng.uniform(0.5, 1.6),
    )
    walls = [box((deep, h - FOOT, 1.0), (0, (h + FOOT) / 2, s * (half + 0.5)), c, STONE) for s in (-1, 1)]
    deck = box((deep, thick, 2 * half + rng.uniform(2, 30)), (0, h + thick / 2, 0), c * 0.9, STONE)
    rails = [
        box((0.1, 1.0, 2 * half), (s * deep / 2, h + thick + 0.5, 0), paint(rng), METAL) for s in (-1, 1)
    ]
    return [*walls, deck, *rails, *_boards(rng, half, h + thick / 2, deep / 2)]


SPANS = (_gantry, _arch, _bridge)


def make(rng: np.random.Generator, road_width: float) -> Prop:
    """A gantry, an arch or a bridge over a road `road_width` metres wide; its feet are beside the road."""
    kind = SPANS[int(rng.integers(len(SPANS)))]
    parts = kind(rng, road_width / 2 + rng.uniform(0.8, 4.0))
    return Prop.of(kind.__name__.lstrip("_"), parts)
