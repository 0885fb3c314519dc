# SPDX-License-Identifier: MIT
"""The options that the tools which replay a bag share, and the replay that they ask for."""

from __future__ import annotations

import argparse
import json
import math
import signal
from pathlib import Path
from typing import Any

from .accounts import ReplayError
from .bag_cameras import ALL, ONE, Camera, cameras_of
from .bag_io import Bag, BagError, Topic
from .conversions import InvalidInput, to_rgb
from .ground_truth import mounting
from .parameters import all_specs
from .player import positive, ros_message
from .start import Settings


def add_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """The options that the benchmark and the demo share; the benchmark takes `several` cameras."""
    add = parser.add_argument
    parser.set_defaults(several=several)
    if several:
        add("--topics", "--topic", nargs="+", default=[], metavar="TOPIC",
            help=f"topics of the pictures, a camera each, raw and compressed; {ALL}: every one of the bag "
            "(default: its only one)")  # fmt: skip
        add("--cameras", "--camera", nargs="+", default=[], metavar="NAME",
            help="names the detector gives the cameras, in the order of --topics (default: from the topics; "
            f"one alone is {ONE})")  # fmt: skip
    else:
        add("--topic", dest="topics", nargs=1, default=[], metavar="TOPIC",
            help="topic of the pictures, where the bag has several")  # fmt: skip
        add("--camera", dest="cameras", nargs=1, default=[], metavar="NAME",
            help=f"name the detector gives the camera (default {ONE})")  # fmt: skip
    parser.add_argument("--rate", type=positive, default=1.0, help="times the recorded speed (default 1)")
    parser.add_argument(
        "--start-offset", type=float, default=0.0, metavar="S", help="skip the first S seconds"
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
        "--height", type=float, help="m, each camera above the ground (default: from the bag's /tf_static)"
    )
    parser.add_argument(
        "--pitch", type=float, help="degrees each camera looks down (default: from the bag's /tf_static)"
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
    parser.add_argument(
        "--domain-id", type=_domain, help="ROS_DOMAIN_ID of the replay (default: one of its own)"
    )


def settings_of(
    args: argparse.Namespace, bag: Bag, output: Path, pictures: tuple[str, ...], module: str
) -> tuple[Settings, list[str]]:
    """The replay that the options ask for, and notes on what is not known of the cameras.

    Of a detector that runs already (`--attach`), nothing is known. Raises BagError or ReplayError.
    """
    attach = getattr(args, "attach", False)
    cameras, notes = cameras_of(bag, args.topics, args.cameras, args.several), []
    parameters: dict[str, Any] = {
        "checkpoint": args.checkpoint and str(Path(args.checkpoint).resolve()),
        "backbone": args.backbone and str(Path(args.backbone).resolve()),
        "device": args.device,
        "precision": args.precision,
        "short_side": args.short_side,
    }
    for camera in cameras:
        of, why = _of_camera(args, bag, camera)
        parameters |= of
        if why:
            notes.append(why if len(cameras) == 1 else f"{camera.name}: {why}")
    known = all_specs([camera.name for camera in cameras])
    for name, value in (_parameter(text) for text in args.param):
        if name not in known:  # ROS ignores what a node does not declare
            raise ReplayError(
                f"--param {name}: the detector has no such parameter; it has: {', '.join(known)}"
            )
        parameters[name] = _as_declared(value, known[name].default)
    return Settings(
        args.bag,
        output,
        cameras,
        args.rate,
        args.start_offset,
        {} if attach else parameters,
        pictures,
        attach,
        getattr(args, "node", "/detector"),
        args.startup_timeout,
        domain_id=args.domain_id,
        module=module,
    ), [] if attach else notes


def end_on_sigterm() -> None:
    """SIGTERM unwinds like SIGINT, so that child processes are ended."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _domain(text: str) -> int:
    if not 0 <= (value := int(text)) <= 232:
        raise argparse.ArgumentTypeError(f"{text} is no ROS domain: give a number from 0 to 232")
    return value


def _of_camera(args: argparse.Namespace, bag: Bag, camera: Camera) -> tuple[dict[str, Any], str]:
    """The camera's parameters, and why its positions are not known, or ""."""
    parameters: dict[str, Any] = {}
    if (size := _picture_size(bag, camera.topic)) is not None:
        parameters[f"{camera.name}.warmup_size"] = list(size)
    place = mounting(bag, camera.topic)
    height = args.height if args.height is not None else place[0] if place else None
    pitch = args.pitch if args.pitch is not None else math.degrees(place[1]) if place else None
    if camera.info is None:
        return parameters, (
            "The bag has no CameraInfo beside the pictures: positions and distances are unknown."
        )
    if height is None or height <= 0:
        return parameters, (
            "The camera's height above the ground is unknown (no /tf_static in the bag; --height gives it): "
            "positions and distances are unknown."
        )
    parameters[f"{camera.name}.height_m"] = float(height)
    parameters[f"{camera.name}.pitch_deg"] = float(pitch or 0.0)
    return parameters, ""


def _picture_size(bag: Bag, topic: Topic) -> tuple[int, int] | None:
    first = next(bag.records([topic.name]), None)
    if first is None:
        raise BagError(f"{bag.path} is damaged: {topic.name} should have {topic.count} messages and has none")
    try:
        height, width = to_rgb(ros_message(first)).shape[:2]
        return width, height
    except InvalidInput:
        return None  # the detector will say what is wrong with it


def _as_declared(value: Any, default: Any) -> Any:
    """Whole numbers as floats where the default is one: ROS takes no 1 for 1.0."""
    if isinstance(value, list) and isinstance(default, list):
        return [_as_declared(one, default[0]) for one in value]
    return float(value) if type(value) is int and isinstance(default, float) else value


def _parameter(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise ReplayError(f"--param {text}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
