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
from functools import partial
from typing import Any

import numpy as np

from ...alerts import CameraModel, Monitor
from ...report.statistics import percentiles
from ..accounts import ReplayError
from ..bag_cameras import Camera
from ..bag_io import Record
from ..conversions import InvalidInput, to_rgb
from ..engines import make_engine, rules
from ..fallback import EngineSettings
from ..ignore_mask import check_mask, read_mask
from ..mailbox import Drop
from ..player import ros_message
from ..refusals import explain
from ..resources import Sample, Sampler, summarize
from .load import Round
from .values import Values

WARM_ROUNDS = 2
MakeEngine = Callable[[EngineSettings], Any]
Admitted = tuple[int, Record, Any, dict[str, float]]  # index, message, image, s by stage so far


@dataclass
class View:
    """One camera of a contestant: its monitor, and what became of its pictures."""

    monitor: Monitor
    model: CameraModel | None
    ignore: np.ndarray | None = None
    frames_in: int = 0
    dropped: Counter = field(default_factory=Counter)
    totals: dict[int, float] = field(default_factory=dict)  # frame's index → s from its batch's begin

    def fitting(self, image: Any) -> CameraModel | None:
        """The camera's model where the picture has its size."""
        model = self.model
        return model if model is not None and (model.height, model.width) == image.shape[:2] else None

    def summary(self) -> dict[str, Any]:
        """Books and latency."""
        latency = list(self.totals.values())
        return {
            "frames_in": self.frames_in,
            "frames_out": len(latency),
            "dropped": dict(self.dropped),
            "loss": round(1 - len(latency) / self.frames_in, 5),
            "latency_ms": percentiles(latency, 1e3),
            "jitter_ms": percentiles(np.abs(np.diff(latency)), 1e3),
        }


@dataclass
class Contestant:
    """One engine with a monitor for each topic, and what it took on each frame."""

    name: str
    engine: Any
    views: dict[str, View]  # by the topic of the pictures
    second_look: bool = True
    stages: dict[str, list[float]] = field(default_factory=dict)  # s, one value a judged frame
    course: list[tuple[float, float]] = field(default_factory=list)  # (s of work so far, ms) likewise
    busy_s: float = 0.0  # in batches of which a frame was judged

    def judge(self, batch: Round, index: int) -> None:
        """The way of some messages from their bytes to the alert levels, in one pass of the network; one by
        one where the engine gains nothing from more, as in the node.

        `index` is the first one's. What is wrong with a picture is counted, and costs no other picture.
        """
        begin, judged = time.perf_counter(), len(self.course)
        size = len(batch) if self.engine.batched else 1
        for first in range(0, len(batch), size):
            self._infer(self._admit(batch[first : first + size], index + first, begin), begin)
        if len(self.course) > judged:
            self.busy_s += time.perf_counter() - begin

    def _admit(self, batch: Round, index: int, begin: float) -> list[Admitted]:
        """What can be judged; the rest is counted."""
        admitted: list[Admitted] = []
        for number, record in enumerate(batch, index):
            taken = time.perf_counter()
            view = self.views[record.topic]
            view.frames_in += 1
            try:
                message = ros_message(record)
                came = time.perf_counter()
                image = to_rgb(message, self.engine.decode_jpeg)
                check_mask(view.ignore, image)
            except InvalidInput:
                view.dropped[Drop.INVALID.value] += 1
                continue
            except Exception as error:
                view.dropped[explain(error).drop.value] += 1
                continue
            spans = {"deserialize": came - taken, "decode": time.perf_counter() - came}
            if len(self.views) > 1:  # for the pictures of the batch before it
                spans["wait"] = taken - begin
            admitted.append((number, record, image, spans))
        return admitted

    def _infer(self, admitted: list[Admitted], begin: float) -> None:
        """As `worker.Worker`: a batch that fails is run again frame by frame."""
        if not admitted:
            return
        started = time.perf_counter()
        try:
            predictions = self.engine.infer([image for _, _, image, _ in admitted])
        except Exception as error:  # of the engine; sorted as the node sorts it
            if len(admitted) == 1:
                self.views[admitted[0][1].topic].dropped[explain(error).drop.value] += 1
                return
            for one in admitted:
                self._infer([one], begin)
            return
        inferred = time.perf_counter()
        for (number, record, image, spans), prediction in zip(admitted, predictions):
            view, seen = self.views[record.topic], time.perf_counter()
            look = partial(self._look_again, image, prediction.anomaly, spans)
            try:
                view.monitor.update(
                    prediction.class_map,
                    prediction.anomaly,
                    record.time_ns / 1e9,
                    view.fitting(image),
                    view.ignore,
                    look_again=look if self.second_look and self.engine.zoom != 1 else None,
                )
            except Exception as error:
                view.dropped[explain(error).drop.value] += 1
                continue
            end = time.perf_counter()
            view.totals[number] = total = end - begin
            self.course.append((self.busy_s + total, 1e3 * total))
            again_s = spans.get("second_look", 0.0)
            stages = spans | {"inference": inferred - started, "alerts": end - seen - again_s}
            stages |= {f"engine_{name}": ms / 1e3 for name, ms in prediction.timings_ms.items()}
            service = total - spans.get("wait", 0.0)
            stages |= {"service": service, "overhead": service - stages["inference"] - again_s}
            for name, seconds in stages.items():
                self.stages.setdefault(name, []).append(seconds)

    def _look_again(self, image: Any, anomaly: np.ndarray, spans: dict[str, float], boxes: Any) -> np.ndarray:
        """The engine's second look, and its time among the `spans`, s."""
        started = time.perf_counter()
        refined = self.engine.look_again(image, anomaly, boxes)
        spans["second_look"] = time.perf_counter() - started
        return refined

    def forget(self) -> None:
        """Drop what was counted and tracked so far."""
        self.stages, self.course, self.busy_s = {}, [], 0.0
        self.views = {topic: View(v.monitor, v.model, v.ignore) for topic, v in self.views.items()}
        self.begin_anew()

    def begin_anew(self) -> None:
        """The next pictures are the bag's first ones: forget what was tracked."""
        for view in self.views.values():
            view.monitor.reset()

    @property
    def totals(self) -> dict[int, float]:
        """Frame's index → s, of all cameras."""
        return {index: s for view in self.views.values() for index, s in view.totals.items()}

    def summary(self, samples: list[Sample], names: Mapping[str, str]) -> dict[str, Any]:
        """The numbers, named as in the runs of a live node; `names` are the cameras' by topic.

        `latency_ms` is from the batch's begin, when the bytes of all its pictures are there, to the level.
        """
        engine, each = self.engine, {names[topic]: view.summary() for topic, view in self.views.items()}
        judged = sum(one["frames_out"] for one in each.values())
        frames_in = sum(one["frames_in"] for one in each.values())
        steps = [abs(d) for view in self.views.values() for d in np.diff(list(view.totals.values()))]
        return {
            "name": self.name,
            "frames_in": frames_in,
            "frames_out": judged,
            "dropped": dict(sum((view.dropped for view in self.views.values()), Counter())),
            "loss": round(1 - judged / frames_in, 5),
            "fps": {"out": round(judged / self.busy_s, 3) if self.busy_s else None},
            "duration_s": round(self.busy_s, 3),
            "latency_ms": percentiles(self.totals.values(), 1e3),
            "jitter_ms": percentiles(steps, 1e3),
            "stages_ms": {name: percentiles(values, 1e3) for name, values in self.stages.items()},
            "resources": summarize(samples, judged),
            "model_id": engine.model_id,
            "checkpoint_sha256": engine.checkpoint_sha256,
            "device": str(engine.device),
            "precision": str(engine.precision),
            **({"cameras": each} if len(each) > 1 else {}),
        }


def contestant(
    name: str, cameras: Sequence[tuple[Camera, Any]], values: Values, make: MakeEngine = make_engine
) -> Contestant:
    """An engine and monitors as the node would make them from its parameters' `values`.

    `cameras` with their CameraInfo messages or None. Raises ReplayError, which says why not.
    """
    sizes = {tuple(values[f"{camera.name}.warmup_size"]) for camera, _ in cameras}
    shapes = [(height, width) for width, height in sorted(sizes) if width and height]
    try:
        engine = make(EngineSettings.chosen(values, shapes))
        views = {
            camera.topic.name: View(
                Monitor(rules(engine, values)),
                _model(camera.name, values, info),
                read_mask(camera.name, values[f"{camera.name}.ignore_mask"]),
            )
            for camera, info in cameras
        }
        if shapes:
            engine.warmup(shapes)
    except (ValueError, OSError, RuntimeError) as error:
        raise ReplayError(
            f"the engine for {name} cannot be built: {type(error).__name__}: {error}"
        ) from error
    return Contestant(name, engine, views, values["second_look"])


def _model(camera: str, values: Values, info: Any) -> CameraModel | None:
    up = values[f"{camera}.height_m"]
    if info is None or up <= 0:
        return None
    pitch = math.radians(values[f"{camera}.pitch_deg"])
    return CameraModel.from_camera_info(
        info, rectified=values[f"{camera}.rectified"], height_m=up, pitch_rad=pitch
    )


def take_turns(contestants: Sequence[Contestant], rounds: Sequence[Round], seconds: float | None) -> Sampler:
    """Every contestant judges every picture; who goes first changes with each round.

    Once through the rounds, or over and over for `seconds` (at least once). The first ones are run before,
    uncounted. Returns the process's samples.
    """
    for one in contestants:
        for batch in rounds[:WARM_ROUNDS]:
            one.judge(batch, -len(batch))
        one.forget()
    frame = 0
    with Sampler(os.getpid()) as sampler:
        for index, batch in _repeated(rounds, seconds):
            turn = index % len(contestants)
            for one in (*contestants[turn:], *contestants[:turn]):
                if index and index % len(rounds) == 0:
                    one.begin_anew()
                one.judge(batch, frame)
            frame += len(batch)
    return sampler


def _repeated(rounds: Sequence[Round], seconds: float | None) -> Iterator[tuple[int, Round]]:
    if seconds is None:
        yield from enumerate(rounds)
        return
    end = time.monotonic() + seconds
    for index, batch in enumerate(itertools.cycle(rounds)):
        if index >= len(rounds) and time.monotonic() > end:
            return
        yield index, batch
