# SPDX-License-Identifier: MIT
"""Any score on the scale of the calibrated one: equal thresholds are then equal false-positive rates."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data.sequences import OBSTACLE

STEP = 5  # every fifth row and column is counted
SHARES = np.unique(np.r_[0.0, np.linspace(0, 0.9, 46), 1 - np.logspace(-1, -5, 121), 1.0])


def normal_values(score: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A score's values [N] on a sample of the pixels whose label is neither an obstacle nor void."""
    return score[::STEP, ::STEP][labels[::STEP, ::STEP] < OBSTACLE]


def quantiles(values: Iterable[np.ndarray]) -> list[float]:
    """The score's values at SHARES of the pixels, lowest first. Raises ValueError without any pixel."""
    every = np.concatenate(list(values) or [np.zeros(0)])
    if not len(every):
        raise ValueError("no normal pixel in these sequences: are their labels whole?")
    return np.quantile(every, SHARES).tolist()


def rate_at(threshold: float, knots: list[float]) -> float:
    """Share of pixels at or above a threshold, from a score's `quantiles`."""
    return float(1 - np.interp(threshold, knots, SHARES))


def matched(score: np.ndarray, own: list[float], reference: list[float]) -> np.ndarray:
    """A score on the scale of the reference score, float32 (quantile mapping; ranking kept up to ties).

    A value that q of this score's normal pixels stay below becomes the one that q of the reference's stay
    below, so that a threshold on the reference has the same false-positive rate for both. Values above all
    normal pixels of the tuning drives become the reference's largest there.
    """
    knots, first = np.unique(own, return_index=True)
    return np.interp(score, knots, np.asarray(reference)[first]).astype(np.float32)
