# SPDX-License-Identifier: MIT
"""Views of labelled frames: every n-th, with objects pasted, in bad weather. Nothing is kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..data import weather
from ..data.folders import Frames, Sample
from ..data.paste import paste_objects
from ..targets import IGNORE, OUTLIER


class View:
    """Frames ``indices`` of others, each passed through ``change(sample, index)`` on access."""

    def __init__(
        self, frames: Frames, indices: Sequence[int], change: Callable[[Sample, int], Sample] | None = None
    ):
        self.frames, self.indices, self.change = frames, indices, change

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        sample = self.frames[self.indices[index]]
        return self.change(sample, index) if self.change else sample


def every(frames: Frames, step: int) -> View:
    """Every ``step``-th frame. Raises ValueError for a step below 1."""
    if step < 1:
        raise ValueError(f"--every {step}: give 1 (each frame) or more")
    return View(frames, range(0, len(frames), step))


def pasted(
    frames: Frames, sources: Sequence[Sequence[np.ndarray]], seed: int, surface_ids: Sequence[int] = (3, 4)
) -> View:
    """The frames with cut-outs standing on the surface; the choice depends on (seed, index) alone.

    Several sources take turns, a frame each.
    """

    def paste(sample: Sample, index: int) -> Sample:
        cutouts = sources[index % len(sources)]
        return paste_objects(sample, cutouts, np.random.default_rng((seed, index)), surface_ids)

    return View(frames, range(len(frames)), paste)


def degraded(frames: Frames, kind: str, severity: float, seed: int) -> View:
    """The frames as ``kind`` (a name in `data.weather.DEGRADATIONS`) leaves them; labels stay."""
    weather.check(kind, severity)

    def change(sample: Sample, index: int) -> Sample:
        return Sample(
            weather.degraded(sample.image, kind, severity, (seed, index)), sample.labels, sample.name
        )

    return View(frames, range(len(frames)), change)


def anomaly_truth(labels: np.ndarray) -> np.ndarray:
    """Label image -> 0 normal, 1 anomaly, 255 void."""
    return np.where(labels == OUTLIER, 1, np.where(labels == IGNORE, IGNORE, 0)).astype(np.uint8)
