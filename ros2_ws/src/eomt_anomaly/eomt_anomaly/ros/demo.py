# SPDX-License-Identifier: MIT
"""The whole system on one bag: a live detector, a real-time replay, and a report of what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..report.origin import write_json
from ..report.page import page
from ..report.video import VideoError, find_ffmpeg, frame_rate, operator_view, write_video
from .accounts import ReplayError
from .bag_io import BagError, stamp_of
from .conversions import InvalidInput, to_rgb
from .describe import report_lines
from .measured import Result, measured
from .player import ros_message
from .processes import ChildError
from .replay_options import add_arguments, end_on_sigterm

PICTURES = ("overlay", "mask", "heatmap")
CPU_SHORT_SIDE, CPU_MAX_AGE_S, CPU_STALE_S = 252, 1.0, 3.0
SAMPLE = Path("bags") / "sample_drive"
NOTES = (
    "This is not a certified safety function. It must not be the only thing between a robot and an obstacle.",
    "Latency and drops belong to the machine named above, which also ran the replay and this recording.",
    "The detector judges single pictures; what it was trained on decides what it calls familiar.",
)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("out/demo"), help="folder for the report (default out/demo)"
    )
    parser.add_argument(
        "--bag", type=Path, help=f"any rosbag2 with pictures (default: {SAMPLE} of the repository)"
    )
    add_arguments(parser)
    parser.set_defaults(short_side=None)
    return parser.parse_args(argv)


def suit_slow_devices(args: argparse.Namespace) -> list[str]:
    """On a CPU, unless told otherwise: a smaller network input and more patience. Returns notes on it."""
    if args.short_side is not None or on_gpu(args.device):
        args.short_side = args.short_side or 0
        return []
    args.short_side = CPU_SHORT_SIDE
    args.param[:0] = [f"max_age={CPU_MAX_AGE_S}", f"stale_timeout={CPU_STALE_S}"]
    return [
        f"On a CPU the demo scales pictures to a short side of {CPU_SHORT_SIDE} px for the network, which "
        "finds less than at the checkpoint's own size (--short-side 0), and lets a judgement stand until its "
        f"picture is {CPU_STALE_S:g} s old (stale_timeout; the node's default is 1 s). A robot that moves "
        "cannot wait as long."
    ]


def on_gpu(device: str) -> bool:
    """Will the detector run on a GPU?"""
    if device != "auto":
        return device != "cpu"
    try:
        import torch
    except ImportError as error:
        raise ReplayError(
            "torch is not installed for this interpreter: `pip install -r requirements/torch.txt`"
        ) from error
    return torch.cuda.is_available()


def main(argv: list[str] | None = None, module: str = "eomt_anomaly.ros.detector") -> int:
    """Exit status: 0 with a report, 1 when nothing came out (and why), 130 when interrupted."""
    args = arguments(argv)
    begin = time.monotonic()
    end_on_sigterm()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)

    try:
        find_ffmpeg()  # before the work, not after it
        args.bag = args.bag or sample_bag()
        notes = suit_slow_devices(args)
        args.param.insert(0, "overlay_rate=0.0")
        args.output.mkdir(parents=True, exist_ok=True)
        for name in ("overlay.mp4", "report.html", "summary.json"):
            (args.output / name).unlink(missing_ok=True)  # an old report must not pass for this one's
        with measured(args, args.output, PICTURES, say, module) as result:
            recording = result.views[0].recording
            if not recording.judged:
                raise ReplayError(
                    f"no frame came back from the detector: {recording.dropped}. See "
                    f"{args.output / 'detector.log'}"
                )
            recording.notes += [*notes, *NOTES]
            write(result, args.output, say)
            print(report_lines(result.summary))
        print(f"\nopen {args.output / 'report.html'}", flush=True)
        return 0
    except (BagError, ReplayError, ChildError, VideoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130


def sample_bag() -> Path:
    """The repository's sample bag, seen from here or from this file. Raises BagError if it is nowhere."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / SAMPLE).exists():
            return folder / SAMPLE
    raise BagError(
        f"the sample bag {SAMPLE} is not here: run this in the repository, or name a bag with --bag"
    )


def write(result: Result, output: Path, say) -> None:
    """overlay.mp4, report.html and summary.json."""
    recording, summary = result.views[0].recording, result.summary
    summary["notes"] = list(recording.notes)
    spans = summary["quality"]["obstacles"]["encounter_spans_s"] if summary["quality"] else []
    say("writing overlay.mp4")
    poster: list[np.ndarray] = []
    moment = next((i for i, frame in enumerate(recording.frames) if frame.boxes), len(recording.frames) // 2)

    def views() -> Iterator[np.ndarray]:
        for index, view in enumerate(operator_view(recording, _pictures(result), spans)):
            if index == min(moment + 5, len(recording.frames) - 1):
                poster.append(view)
            yield view

    write_video(output / "overlay.mp4", views(), frame_rate(recording))
    say("writing report.html")
    (output / "report.html").write_text(
        page(recording, summary, result.views[0].labels, "overlay.mp4", poster[0] if poster else None),
        encoding="utf-8",
    )
    write_json(output / "summary.json", summary)


def _pictures(result: Result) -> Iterator[np.ndarray]:
    """The published pictures as RGB; grey where one cannot be decoded."""
    view = result.views[0]
    wanted = {frame.source_ns for frame in view.recording.frames}
    last = np.full((360, 640, 3), 128, np.uint8)
    for record in result.bag.records([view.camera.topic.name]):
        if stamp_of(record.data) in wanted:
            try:
                last = to_rgb(ros_message(record))
                yield last
            except (InvalidInput, BagError):
                yield np.full_like(last, 128)


if __name__ == "__main__":
    sys.exit(main())
