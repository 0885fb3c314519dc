# SPDX-License-Identifier: MIT
"""Runs one mode on one bag: its summary.json as plain data, and the courses for the plots."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...report.benchmark_page import Course
from ...report.compare import compare, paired
from ...report.recording import Recording, together
from ..accounts import ReplayError
from ..bag_cameras import cameras_of, truths_of
from ..bag_io import Bag
from ..live import connect
from ..measured import measured, now, of_model, provenance
from ..player import ros_message
from ..replay_options import settings_of
from . import load, modes
from .bench import Bench, Run, summary_of
from .in_process import MakeEngine, contestant, take_turns
from .listeners import Listeners
from .values import Values

Say = Callable[[str], Any]


def as_recorded(args: argparse.Namespace, module: str, say: Say) -> tuple[dict, list[Course]]:
    """The bag through a live node as it was recorded, compared with its ground truth where it has one."""
    with Bag(args.bag) as bag:
        truths, _ = truths_of(bag, cameras_of(bag, args.topics, args.cameras, args.several))
    pictures = () if args.no_quality or not truths else ("mask", "heatmap")
    with measured(args, args.output, pictures, say, module) as result:
        summary = result.summary
        stages, resources = summary["stages_ms"], summary["resources"]
        recordings = {view.camera.name: view.recording for view in result.views}
        run = summary_of(recordings, f"as recorded, {args.rate:g}x", None, stages, resources)
        course = Course(run["name"], latencies(together(list(recordings.values()))), result.samples)
        return {"mode": args.mode, **run, **summary, "runs": [run]}, [course]


def under_load(args: argparse.Namespace, module: str, say: Say) -> tuple[dict, list[Course]]:
    """The bag's pictures at even rates through a live node."""
    started = now()
    with Bag(args.bag) as bag:
        settings, notes = settings_of(args, bag, args.output, (), module)
        topics = [camera.topic for camera in settings.cameras]
        records = load.pictures(bag, [topic.name for topic in topics], args.start_offset)
        if len(records) < (whole := sum(topic.count for topic in topics)):
            notes.append(f"{len(records)} of {whole} pictures were used, over and over.")
        names = [camera.name for camera in settings.cameras]
        with connect(settings, bag, say) as live, live.detector():
            bench = Bench(live, load.rounds(records, len(names)), say)
            headline, extra = _mode(args, bench, lambda: Listeners(settings.detector, names))
            about = provenance(args, settings, bag, started) | of_model(live.recorder)
    summary = {
        "mode": args.mode,
        **headline.summary,
        "alerts": None,
        "quality": None,
        **about,
        "subscribed": ["alerts"],
        "seconds": args.seconds,
        **extra,
        "runs": [run.summary for run in bench.runs],
        "notes": notes,
    }
    ordered = [run for run in bench.runs if run is not headline] + [headline]
    return summary, [Course(r.summary["name"], latencies(r.recording), r.samples) for r in ordered]


def without_ros(args: argparse.Namespace, make: MakeEngine, say: Say) -> tuple[dict, list[Course]]:
    """Engine and monitor on the bag's pictures in this process; two checkpoints take turns."""
    started = now()
    with Bag(args.bag) as bag:
        settings, notes = settings_of(args, bag, args.output, (), "")
        topics = {camera.topic.name: camera.name for camera in settings.cameras}
        records = load.pictures(bag, list(topics), args.start_offset)
        if len(records) < (whole := sum(camera.topic.count for camera in settings.cameras)):
            notes.append(f"Only the first {len(records)} of {whole} pictures fit in memory.")
        cameras = []
        for camera in settings.cameras:
            first = next(bag.records([camera.info.name]), None) if camera.info else None
            cameras.append((camera, None if first is None else ros_message(first)))
        about = provenance(args, settings, bag, started)
    chosen = {"checkpoint": settings.parameters["checkpoint"]}
    if args.against is not None:
        chosen["against"] = args.against and str(Path(args.against).resolve())
    sides = []
    for name, checkpoint in chosen.items():
        say(f"building the engine for {checkpoint or 'the checkpoint inside the package'}")
        values = Values(list(topics.values()), settings.parameters | {"checkpoint": checkpoint})
        sides.append(contestant(name, cameras, values, make))
    rounds = load.rounds(records, values["max_batch"])
    say(f"judging {len(records)} pictures" + ("" if args.seconds is None else f" for {args.seconds:g} s"))
    sampler = take_turns(sides, rounds, args.seconds)
    for side in sides:
        side.engine.close()
    samples = sampler.samples if len(sides) == 1 else []  # of both together they say nothing of either
    runs = [side.summary(samples, topics) for side in sides]
    if not any(run["frames_out"] for run in runs):
        raise ReplayError(f"no frame was judged: {runs[0]['dropped']}")
    summary = {
        "mode": args.mode,
        **runs[0],
        "age_ms": None,
        "alerts": None,
        "quality": None,
        **about,
        "seconds": args.seconds,
        "runs": runs,
        "notes": notes,
    }
    if len(sides) == 2:
        found = compare(*({"mode": args.mode, **run} for run in runs))
        summary["compare"] = found | {"paired": paired(sides[0].totals, sides[1].totals)}
    courses = [Course(side.name, side.course, samples) for side in reversed(sides)]
    return summary, courses


def latencies(recording: Recording) -> list[tuple[float, float]]:
    """(s, ms) of each judged frame: when it was published, and how long its alert took."""
    return [(f.sent_s, 1e3 * f.latency_s) for f in recording.frames if f.latency_s is not None]


def _mode(
    args: argparse.Namespace, bench: Bench, listeners: Callable[[], Listeners]
) -> tuple[Run, dict[str, Any]]:
    if args.mode == "search":
        return modes.find_rate(bench, args.seconds, args.probes, args.max_loss)
    if args.mode == "overload":
        return modes.overload(bench, args.seconds, args.probes, args.factor, args.sustained, args.max_loss)
    if args.mode == "outputs":
        return modes.outputs(bench, args.seconds, args.rounds, args.hz and args.hz[0], listeners)
    return modes.at_rates(bench, args.hz, args.seconds)
