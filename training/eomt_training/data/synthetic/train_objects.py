# SPDX-License-Identifier: MIT
"""Outliers that training sees: a function of a random generator for each kind, never twice the same."""

from __future__ import annotations

import numpy as np

from .shapes import CLOTH, FUR, METAL, PLAIN, STONE, WOOD, ball, box, colour, lay, quadruped, tube, wood


def _sofa(rng):
    c, w = colour(rng), rng.uniform(1.5, 2.2)
    seat = [
        box((0.85, 0.25, w), (0, 0.3, 0), c, CLOTH),
        box((0.25, 0.55, w), (-0.35, 0.68, 0), c * 0.95, CLOTH, (0.7, 1)),
    ]
    arms = [box((0.85, 0.5, 0.2), (0, 0.4, s * w / 2), c * 0.9, CLOTH, (0.95, 0.8)) for s in (-1, 1)]
    cushions = [
        box((0.6, 0.14, w / 2 - 0.15), (0.08, 0.49, s * w / 4), c * 1.08, CLOTH, (0.9, 0.92)) for s in (-1, 1)
    ]
    feet = [
        box((0.07, 0.18, 0.07), (x, 0.09, z), (0.1, 0.07, 0.05))
        for x in (-0.35, 0.35)
        for z in (-w / 2, w / 2)
    ]
    return [*seat, *arms, *cushions, *feet]


def _crate(rng):
    s, c = rng.uniform(0.5, 1.0), wood(rng)
    parts = [box((s, s, s), (0, s / 2, 0), c * 0.75, WOOD)]
    for y in (0.08, 0.92):
        for z in (-0.5, 0.5):
            parts.append(box((s * 1.04, s * 0.13, 0.05), (0, y * s, z * s), c, WOOD))
            parts.append(box((0.05, s * 0.13, s * 1.04), (z * s, y * s, 0), c, WOOD))
    return parts + [
        box((0.09, s, 0.05), (x * s, s / 2, z * s), c, WOOD) for x in (-0.45, 0.45) for z in (-0.5, 0.5)
    ]


def _tyres(rng):
    parts = []
    for i in range(rng.integers(1, 5)):
        y, c = 0.11 + 0.21 * i, np.full(3, rng.uniform(0.03, 0.09))
        x, z = rng.uniform(-0.05, 0.05, 2)
        parts += [
            tube((x, y - 0.1, z), (x, y, z), 0.27, 0.34, c, STONE),
            tube((x, y, z), (x, y + 0.1, z), 0.34, 0.27, c, STONE),
        ]
    return parts


def _barrel(rng):
    c, r, h = colour(rng), rng.uniform(0.26, 0.34), rng.uniform(0.8, 1.0)
    parts = [tube((0, 0, 0), (0, h, 0), r, r, c, METAL)]
    parts += [
        tube((0, k * h - 0.02, 0), (0, k * h + 0.02, 0), r + 0.015, r + 0.015, c * 0.8, METAL)
        for k in (0.05, 0.35, 0.65, 0.97)
    ]
    return parts if rng.random() < 0.6 else lay(parts, r)


def _deer(rng):
    c = np.array([0.48, 0.33, 0.2]) * rng.uniform(0.7, 1.3)
    parts = quadruped(rng, c, rng.uniform(1.0, 1.4), rng.uniform(0.95, 1.2), 0.24, (0.25, 0.45), 0.11, 0.04)
    if rng.random() < 0.5:
        tip = np.concatenate(parts)[:, :3].max(axis=0)
        for s in (-1, 1):
            base, mid = (tip[0] - 0.25, tip[1] - 0.1, s * 0.06), (tip[0] - 0.35, tip[1] + 0.25, s * 0.25)
            parts += [
                tube(base, mid, 0.02, 0.015, c * 0.6),
                tube(mid, (mid[0] + 0.2, mid[1] + 0.2, s * 0.3), 0.015, 0.01, c * 0.6),
            ]
    return parts


def _ladder(rng):
    length, c = (
        rng.uniform(2.0, 3.5),
        (wood(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.5, 0.85))),
    )
    rails = [box((length, 0.07, 0.04), (0, 0.06, z), c, WOOD) for z in (-0.2, 0.2)]
    return rails + [
        box((0.04, 0.04, 0.4), (x, 0.06, 0), c * 0.9, WOOD)
        for x in np.arange(-length / 2 + 0.15, length / 2, 0.28)
    ]


def _suitcase(rng):
    c, h = colour(rng), rng.uniform(0.5, 0.8)
    return [
        box((0.28, h, h * 0.68), (0, h / 2 + 0.04, 0), c, CLOTH, (0.95, 0.96)),
        box((0.05, 0.03, 0.2), (0, h + 0.12, 0), c * 0.3),
        *[box((0.02, 0.1, 0.02), (0, h + 0.07, z), (0.3, 0.3, 0.3)) for z in (-0.1, 0.1)],
        box((0.29, 0.05, h * 0.69), (0, h * 0.5, 0), c * 0.5),
        *[ball(0.04, (0, 0.04, z), (0.05, 0.05, 0.05)) for z in (-0.2, 0.2)],
    ]


def _carton(rng):
    c = np.array([0.62, 0.47, 0.31]) * rng.uniform(0.7, 1.25)
    x, y, z = rng.uniform(0.3, 0.9, 3)
    flaps = (
        [box((x / 2, 0.01, z), (s * x * 0.6, y + 0.1, 0), c * 0.9, PLAIN) for s in (-1, 1)]
        if rng.random() < 0.5
        else []
    )
    return [box((x, y, z), (0, y / 2, 0), c, PLAIN), box((x * 1.01, 0.02, 0.06), (0, y, 0), c * 1.2), *flaps]


def _mattress(rng):
    c = np.array([0.8, 0.78, 0.72]) * rng.uniform(0.7, 1.15)
    parts = [
        box((2.0, 0.22, 1.3), (0, 0.11, 0), c, CLOTH, (0.98, 0.97)),
        box((2.02, 0.03, 1.31), (0, 0.11, 0), c * colour(rng, 0.4, 1), CLOTH),
    ]
    return parts


def _ball(rng):
    r, c = rng.uniform(0.11, 0.45), colour(rng, 0.1, 1)
    return [
        ball(r, (0, r, 0), c),
        tube((0, r - r / 6, 0), (0, r + r / 6, 0), r * 0.995, r * 0.995, 1 - c, hollow=True),
    ]


def _chair(rng):
    c = wood(rng) if rng.random() < 0.5 else colour(rng)
    legs = [box((0.05, 0.45, 0.05), (x, 0.22, z), c * 0.8, WOOD) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    back = [box((0.04, 0.55, 0.05), (-0.2, 0.72, z), c * 0.9, WOOD) for z in (-0.2, 0, 0.2)]
    return [
        *legs,
        *back,
        box((0.48, 0.05, 0.48), (0, 0.46, 0), c, WOOD),
        box((0.05, 0.12, 0.46), (-0.2, 0.95, 0), c, WOOD),
    ]


def _clutter(rng):
    """Several primitives thrown together: a shape that belongs to nothing."""
    parts, surfaces = [], (PLAIN, CLOTH, WOOD, FUR, METAL, STONE)
    for _ in range(rng.integers(2, 6)):
        surface, c, at = (
            surfaces[rng.integers(len(surfaces))],
            colour(rng, 0.02, 1),
            rng.uniform((-0.4, 0, -0.4), (0.4, 0.5, 0.4)),
        )
        r = rng.uniform(0.12, 0.5, 3)
        kind = rng.integers(3)
        if kind == 0:
            parts.append(box(r * 1.6, at + (0, r[1] * 0.8, 0), c, surface, rng.uniform(0.4, 1, 2)))
        elif kind == 1:
            parts.append(ball(r, at + (0, r[1], 0), c, surface, rng.choice((0.0, 0.15)), rng))
        else:
            parts.append(
                tube(
                    at,
                    at + rng.uniform((-0.6, 0.1, -0.6), (0.6, 0.9, 0.6)),
                    r[0] * 0.6,
                    r[1] * 0.6,
                    c,
                    surface,
                )
            )
    return parts


TRAIN_KINDS = {
    "sofa": _sofa,
    "crate": _crate,
    "tyre_stack": _tyres,
    "barrel": _barrel,
    "deer": _deer,
    "ladder": _ladder,
    "suitcase": _suitcase,
    "carton": _carton,
    "mattress": _mattress,
    "ball": _ball,
    "chair": _chair,
    "clutter": _clutter,
}
