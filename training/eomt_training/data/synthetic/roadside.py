# SPDX-License-Identifier: MIT
"""What stands beside a road and is no obstacle: walls in blocks of colour, hoardings, towers.

For training only. Object space as in `objects`: metres, x along the road, y up, z to the right.
Feet reach into the ground.
"""

from __future__ import annotations

import numpy as np

from .objects import Prop
from .shapes import METAL, PLAIN, STONE, box, colour, paint, tube
from .spans import FOOT

SURFACES = (PLAIN, METAL, STONE)


def wall(rng: np.random.Generator) -> list[Prop]:
    """Pieces of a wall or barrier, to be set one behind the other: in blocks of two or three colours.

    A piece is as long as its `extent`, 0.6 to 4 m; rails, or the joints of blocks, vary.
    """
    length, height, deep = rng.uniform(0.6, 4.0), rng.uniform(0.5, 2.4), rng.uniform(0.1, 0.9)
    colours = [paint(rng) for _ in range(int(rng.integers(2, 4)))]
    surface, ribs = SURFACES[int(rng.integers(len(SURFACES)))], int(rng.integers(0, 5))
    pieces = []
    for k in range(int(rng.integers(4, 24))):
        c = colours[k % len(colours)]
        parts = [box((length, height - FOOT, deep), (0, (height + FOOT) / 2, 0), c, surface)]
        for rib in range(ribs):  # a rail, or a joint of the blocks
            y, shade = height * (rib + 0.5) / ribs, c * rng.uniform(0.6, 0.9)
            parts.append(box((length, 0.15 * height / ribs, deep + 0.06), (0, y, 0), shade, surface))
        pieces.append(Prop.of("wall", parts))
    return pieces


def hoarding(rng: np.random.Generator) -> list[Prop]:
    """A board on two posts that faces the traffic, with blocks instead of letters."""
    wide, high, low = rng.uniform(0.8, 6.0), rng.uniform(0.5, 2.5), rng.uniform(0.0, 3.5)
    back, ink = paint(rng), paint(rng)
    middle = low + high / 2
    parts = [box((0.1, high, wide), (0, middle, 0), back)]
    parts += [
        box((0.08, low + high - FOOT, 0.1), (0.05, (low + high + FOOT) / 2, s * wide * 0.4), back * 0.5)
        for s in (-1, 1)
    ]
    letters = int(rng.integers(0, 9))
    for k in range(letters):
        size = (0.14, high * rng.uniform(0.3, 0.8), wide / letters * rng.uniform(0.3, 0.8))
        parts.append(box(size, (0, middle, wide * ((k + 0.5) / letters - 0.5)), ink))
    return [Prop.of("hoarding", parts)]


def tower(rng: np.random.Generator) -> list[Prop]:
    """A lattice mast; half of them carry a box, as a watchtower does."""
    c, high, half = paint(rng), rng.uniform(3.0, 12.0), rng.uniform(0.2, 1.0)
    r = rng.uniform(0.03, 0.09)
    corners = [(x * half, z * half) for x, z in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    parts = [tube((x, FOOT, z), (x, high, z), r, r, c, METAL) for x, z in corners]
    steps = np.arange(0.0, high - half, 2 * half)
    for k, y in enumerate(steps):
        for a, b in zip(corners, (*corners[1:], corners[0])):
            ends = (a, b) if k % 2 else (b, a)
            parts.append(
                tube(
                    (ends[0][0], y, ends[0][1]),
                    (ends[1][0], y + 2 * half, ends[1][1]),
                    r * 0.7,
                    r * 0.7,
                    c,
                    METAL,
                )
            )
    if rng.random() < 0.5:
        size = (2.5 * half, rng.uniform(0.5, 2.5), 2.5 * half)
        parts.append(box(size, (0, high + size[1] / 2, 0), colour(rng), STONE))
    return [Prop.of("tower", parts)]


KINDS = (wall, wall, hoarding, tower)


def make(rng: np.random.Generator) -> list[Prop]:
    """One thing beside the road, in pieces that follow it one behind the other."""
    return KINDS[int(rng.integers(len(KINDS)))](rng)
