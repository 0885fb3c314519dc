# SPDX-License-Identifier: MIT
"""A replay of the whole bag, compared with its ground truth: what the demo and the benchmark report."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..report import quality
from ..report.origin import host
from ..report.recording import Recording, together
from ..report.statistics import summarize_cameras
from .accounts import ReplayError
from .bag_cameras import Camera, truths_of
from .bag_io import Bag, Topic
from .describe import versions
from .ground_truth import Labels
from .recorder import Recorder
from .replay import replay
from .replay_options import settings_of
from .resources import Sample
from .start import Settings


@dataclass
class View:
    """One camera's part of a replay, with its ground truth by Frame.index."""

    camera: Camera
    recording: Recording
    labels: Mapping[int, np.ndarray]


@dataclass
class Result:
    """A measured replay with everything that a report needs; `samples` are those of `resources.Sampler`."""

    bag: Bag
    views: list[View]
    summary: dict
    samples: list[Sample]


@contextlib.contextmanager
def measured(
    args: argparse.Namespace, output: Path, pictures: tuple[str, ...], say: Callable[[str], Any], module: str
) -> Iterator[Result]:
    """Replay and evaluate; the pictures are there until the context is left.

    Raises BagError, ReplayError or ChildError.
    """
    with Bag(args.bag) as bag:
        if not 0 <= args.start_offset < max(bag.duration_s, 1e-9):
            raise ReplayError(
                f"--start-offset is {args.start_offset:g} s: {args.bag} lasts {bag.duration_s:.1f} s"
            )
        settings, notes = settings_of(args, bag, output, pictures, module)
        truths, untold = truths_of(bag, settings.cameras)
        notes += untold
        started = now()
        with replay(settings, bag, say) as outcome:
            views, found = [], {}
            for camera in settings.cameras:
                recording = outcome.recordings[camera.name]
                truth = truths.get(camera.name)
                labels, found[camera.name], problems = _quality(bag, truth, recording, pictures, say)
                views.append(View(camera, recording, labels))
                notes += problems
            whole = together([view.recording for view in views])
            first = views[0].recording  # carries what is not of a camera
            first.notes = notes + _notes(whole)
            first.info = {
                "stages_ms": outcome.stages,
                "resources": outcome.sampler.summary(len(whole.judged)),
                **provenance(args, settings, bag, started),
                "ground_truth": ", ".join(topic.name for topic in truths.values()) or None,
                "rate": args.rate,
                **of_model(outcome.recorder),
                "subscribed": ["alerts", *pictures],
            }
            summary = summarize_cameras(outcome.recordings, found)
            yield Result(bag, views, summary, outcome.sampler.samples)


def provenance(args: argparse.Namespace, settings: Settings, bag: Bag, started: str) -> dict[str, Any]:
    """What was run on what, and where: stands in every summary. `started` is a time, ISO 8601."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": started,
        "bag": str(args.bag),
        "bag_sha256": bag.sha256(),
        "topic": ", ".join(camera.topic.name for camera in settings.cameras),
        "camera": ", ".join(camera.name for camera in settings.cameras),
        "host": host(),
        "versions": versions(),
        "parameters": settings.parameters,
    }


def now() -> str:
    """The time, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def of_model(recorder: Recorder) -> dict[str, Any]:
    """What the detector says of its model and engine."""
    model = recorder.model
    return {
        "model_id": model.model_id,
        "score": model.score,
        "threshold_source": model.threshold_source,
        "checkpoint_sha256": model.checkpoint_sha256,
        "device": model.device,
        "precision": model.precision,
        "degraded": recorder.engine_values().get("degraded"),
    }


def _quality(
    bag: Bag,
    truth: Topic | None,
    recording: Recording,
    pictures: tuple[str, ...],
    say: Callable[[str], Any],
) -> tuple[Mapping[int, np.ndarray], dict | None, list[str]]:
    """The labels, the quality (None: not known) and notes on what is wrong with the ground truth."""
    if truth is None:
        return {}, None, []
    try:
        labels, found = Labels(bag, truth, recording.frames), None
        if labels and {"mask", "heatmap"} <= set(pictures):
            say("comparing with the ground truth")
            found = quality.evaluate(recording.frames, labels, recording.class_names, recording.drivable_ids)
    except ValueError as error:  # BagError too: unreadable labels must not cost the rest of the report
        note = f"Quality is not known, as the ground truth {truth.name} cannot be used: {error}."
        say(note)
        return {}, None, [note]
    if len(labels) == len(recording.frames):
        return labels, found, []
    share = f"{len(labels)} of {len(recording.frames)} frames (equal stamps)"
    return labels, found, [f"The ground truth has a label picture for {share}."]


def _notes(recording: Recording) -> list[str]:
    notes = []
    if recording.dropped:
        notes.append(
            f"{sum(recording.dropped.values())} of {len(recording.frames)} frames were dropped: this machine "
            "does not "
            "keep the camera's rate with this model. The detector judges the newest picture instead of "
            "queueing; an "
            "obstacle can pass unseen between two judged frames."
        )
    return notes
