# SPDX-License-Identifier: MIT
"""Every anomaly score of a model on labelled frames: pixels, drivable surface, components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics.anomaly import IGNORE, LEVELS, PixelMetrics
from ..metrics.bootstrap import interval, resampled
from ..metrics.components import TRACKS, ComponentMetrics
from .frames import Frames, anomaly_truth, pasted
from .maps import MapStore
from .predictor import Predicts
from .semantic import Progress

LEARNED = "eomt_ext"
PERCENT = ("auprc", "auroc", "fpr95", "best_f1", *(f"tnr_at_tpr{level}" for level in LEVELS))


class Anomalies:
    """What a model scored on frames: counts of every score, and the maps themselves on disk.

    Args:
        names: scores to take; None: all that the model has.
        drivable: class ids of the surface; its pixels and the anomalies are also measured alone.
    """

    def __init__(
        self,
        predict: Predicts,
        frames: Frames,
        names: Sequence[str] | None = None,
        drivable: Sequence[int] = (),
        progress: Progress = iter,
    ):
        self.frames, self.names, self.maps = frames, tuple(names or predict.scores), MapStore()
        self.pixels = {name: PixelMetrics() for name in self.names}
        self._draws: dict[tuple[str, int], np.ndarray] = {}
        self.surface = {name: PixelMetrics() for name in self.names} if len(drivable) else {}
        for i in progress(range(len(frames))):
            sample = frames[i]
            truth = anomaly_truth(sample.labels)
            on_surface = np.where(np.isin(sample.labels, drivable) | (truth == 1), truth, IGNORE)
            if i == 0:
                measured = [truth, on_surface] if self.surface else [truth]
                self.maps.require_space(measured, len(self.names), len(frames))
            classes, scores = predict(sample, self.names)
            self.maps["truth", i], self.maps["classes", i] = truth, classes
            for name, value in scores.items():
                self.maps[name, i] = value
                self.pixels[name].update(value, truth)
                if self.surface:
                    self.surface[name].update(value, on_surface)

    @property
    def prevalence(self) -> float:
        """Share of the labelled pixels that are anomalous."""
        return self.pixels[self.names[0]].prevalence

    def row(self, name: str, seed: int, track: str = "obstacle", threshold: float | None = None) -> dict:
        """All numbers of one score, in % but for thresholds; NaN where there is nothing to measure.

        Components (SMIYC) are those at the best-F1 threshold. ``threshold``: also the rates at this one.
        """
        result = self.pixels[name].compute()
        low, high = interval(self.draws(name, seed)[:, 0])
        row = {k: 100 * result[k] for k in PERCENT}
        row |= {"auprc_low": 100 * low, "auprc_high": 100 * high}
        row |= {k: result[k] for k in ("best_f1_threshold", "threshold_tpr95")}
        if self.surface and self.surface[name].has_both_classes:
            there = self.surface[name].compute()
            row |= {f"{k}_surface": 100 * there[k] for k in ("auprc", "fpr95")}
        components = self.components(name, result["best_f1_threshold"], track)
        row |= {k: 100 * value for k, value in components.items()}
        if threshold is not None:
            fpr, tpr = self.pixels[name].rates_at(threshold)
            row |= {"threshold": threshold, "fpr_at_threshold": 100 * fpr, "tpr_at_threshold": 100 * tpr}
        return row

    def draws(self, name: str, seed: int) -> np.ndarray:
        """See `resampled`; computed once."""
        if (name, seed) not in self._draws:
            self._draws[name, seed] = resampled(self.pixels[name], seed)
        return self._draws[name, seed]

    def difference(self, rows: dict[str, dict], metric: str, seed: int) -> dict[str, Any]:
        """`LEARNED` less the best other score in ``metric`` (auprc or fpr95), in points of a %.

        rows: of each score its `row`. ``low`` and ``high``: the 95 % interval when frames are drawn again,
        the same ones for both.
        """
        sign, column = (1, 0) if metric == "auprc" else (-1, 1)
        other = max((n for n in rows if n != LEARNED), key=lambda n: sign * rows[n][metric])
        ours, theirs = (self.draws(name, seed)[:, column] for name in (LEARNED, other))
        low, high = interval(100 * (ours - theirs))
        return {
            "other": other,
            "difference": rows[LEARNED][metric] - rows[other][metric],
            "low": low,
            "high": high,
        }

    def components(self, name: str, threshold: float, track: str) -> dict[str, float]:
        """See `ComponentMetrics.compute`."""
        metrics = ComponentMetrics(TRACKS[track])
        for i in range(len(self.frames)):
            metrics.update(self.maps[name, i] >= threshold, self.maps["truth", i])
        return metrics.compute()

    def frame_auprc(self, name: str) -> np.ndarray:
        """AuPRC of each frame alone, float64 [N] in [0,1]; NaN for frames without both kinds of pixels."""
        return np.array([m.compute()["auprc"] if m.has_both_classes else np.nan
                         for m in self.pixels[name].by_image()])  # fmt: skip

    def close(self) -> None:
        """Delete what lies on disk."""
        self.maps.close()


def summary(
    seen: Anomalies,
    seed: int,
    track: str = "obstacle",
    thresholds: dict[str, float] | None = None,
) -> dict[str, Any]:
    """The JSON of one model on one set of frames: ``scores`` maps each score to its `Anomalies.row`.

    Where `LEARNED` is among several scores, ``against_best`` has its `Anomalies.difference` in both metrics.
    """
    thresholds = thresholds or {}
    scores = {name: seen.row(name, seed, track, thresholds.get(name)) for name in seen.names}
    result = {
        "frames": len(seen.frames),
        "seed": seed,
        "prevalence": 100 * seen.prevalence,
        "track": track,
        "scores": scores,
    }
    if LEARNED in scores and len(scores) > 1:
        result["against_best"] = {m: seen.difference(scores, m, seed) for m in ("auprc", "fpr95")}
    return result


def evaluate_anomaly(
    predict: Predicts,
    frames: Frames,
    cutouts: Sequence[np.ndarray] | None,
    seed: int,
    names: Sequence[str] | None = None,
    progress: Progress = iter,
) -> dict[str, Any]:
    """Every score on the same forward passes, with 95 % intervals over frames; see `summary`.

    ``cutouts`` are pasted into each frame (the choice depends on seed and index alone); None: the frames have
    outliers of their own.
    """
    seen = Anomalies(predict, pasted(frames, [cutouts], seed) if cutouts else frames, names, (), progress)
    try:
        return summary(seen, seed)
    finally:
        seen.close()
