# SPDX-License-Identifier: MIT
"""`backend="auto"`: every backend that can run the checkpoint is measured here, and the fastest is kept.

They are opened, measured and closed one after another, so memory holds one of them at a time. One that
does not answer as torch does, up to the rounding of its precision, is left out, whatever its speed. Answers
are compared at the export's size, where all see the image alike; times are taken at the sizes of the images
to come, which a graph of one size may need several windows for, and torch one pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Protocol

import cv2
import numpy as np

from .pipeline import Prediction

ROUNDS = 5
# Share of pixels whose class must be torch's; how far anomaly, in [0,1), may be from torch's on average.
SAME_CLASS = {"fp32": 0.999, "bf16": 0.98}
ANOMALY_OFF = {"fp32": 1e-3, "bf16": 0.02}


class Runs(Protocol):
    """What is asked of an engine."""

    precision: str

    def infer(self, images: list[np.ndarray]) -> list[Prediction]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Choice:
    """The backend in use. milliseconds: of one image, of each that was measured; left_out: why not."""

    backend: str
    precision: str
    milliseconds: dict[str, float]
    left_out: dict[str, str]

    def __str__(self) -> str:
        measured = [f"{name} {ms:.1f} ms" for name, ms in self.milliseconds.items()]
        return "; ".join([*measured, *(f"{name} left out: {why}" for name, why in self.left_out.items())])


def fastest(candidates: dict[str, str], start: Callable[[str, str], Runs], size: tuple[int, int],
            shapes: Sequence[tuple[int, int]] = (), clock: Callable[[], float] = time.perf_counter) -> Choice:
    """Measure the candidates (backend -> precision), torch first.

    size: height and width of the export, at which all must answer alike. shapes: those of the images to come,
    on which they are timed, each as often; without any, `size`.

    Raises ValueError where none of them runs; the message has every reason.
    """
    image, reference = _image(size), None
    images = [_image(shape) for shape in dict.fromkeys(shapes)] or [image]
    milliseconds: dict[str, float] = {}
    precisions, left_out = {}, {}
    for backend, precision in candidates.items():
        try:
            engine = start(backend, precision)
        except Exception as error:      # whatever a library raises: ONNX Runtime's are no RuntimeErrors
            left_out[backend] = str(error)
            continue
        try:
            answer = engine.infer([image])[0]
            took = mean(_milliseconds(engine, each, clock) for each in images)
        except Exception as error:
            left_out[backend] = f"it does not run: {error}"
            continue
        finally:
            engine.close()
        reference = reference or (answer, engine.precision)
        if why := _differs(answer, engine.precision, *reference):
            left_out[backend] = why
            continue
        milliseconds[backend], precisions[backend] = took, precision
    if not milliseconds:
        raise ValueError("backend='auto' found none that runs: " + "; ".join(
            f"{name}: {why}" for name, why in left_out.items()))
    best = min(milliseconds, key=milliseconds.__getitem__)
    return Choice(best, precisions[best], milliseconds, left_out)


def _milliseconds(engine: Runs, image: np.ndarray, clock: Callable[[], float]) -> float:
    """Median of an image's times, after a first one that is slow."""
    times = []
    engine.infer([image])
    for _ in range(ROUNDS):
        begun = clock()
        engine.infer([image])
        times.append(1e3 * (clock() - begun))
    return median(times)


def _differs(answer: Prediction, precision: str, reference: Prediction, of: str) -> str:
    """How an answer is unlike the reference, in words; "" where rounding explains it."""
    kind = "bf16" if {"bf16", "fp16"} & {precision, of} else "fp32"
    same = float((answer.class_map == reference.class_map).mean())
    off = float(np.abs(answer.anomaly - reference.anomaly).mean())
    if same >= SAME_CLASS[kind] and off <= ANOMALY_OFF[kind]:
        return ""
    return (f"it answers otherwise: {100 * same:.1f} % of the classes are torch's, "
            f"and the anomaly is {off:.2g} off")


def _image(size: tuple[int, int]) -> np.ndarray:
    """A smooth picture of many colours, uint8 [H,W,3]: a network is sure of more in it than in noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture: Any = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return picture
