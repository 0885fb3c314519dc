# SPDX-License-Identifier: MIT
"""Our own low-poly objects: outliers (disjoint TRAIN and EVAL kinds) and ordinary cars.

Object space: metres, x forward, y up, z right, standing on y = 0, centred on the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cars import car
from .eval_objects import EVAL_KINDS
from .shapes import METAL, box, colour, tube
from .train_objects import TRAIN_KINDS


@dataclass(frozen=True)
class Prop:
    """vertices [3T,12] float32: position, normal, rgb in [0,1], surface (frequency, amplitude, grain)."""

    kind: str
    vertices: np.ndarray

    @classmethod
    def of(cls, kind: str, parts: list[np.ndarray]) -> Prop:
        """One object of the triangles [3T,12] of its parts; colours are clipped to [0,1]."""
        vertices = np.concatenate(parts).astype(np.float32)
        vertices[:, 6:9] = vertices[:, 6:9].clip(0, 1)
        return cls(kind, vertices)

    @property
    def extent(self) -> np.ndarray:
        """[3] size in metres along x, y, z."""
        return np.ptp(self.vertices[:, :3], axis=0)


def _car(rng):
    c = colour(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.05, 0.9))
    length, width, h = rng.uniform(3.8, 4.7), rng.uniform(1.65, 1.85), rng.uniform(1.4, 1.65)
    glass, cabin = (0.07, 0.09, 0.11), rng.uniform(0.5, 0.62) * length
    parts = [
        box((length, 0.45, width), (0, 0.47, 0), c, METAL, (0.98, 0.96)),
        box((length * 0.97, 0.22, width * 0.95), (0, 0.78, 0), c, METAL, (0.94, 0.93)),
        box(
            (cabin, h - 0.87, width * 0.9),
            (-0.08 * length, 0.84 + (h - 0.87) / 2, 0),
            glass,
            METAL,
            (0.68, 0.8),
        ),
        box((cabin * 0.7, 0.05, width * 0.73), (-0.08 * length, h - 0.02, 0), c, METAL, (0.95, 0.95)),
    ]
    for z in (-1, 1):
        for x in (-0.31, 0.31):
            parts += [
                tube(
                    (x * length, 0.31, z * (width / 2 - 0.2)),
                    (x * length, 0.31, z * (width / 2 + 0.01)),
                    0.31,
                    0.31,
                    (0.04, 0.04, 0.04),
                ),
                tube(
                    (x * length, 0.31, z * (width / 2)),
                    (x * length, 0.31, z * (width / 2 + 0.02)),
                    0.19,
                    0.19,
                    (0.5, 0.5, 0.52),
                    METAL,
                ),
            ]
        parts += [
            box((0.05, 0.13, 0.34), (length / 2, 0.68, z * (width / 2 - 0.25)), (0.95, 0.95, 0.85)),
            box((0.05, 0.15, 0.26), (-length / 2, 0.72, z * (width / 2 - 0.2)), (0.65, 0.03, 0.03)),
            box((0.05, h - 0.9, 0.03), (-0.08 * length, 0.85 + (h - 0.9) / 2, z * width * 0.42), c, METAL),
        ]
    plates = [box((0.03, 0.12, 0.45), (s * (length / 2 + 0.01), 0.5, 0), (0.85, 0.85, 0.8)) for s in (-1, 1)]
    return [*parts, *plates, box((length * 1.01, 0.14, width * 0.92), (0, 0.33, 0), (0.06, 0.06, 0.06))]


_ALL = {**TRAIN_KINDS, **EVAL_KINDS, "car": _car, "any_car": car}


def make(kind: str, rng: np.random.Generator) -> Prop:
    """One object of `kind`, standing on y = 0: a key of TRAIN_KINDS or EVAL_KINDS, "car", or "any_car".

    "car" is one shape in many sizes and colours, which drives to measure on have; "any_car" is for training.
    """
    if kind not in _ALL:
        raise ValueError(f"unknown object kind {kind!r}; known: {', '.join(sorted(_ALL))}")
    prop = Prop.of(kind, _ALL[kind](rng))
    prop.vertices[:, 1] -= prop.vertices[:, 1].min()
    return prop
