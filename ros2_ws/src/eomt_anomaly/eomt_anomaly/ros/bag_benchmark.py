# SPDX-License-Identifier: MIT
"""Replays a bag at a rate through a live detector and writes what came of it as JSON.

Starts a detector of its own in its own ROS domain, or attaches to a running one. Every published frame is
accounted for: in = out + dropped, by reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..report import quality
from ..report.recording import Recording
from ..report.statistics import summarize
from .bag_io import Bag, BagError, Topic
from .conversions import InvalidInput, to_rgb
from .describe import host, report_lines, versions, write_json
from .ground_truth import Labels, mounting
from .parameters import all_specs
from .player import positive, ros_message
from .processes import ChildError
from .replay import ReplayError, Settings, replay


@dataclass
class Result:
    """A measured replay with everything that a report needs."""

    bag: Bag
    topic: Topic
    recording: Recording
    labels: Mapping[int, np.ndarray]
    summary: dict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that the benchmark and the demo share."""
    parser.add_argument("--topic", help="topic of the pictures, where the bag has several")
    parser.add_argument("--rate", type=positive, default=1.0, help="times the recorded speed (default 1)")
    parser.add_argument(
        "--start-offset", type=float, default=0.0, metavar="S", help="skip the first S seconds"
    )
    parser.add_argument(
        "--camera", default="front", help="name the detector gives the camera (default front)"
    )
    parser.add_argument(
        "--checkpoint", default="", help="checkpoint folder (default: the one inside the package)"
    )
    parser.add_argument(
        "--backbone", default="", help="the frozen backbone's weights (default: where the checkpoint says)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0, …")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16 or exact")
    parser.add_argument(
        "--short-side", type=int, default=0, help="px for the network (default: the checkpoint's)"
    )
    parser.add_argument(
        "--height", type=float, help="m, camera above the ground (default: from the bag's /tf_static)"
    )
    parser.add_argument(
        "--pitch", type=float, help="degrees the camera looks down (default: from the bag's /tf_static)"
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter of the detector, value as JSON; may be repeated",
    )
    parser.add_argument(
        "--startup-timeout", type=positive, default=180.0, metavar="S", help="for the detector to start"
    )
    parser.add_argument("--domain-id", type=int, help="ROS_DOMAIN_ID of the replay (default: one of its own)")


def settings_of(
    args: argparse.Namespace, bag: Bag, topic: Topic, output: Path, pictures: tuple[str, ...], module: str
) -> tuple[Settings, list[str]]:
    """The replay that the options ask for, and notes on what is not known of the camera."""
    camera, notes = args.camera, []
    parameters: dict[str, Any] = {
        "checkpoint": args.checkpoint and str(Path(args.checkpoint).resolve()),
        "backbone": args.backbone and str(Path(args.backbone).resolve()),
        "device": args.device,
        "precision": args.precision,
        "short_side": args.short_side,
    }
    if (size := _picture_size(bag, topic)) is not None:
        parameters[f"{camera}.warmup_size"] = list(size)
    place = mounting(bag, topic)
    height = args.height if args.height is not None else place[0] if place else None
    pitch = args.pitch if args.pitch is not None else math.degrees(place[1]) if place else None
    if bag.camera_info_of(topic.name) is None:
        notes.append("The bag has no CameraInfo beside the pictures: positions and distances are unknown.")
    elif height is None or height <= 0:
        notes.append(
            "The camera's height above the ground is unknown (no /tf_static in the bag; --height gives it): "
            "positions and distances are unknown."
        )
    else:
        parameters[f"{camera}.height_m"], parameters[f"{camera}.pitch_deg"] = (
            float(height),
            float(pitch or 0.0),
        )
    known = all_specs([camera])
    for name, value in (_parameter(text) for text in args.param):
        if name not in known:  # ROS ignores what a node does not declare
            raise ReplayError(
                f"--param {name}: the detector has no such parameter; it has: {', '.join(known)}"
            )
        parameters[name] = value
    return Settings(
        args.bag,
        output,
        topic.name,
        args.rate,
        args.start_offset,
        camera,
        parameters,
        pictures,
        getattr(args, "attach", False),
        getattr(args, "node", "/detector"),
        args.startup_timeout,
        domain_id=args.domain_id,
        module=module,
    ), notes


@contextlib.contextmanager
def measured(
    args: argparse.Namespace, output: Path, pictures: tuple[str, ...], say: Callable[[str], Any], module: str
) -> Iterator[Result]:
    """Replay and evaluate; the pictures are there until the context is left.

    Raises BagError, ReplayError or ChildError.
    """
    with Bag(args.bag) as bag:
        topic = bag.choose_image_topic(args.topic)
        if not 0 <= args.start_offset < max(bag.duration_s, 1e-9):
            raise ReplayError(
                f"--start-offset is {args.start_offset:g} s: {args.bag} lasts {bag.duration_s:.1f} s"
            )
        truth = bag.ground_truth_of(topic.name)
        settings, notes = settings_of(args, bag, topic, output, pictures, module)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with replay(settings, bag, topic, say) as outcome:
            recording = outcome.recording
            labels, found, problems = _quality(bag, truth, recording, pictures, say)
            recording.notes = notes + problems + _notes(recording)
            model = outcome.recorder.model
            recording.info = {
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "started": started,
                "bag": str(args.bag),
                "bag_sha256": bag.sha256(),
                "topic": topic.name,
                "ground_truth": truth.name if truth else None,
                "rate": args.rate,
                "camera": args.camera,
                "model_id": model.model_id,
                "score": model.score,
                "threshold_source": model.threshold_source,
                "checkpoint_sha256": model.checkpoint_sha256,
                "device": model.device,
                "precision": model.precision,
                "degraded": outcome.engine.get("degraded"),
                "subscribed": ["alerts", *pictures],
                "host": host(),
                "versions": versions(),
                "parameters": settings.parameters,
            }
            yield Result(bag, topic, recording, labels, summarize(recording, found))


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="bag_benchmark", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bag", type=Path, help="rosbag2 folder, or an .mcap or .db3 file")
    add_arguments(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("out/benchmark"), help="folder for summary.json and the log"
    )
    parser.add_argument(
        "--no-quality",
        action="store_true",
        help="do not subscribe to mask and heatmap: latency as with alerts alone",
    )
    parser.add_argument(
        "--attach",
        action="store_true",
        help="use a detector that runs already, in this ROS domain; it must "
        "listen to the bag's topics, and nothing else may publish on them",
    )
    parser.add_argument("--node", default="/detector", help="full name of the detector (default /detector)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, module: str = "eomt_anomaly.ros.detector") -> int:
    """Exit status: 0 when frames came back, 1 when none did or the replay failed, 130 when interrupted."""
    args = arguments(argv)
    end_on_sigterm()
    try:
        with Bag(args.bag) as bag:
            truth = bag.ground_truth_of(bag.choose_image_topic(args.topic).name)
        pictures = () if args.no_quality or truth is None else ("mask", "heatmap")
        with measured(args, args.output, pictures, _say, module) as result:
            write_json(args.output / "summary.json", result.summary)
            print(report_lines(result.summary))
            print(f"wrote {args.output / 'summary.json'}")
            return 0 if result.summary["frames_out"] else 1
    except (BagError, ReplayError, ChildError) as error:
        print(f"bag_benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def end_on_sigterm() -> None:
    """SIGTERM unwinds like SIGINT, so that child processes are ended."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


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


def _picture_size(bag: Bag, topic: Topic) -> tuple[int, int] | None:
    first = next(bag.records([topic.name]), None)
    if first is None:
        raise BagError(f"{bag.path} is damaged: {topic.name} should have {topic.count} messages and has none")
    try:
        height, width = to_rgb(ros_message(first)).shape[:2]
        return width, height
    except InvalidInput:
        return None  # the detector will say what is wrong with it


def _parameter(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise ReplayError(f"--param {text}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
