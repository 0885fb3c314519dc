# SPDX-License-Identifier: MIT
"""How a scene is lit: sun, sky, clouds and fog of a time of day and a weather, drawn at random."""

from __future__ import annotations

import numpy as np

from .renderer import Light

LIGHTS = ("day", "day", "overcast", "overcast", "low_sun", "dusk", "fog")


def light(rng: np.random.Generator, kind: str) -> Light:
    """A random light of one of LIGHTS."""
    warm = rng.uniform(-0.04, 0.04)
    angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    sun = (np.cos(angle), up, np.sin(angle))
    tint = np.array([1 + warm, 1.0, 1 - warm])
    seed = float(rng.uniform(0, 50))
    if kind == "day":
        return Light(
            sun,
            tuple(np.array([0.68, 0.65, 0.58]) * tint),
            tuple(np.array([0.5, 0.53, 0.58]) * tint),
            fog=rng.uniform(2e-4, 1e-3),
            clouds=rng.uniform(0.15, 0.6),
            seed=seed,
        )
    if kind == "overcast":
        grey = rng.uniform(0.65, 0.9)
        return Light(
            sun,
            (0.2, 0.2, 0.2),
            tuple(np.array([0.85, 0.86, 0.88]) * tint * rng.uniform(0.8, 1.1)),
            (grey * 0.8, grey * 0.83, grey * 0.88),
            (grey, grey, grey * 1.02),
            rng.uniform(5e-4, 2.5e-3),
            rng.uniform(0.7, 1.0),
            seed,
        )
    if kind == "low_sun":
        return Light(
            (sun[0], 0.25, sun[2]),
            (1.0, 0.75, 0.45),
            (0.45, 0.45, 0.52),
            (0.35, 0.48, 0.72),
            (0.95, 0.82, 0.66),
            rng.uniform(4e-4, 1.5e-3),
            rng.uniform(0.2, 0.7),
            seed,
        )
    if kind == "dusk":
        k = rng.uniform(0.5, 0.9)
        return Light(
            (sun[0], 0.2, sun[2]),
            (0.3 * k, 0.2 * k, 0.16 * k),
            (0.5 * k, 0.52 * k, 0.66 * k),
            (0.2 * k, 0.26 * k, 0.45 * k),
            (0.85 * k, 0.65 * k, 0.6 * k),
            rng.uniform(5e-4, 2e-3),
            rng.uniform(0.2, 0.8),
            seed,
        )
    if kind == "fog":
        grey = rng.uniform(0.6, 0.85)
        return Light(
            sun,
            (0.1, 0.1, 0.1),
            tuple(np.array([0.8, 0.81, 0.83]) * tint),
            (grey, grey, grey),
            (grey, grey, grey * 1.01),
            rng.uniform(6e-3, 1.8e-2),
            0.9,
            seed,
        )
    raise ValueError(f"unknown light {kind!r}; known: {', '.join(sorted(set(LIGHTS)))}")
