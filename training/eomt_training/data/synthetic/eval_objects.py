# SPDX-License-Identifier: MIT
"""Outliers kept for evaluation and for the sample bag: no kind of these is ever trained on."""

from __future__ import annotations

import numpy as np

from .shapes import METAL, PLAIN, STONE, WOOD, ball, box, colour, lay, quadruped, skin, tube


def _cart(rng):
    c, parts = np.full(3, rng.uniform(0.45, 0.75)), []
    for y in (0.45, 0.6, 0.75, 0.95):
        grow = (y - 0.45) * 0.25
        x, z = 0.36 + grow, 0.2 + grow
        parts += [box((2 * x, 0.025, 0.025), (0, y, s * z), c, METAL) for s in (-1, 1)]
        parts += [box((0.025, 0.025, 2 * z), (s * x, y, 0), c, METAL) for s in (-1, 1)]
    for i in np.linspace(-1, 1, 8):
        parts += [
            tube((i * 0.36, 0.45, s * 0.2), (i * 0.48, 0.95, s * 0.32), 0.012, 0.012, c, METAL)
            for s in (-1, 1)
        ]
        parts += [
            tube((s * 0.36, 0.45, i * 0.2), (s * 0.48, 0.95, i * 0.32), 0.012, 0.012, c, METAL)
            for s in (-1, 1)
        ]
        parts.append(box((0.72, 0.015, 0.015), (0, 0.45, i * 0.2), c, METAL))
    parts += [
        tube((x * 0.4, 0.1, z * 0.22), (x * 0.3, 0.47, z * 0.18), 0.02, 0.02, c, METAL)
        for x in (-1, 1)
        for z in (-1, 1)
    ]
    parts += [
        ball((0.09, 0.09, 0.03), (x * 0.4, 0.09, z * 0.22), (0.06, 0.06, 0.06))
        for x in (-1, 1)
        for z in (-1, 1)
    ]
    return [
        *parts,
        box((0.06, 0.06, 0.6), (-0.56, 1.02, 0), np.array([0.75, 0.1, 0.1]) * rng.uniform(0.5, 1.2)),
    ]


def _boulder(rng):
    r, c = rng.uniform(0.3, 0.7), np.array([0.45, 0.43, 0.4]) * rng.uniform(0.6, 1.3)
    return [
        ball((r * 1.2, r * 0.85, r), (0, r * 0.65, 0), c, STONE, 0.13, rng),
        ball(r * 0.6, (r * 0.6, r * 0.4, r * 0.4), c * 0.9, STONE, 0.2, rng),
    ]


def _boar(rng):
    c = np.array([0.2, 0.16, 0.13]) * rng.uniform(0.7, 1.5)
    return quadruped(rng, c, rng.uniform(1.1, 1.4), rng.uniform(0.75, 0.9), 0.3, (0.28, -0.08), 0.17, 0.05)


def _fridge(rng):
    c = np.array([0.88, 0.89, 0.9]) * rng.uniform(0.75, 1.05)
    parts = [
        box((0.6, 1.6, 0.65), (0, 0.8, 0), c, METAL),
        box((0.02, 1.0, 0.63), (0.31, 0.53, 0), c * 0.96, METAL),
        box((0.02, 0.5, 0.63), (0.31, 1.32, 0), c * 0.96, METAL),
        box((0.05, 0.3, 0.03), (0.34, 0.8, 0.25), (0.3, 0.3, 0.32)),
        box((0.05, 0.2, 0.03), (0.34, 1.25, 0.25), (0.3, 0.3, 0.32)),
    ]
    return parts if rng.random() < 0.5 else lay(parts, 0.3)


def _log(rng):
    c, length = np.array([0.33, 0.24, 0.16]) * rng.uniform(0.7, 1.3), rng.uniform(1.8, 3.0)
    parts = [tube((-length / 2, 0.2, 0), (length / 2, 0.17, 0.1), 0.2, 0.15, c, WOOD)]
    for _ in range(5):
        a = np.array([rng.uniform(-0.3, 0.5) * length, 0.2, 0])
        parts.append(tube(a, a + rng.uniform((0.2, 0.1, -0.8), (0.9, 0.9, 0.8)), 0.05, 0.015, c * 0.9, WOOD))
    return parts


def _bin(rng):
    c = colour(rng, 0.03, 0.55)
    return [
        box((0.62, 0.95, 0.55), (0, 0.55, 0), c, PLAIN, (1.15, 1.1)),
        box((0.78, 0.06, 0.68), (0, 1.06, 0), c * 0.8, PLAIN),
        box((0.06, 0.06, 0.5), (-0.4, 1.0, 0), c * 0.6),
        *[tube((-0.3, 0.1, z), (-0.3, 0.1, z + 0.06), 0.1, 0.1, (0.04, 0.04, 0.04)) for z in (-0.3, 0.24)],
    ]


def _kayak(rng):
    c, s = colour(rng, 0.15, 0.95), np.linspace(0, np.pi, 13)[:, None]
    a = np.linspace(0, 2 * np.pi, 14, endpoint=False)[None]
    w = np.sin(s) ** 0.6 + 0.02
    hull = np.stack(
        [
            np.broadcast_to(-1.5 * np.cos(s), (13, 14)),
            0.2 + 0.18 * w * np.sin(a) + 0.12 * np.cos(s) ** 4,
            0.33 * w * np.cos(a),
        ],
        axis=-1,
    )
    return [skin(hull, c, PLAIN), ball((0.42, 0.06, 0.2), (0, 0.36, 0), (0.04, 0.04, 0.04))]


EVAL_KINDS = {
    "shopping_cart": _cart,
    "boulder": _boulder,
    "boar": _boar,
    "fridge": _fridge,
    "log": _log,
    "wheelie_bin": _bin,
    "kayak": _kayak,
}
