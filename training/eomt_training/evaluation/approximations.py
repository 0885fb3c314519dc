# SPDX-License-Identifier: MIT
"""What the engine's shortcuts cost: each way to run it beside its exact reference, on the same frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from eomt_anomaly.model import patches
from eomt_anomaly.runtime import Engine, Prediction
from eomt_anomaly.runtime.network import choose_precision, cpu_has_bf16

from ..metrics.anomaly import PixelMetrics
from ..metrics.semantic import ConfusionMatrix
from .frames import Frames, anomaly_truth
from .semantic import Progress

LIMITS = {"miou": 0.2, "auprc": 0.5, "fpr95": 0.5}  # most that a default may differ by, in points of a %
REFERENCE = "exact"
SMALLER = 0.75  # of the short side, for comparison
Run = Callable[[Sequence[np.ndarray]], list[Prediction]]  # `Engine.infer`, or what does the same
_DECISIVE = ("backend", "mode", "short_side", "max_tokens", "compile")  # what is computed, with the precision


@dataclass(frozen=True)
class Way:
    """A way to run the engine: its arguments beside checkpoint, backbone and device."""

    name: str
    about: str
    options: dict[str, Any] = field(default_factory=dict)


def ways(device: str, short_side: int, patch: int, exported: Path | None = None) -> list[Way]:
    """All that the engine can do with a checkpoint on a device; the reference comes first.

    short_side: px, as the model was trained; patch: px. exported: a folder of training/export.py.
    """
    smaller = patches(SMALLER * short_side, patch) * patch
    found = [
        Way(REFERENCE, "nothing: fp32, each mask enlarged before its sigmoid", {"precision": "exact"}),
        Way("fp32", "sigmoid and sums before enlarging", {"precision": "fp32"}),
        Way("bf16", "as fp32, and the network in bfloat16", {"precision": "bf16"}),
        Way("fp16", "as fp32, and the network in float16", {"precision": "fp16"}),
        Way("bf16 compiled", "as bf16, through torch.compile", {"precision": "bf16", "compile": True}),
        Way("windows", "as exact, but windows", {"precision": "exact", "mode": "windows"}),
        Way("bf16 windows", "as bf16, but windows", {"precision": "bf16", "mode": "windows"}),
        Way("smaller", f"as exact, at {smaller} px", {"precision": "exact", "short_side": smaller}),
    ]
    if exported:
        for backend in ("onnxruntime", "openvino"):
            options = {"checkpoint": exported, "backend": backend, "device": "cpu"}
            found.append(Way(backend, f"as fp32, through {backend}", options))
        if cpu_has_bf16():
            about = "as openvino, and its arithmetic in bfloat16"
            found.append(Way("openvino bf16", about, {**options, "precision": "bf16"}))
    return [way for way in found if device.startswith("cuda") or way.options.get("precision") != "fp16"]


def in_force(options: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The arguments that decide what is computed, with the engine's own defaults filled in."""
    values = {name: p.default for name, p in inspect.signature(Engine).parameters.items()} | dict(options)
    precision = choose_precision(values["precision"], torch.device(options.get("device", device)))
    return {"precision": precision, **{name: values[name] for name in _DECISIVE}}


def is_default(way: Way, device: str) -> bool:
    """Whether an `Engine` that is given no options does this on the device."""
    return in_force(way.options, device) == in_force({}, device)


class Tally:
    """One way's predictions against the labels and against the reference's predictions."""

    def __init__(self, num_classes: int):
        self.confusion, self.pixels = ConfusionMatrix(num_classes), PixelMetrics()
        self.count = self.same = 0
        self.largest = self.total = 0.0
        self.ms: list[float] = []

    def add(self, found: Prediction, reference: Prediction, labels: np.ndarray) -> None:
        """labels: uint8 [H,W], outliers 254, void 255; void pixels count in the comparison of the maps."""
        self.confusion.update(found.class_map, labels)
        self.pixels.update(found.anomaly, anomaly_truth(labels))
        difference = np.abs(found.anomaly.astype(np.float64) - reference.anomaly)
        self.largest = max(self.largest, float(difference.max()))
        self.total += float(difference.sum())
        self.same += int((found.class_map == reference.class_map).sum())
        self.count += labels.size
        self.ms.append(found.timings_ms.get("total", float("nan")))

    def result(self) -> dict[str, float]:
        """``miou``, ``auprc``, ``fpr95``, ``agreement`` in %; ``anomaly_max``, ``anomaly_mean`` of
        |difference| of the published maps, which lie in [0,1); ``ms``, the median of a frame.

        Raises ValueError without a normal or without an anomalous pixel.
        """
        anomaly = self.pixels.compute()
        return {
            "miou": 100 * self.confusion.compute()["miou"],
            "auprc": 100 * anomaly["auprc"],
            "fpr95": 100 * anomaly["fpr95"],
            "agreement": 100 * self.same / self.count,
            "anomaly_max": self.largest,
            "anomaly_mean": self.total / self.count,
            "ms": median(self.ms),
        }


def compare(
    runs: Mapping[str, Run], frames: Frames, num_classes: int, progress: Progress = iter
) -> dict[str, dict[str, Any]]:
    """`Tally.result` and `judged` of each way, interleaved frame by frame; the first is the reference."""
    tallies = {name: Tally(num_classes) for name in runs}
    for i in progress(range(len(frames))):
        sample = frames[i]
        image = np.ascontiguousarray(sample.image)
        predictions = {name: run([image])[0] for name, run in runs.items()}
        reference = next(iter(predictions.values()))
        for name, prediction in predictions.items():
            tallies[name].add(prediction, reference, sample.labels)
    rows = {name: tally.result() for name, tally in tallies.items()}
    return {name: {**row, **judged(row, next(iter(rows.values())))} for name, row in rows.items()}


def judged(row: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, Any]:
    """``difference`` to the reference in points, the metrics that ``exceeds`` names, ``within`` for none.

    A limit holds in both directions: what changes a metric for the better by more is no approximation of
    the reference either, and on other data it may go the other way. NaN is not within any limit.
    """
    difference = {metric: row[metric] - reference[metric] for metric in LIMITS}
    exceeds = [m for m, limit in LIMITS.items() if not abs(difference[m]) <= limit + 1e-9]
    return {"difference": difference, "exceeds": exceeds, "within": not exceeds}


def table(rows: Mapping[str, Mapping[str, Any]], about: str = "what is approximated") -> str:
    """`compare`'s rows, with ``about`` (the head of that column too) and ``default``, in Markdown."""
    head = ("way", about, "mIoU %", "AuPRC %", "FPR95 %", "classes agree %",
            "anomaly, max and mean difference", "ms", "within limits")  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for name, row in rows.items():
        metrics = (f"{row[m]:.2f} ({row['difference'][m]:+.2f})" for m in LIMITS)
        lines.append((
            f"`{name}`{', the default' if row.get('default') else ''}", row["about"], *metrics,
            f"{row['agreement']:.2f}", f"{row['anomaly_max']:.2g}, {row['anomaly_mean']:.2g}",
            f"{row['ms']:.0f}", "yes" if row["within"] else f"no: {', '.join(row['exceeds'])}",
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
