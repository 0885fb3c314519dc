# SPDX-License-Identifier: MIT
"""Engine and monitor on a bag's pictures in this process, without transport: a bound for every node."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...alerts import CameraModel, Monitor
from ...report.statistics import percentiles
from ..accounts import ReplayError
from ..bag_io import Record
from ..conversions import InvalidInput, to_rgb
from ..engines import make_engine, rules
from ..fallback import EngineSettings
from ..mailbox import Drop
from ..parameters import Parameters, all_specs
from ..player import ros_message
from ..refusals import explain
from ..resources import Sample, Sampler, summarize

WARM_FRAMES = 2
MakeEngine = Callable[[EngineSettings], Any]


class Values(Parameters):
    """The node's parameters without a node: the defaults, and what is given instead."""

    def __init__(self, camera: str, given: Mapping[str, Any]):
        """Raises ReplayError for a value that the node would refuse."""
        self.cameras, self.specs = [camera], all_specs([camera])
        self._values = {name: spec.default for name, spec in self.specs.items()} | dict(given)
        changes: list[Any] = [SimpleNamespace(name=name, value=value) for name, value in given.items()]
        try:
            why = self.refusal(changes, configured=False)
        except TypeError as error:
            raise ReplayError(
                f"a parameter has a value of the wrong type ({error}): {dict(given)}"
            ) from error
        if why:
            raise ReplayError(why)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


@dataclass
class Contestant:
    """One engine with its monitor, and what it took on each frame."""

    name: str
    engine: Any
    monitor: Monitor
    camera: CameraModel | None
    stages: dict[str, list[float]] = field(default_factory=dict)  # s, one value a judged frame
    totals: dict[int, float] = field(default_factory=dict)  # frame's index → s from bytes to level
    dropped: Counter = field(default_factory=Counter)
    frames_in: int = 0

    def judge(self, record: Record, index: int) -> None:
        """The way of one message from its bytes to the alert level; what is wrong with it is counted."""
        clock, self.frames_in = time.perf_counter, self.frames_in + 1
        t0 = clock()
        try:
            message = ros_message(record)
            t1 = clock()
            image = to_rgb(message, self.engine.decode_jpeg)
            t2 = clock()
            prediction = self.engine.infer([image])[0]
            t3 = clock()
            self.monitor.update(
                prediction.class_map, prediction.anomaly, record.time_ns / 1e9, self._fitting(image)
            )
            t4 = clock()
        except InvalidInput:
            self.dropped[Drop.INVALID.value] += 1
        except Exception as error:  # of the engine; sorted as the node sorts it
            self.dropped[explain(error).drop.value] += 1
        else:
            spans = {"deserialize": t1 - t0, "decode": t2 - t1, "inference": t3 - t2, "alerts": t4 - t3}
            engine = {f"engine_{name}": ms / 1e3 for name, ms in prediction.timings_ms.items()}
            for name, seconds in {
                **spans,
                **engine,
                "service": t4 - t0,
                "overhead": t4 - t0 - (t3 - t2),
            }.items():
                self.stages.setdefault(name, []).append(seconds)
            self.totals[index] = t4 - t0

    def course(self) -> list[tuple[float, float]]:
        """(s of work so far, ms) of each judged frame."""
        times = list(self.totals.values())
        return [(sofar, 1e3 * seconds) for sofar, seconds in zip(itertools.accumulate(times), times)]

    def forget(self) -> None:
        """Drop what was counted and tracked so far."""
        self.stages, self.totals, self.dropped, self.frames_in = {}, {}, Counter(), 0
        self.monitor.reset()

    def _fitting(self, image: Any) -> CameraModel | None:
        camera = self.camera
        return camera if camera is not None and (camera.height, camera.width) == image.shape[:2] else None

    def summary(self, samples: list[Sample]) -> dict[str, Any]:
        """The numbers, named as in the runs of a live node. `latency_ms` is from bytes to level."""
        engine, judged = self.engine, len(self.totals)
        seconds = sum(self.totals.values())
        latency = list(self.totals.values())
        return {
            "name": self.name,
            "frames_in": self.frames_in,
            "frames_out": judged,
            "dropped": dict(self.dropped),
            "loss": round(1 - judged / self.frames_in, 5),
            "fps": {"out": round(judged / seconds, 3) if seconds else None},
            "duration_s": round(seconds, 3),
            "latency_ms": percentiles(latency, 1e3),
            "jitter_ms": percentiles(np.abs(np.diff(latency)), 1e3),
            "stages_ms": {name: percentiles(values, 1e3) for name, values in self.stages.items()},
            "resources": summarize(samples, judged),
            "model_id": engine.model_id,
            "checkpoint_sha256": engine.checkpoint_sha256,
            "device": str(engine.device),
            "precision": str(engine.precision),
        }


def contestant(
    name: str, camera: str, given: Mapping[str, Any], info: Any, make: MakeEngine = make_engine
) -> Contestant:
    """An engine and a monitor as the node would make them from these parameters.

    `info` is a CameraInfo or None. Raises ReplayError, which says why not.
    """
    values = Values(camera, given)
    settings = EngineSettings.chosen(values)
    try:
        engine = make(settings)
        monitor = Monitor(rules(engine, values))
        width, height = values[f"{camera}.warmup_size"]
        if width and height:
            engine.warmup([(height, width)])
    except (ValueError, OSError, RuntimeError) as error:
        raise ReplayError(
            f"the engine for {name} cannot be built: {type(error).__name__}: {error}"
        ) from error
    up = values[f"{camera}.height_m"]
    model = None
    if info is not None and up > 0:
        pitch = math.radians(values[f"{camera}.pitch_deg"])
        model = CameraModel.from_camera_info(
            info, rectified=values[f"{camera}.rectified"], height_m=up, pitch_rad=pitch
        )
    return Contestant(name, engine, monitor, model)


def take_turns(
    contestants: Sequence[Contestant], records: Sequence[Record], seconds: float | None
) -> Sampler:
    """Every contestant judges every picture; who goes first changes with each. Returns the process's samples.

    Once through the records, or over and over for `seconds` (at least once). The first frames are run before,
    uncounted.
    """
    for one in contestants:
        for record in records[:WARM_FRAMES]:
            one.judge(record, -1)
        one.forget()
    with Sampler(os.getpid()) as sampler:
        for index, record in _pictures(records, seconds):
            turn = index % len(contestants)
            for one in (*contestants[turn:], *contestants[:turn]):
                if index and index % len(records) == 0:
                    one.monitor.reset()  # the bag begins anew
                one.judge(record, index)
    return sampler


def _pictures(records: Sequence[Record], seconds: float | None) -> Iterator[tuple[int, Record]]:
    if seconds is None:
        yield from enumerate(records)
        return
    end = time.monotonic() + seconds
    for index, record in enumerate(itertools.cycle(records)):
        if index >= len(records) and time.monotonic() > end:
            return
        yield index, record
