# SPDX-License-Identifier: MIT
"""What the worker does with frames: hands each to its camera and keeps the figures for diagnostics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from .camera import Camera
from .mailbox import Frame
from .publishers import Look
from .refusals import Refused

KEPT = 1024  # newest durations of each kind, for percentiles


class Durations:
    """The newest durations in milliseconds, by kind; any thread may add and read."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, kind: str, seconds: float) -> None:
        """Remember one duration, given in seconds."""
        with self._lock:
            self._values.setdefault(kind, deque(maxlen=KEPT)).append(seconds * 1e3)

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._values.clear()

    def percentiles(self) -> dict[str, dict[str, float]]:
        """For each kind p50, p95 and p99 in milliseconds; each is a value that occurred."""
        with self._lock:
            values = {kind: np.array(kept) for kind, kept in self._values.items()}
        picked = {kind: np.percentile(kept, (50, 95, 99), method="inverted_cdf")
                  for kind, kept in values.items()}
        return {kind: dict(zip(("p50", "p95", "p99"), found.tolist())) for kind, found in picked.items()}


class Pipeline:
    """The worker's `Handler`. Set `look` before the first frame; it may be replaced at any time."""

    look: Look

    def __init__(self, cameras: Mapping[str, Camera]):
        self.durations = Durations()
        self._cameras = cameras

    def admit(self, frame: Frame, engine: Any) -> Any:
        """See `worker.Handler`."""
        taken = time.monotonic()
        rgb = self._cameras[frame.camera].admit(frame, engine)
        frame.stages.update(wait=taken - frame.received, decode=time.monotonic() - taken)
        return rgb

    def judge(self, frame: Frame, rgb: Any, prediction: Any, inference_s: float, engine: Any) -> None:
        """Draw the conclusions from a prediction and publish them, or raise `Refused`."""
        age = self._cameras[frame.camera].judge(frame, rgb, prediction, self.look, engine)
        stages = frame.stages
        network_s = inference_s + stages.get("second_look", 0.0)
        parts = {f"engine_{name}": ms / 1e3 for name, ms in prediction.timings_ms.items()}
        whole = {"inference": inference_s, "age": age, "overhead": stages["end_to_end"] - network_s,
                 "service": stages["end_to_end"] + stages["outputs"] - stages["wait"]}
        for kind, seconds in {**stages, **parts, **whole}.items():
            self.durations.add(kind, seconds)

    def refused(self, frame: Frame, why: Refused) -> None:
        """A frame was not judged."""
        self._cameras[frame.camera].refused(frame, why)
