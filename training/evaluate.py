#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure a checkpoint, or choose its alert threshold.

  python training/evaluate.py semantic  --checkpoint DIR --data camvid --root DIR --split val
  python training/evaluate.py anomaly   --checkpoint DIR --data camvid --root DIR --split val --stamps DIR
  python training/evaluate.py control   --checkpoint DIR --data camvid --root DIR --split val
  python training/evaluate.py calibrate --checkpoint DIR --data camvid --root DIR --split val --fpr 0.005

``--data drives`` (frames of render_drives.py) and ``generic_anomaly`` (SegmentMeIfYouCan, Fishyscapes, ...)
hold outliers of their own; into others those of --stamps and --coco are pasted (give what training had: what
resembles its objects is left out), or those of --cutouts, a folder of objects from elsewhere. Each command
prints a table and, with --output, writes the same numbers as JSON. `semantic` and `anomaly` also take
--degraded and --baseline, append their rows to --results, and write an HTML report with --report.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import torch  # noqa: E402

from eomt_training.evaluation import results  # noqa: E402
from eomt_training.evaluation.commands import COMMANDS  # noqa: E402
from eomt_training.evaluation.predictor import usable_device  # noqa: E402
from eomt_training.evaluation.subjects import (  # noqa: E402
    DATA,
    DTYPES,
    labelled_frames,
    open_model,
    provenance,
)
from eomt_training.metrics.components import TRACKS  # noqa: E402

ONLY_OF = {  # options that the other commands would not heed
    **dict.fromkeys(("stamps", "coco", "cutouts", "scores", "temperature", "track"), ("anomaly",)),
    **dict.fromkeys(("baseline", "degraded", "severity", "report"), ("semantic", "anomaly")),
    **dict.fromkeys(("threshold", "tpr95_of"), ("control",)),
    "predictions": ("semantic",),
    "fpr": ("calibrate",),
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=tuple(COMMANDS))
    add("--checkpoint", type=Path, required=True, help="folder with config.json and model.safetensors")
    add("--backbone", help="file or folder of the frozen backbone, if it is in no usual place")
    add(
        "--baseline",
        nargs="+",
        default=[],
        metavar="[NAME=]DIR",
        help="other checkpoints to measure beside it",
    )
    add("--data", choices=tuple(DATA), default="camvid")
    add("--root", type=Path, required=True, help="the data set's folder")
    add("--split", default="val")
    add("--stamps", type=Path, help="anomaly: folder of RGBA cut-outs; its evaluation half is pasted")
    add("--coco", type=Path, help="anomaly: COCO 2017; its evaluation objects are pasted")
    add("--cutouts", type=Path, help="anomaly: folder of RGBA .png from elsewhere; all are pasted; "
        "--stamps and --coco then only tell which kinds training had")  # fmt: skip
    add("--left-out", nargs="+", default=[], metavar="CLASS", help="these classes' pixels are outliers")
    add("--every", type=int, default=1, help="use every n-th frame")
    add("--short-side", type=int, help="px; default: as trained")
    add("--seed", type=int, default=0)
    add("--degraded", nargs="+", default=[], metavar="KIND", help="also on such copies: dark noise fog ...")
    add("--severity", type=float, default=0.5, help="of --degraded, in [0, 1]")
    add("--scores", nargs="+", metavar="NAME", help="anomaly: only these; default: all that the network has")
    add("--temperature", type=float, default=1.0, help="anomaly: of msp's and max_entropy's softmax")
    add("--track", choices=tuple(TRACKS), default="obstacle", help="anomaly: SMIYC's sizes of components")
    add("--predictions", type=Path, help="semantic: write coloured predictions into this folder")
    add("--fpr", type=float, default=0.005, help="calibrate: wanted share of normal pixels that fire, (0, 1)")
    add("--threshold", type=float, help="control: default is the checkpoint's calibrated one")
    add("--tpr95-of", type=Path, metavar="FILE", help="control: also at the threshold that 95 %% of the "
        "anomalous pixels reach in this --output of `anomaly`")  # fmt: skip
    add("--precision", choices=tuple(DTYPES), default="fp32")
    add("--device", type=usable_device, default="cuda" if torch.cuda.is_available() else "cpu")
    add("--output", type=Path, help="also write the result to this JSON file")
    add("--report", type=Path, help="semantic, anomaly: write report.html into this folder")
    add("--results", type=Path, default=Path("results/results.csv"), help="append rows here; '' for nowhere")
    args = parser.parse_args(argv)
    for name, commands in ONLY_OF.items():
        if args.command not in commands and getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is an option of {' and '.join(commands)}: "
                         f"{args.command} would not heed it, leave it out")  # fmt: skip
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    started = time.monotonic()
    try:
        if has_rows(args):
            results.check(args.results)
        predict = open_model(args, args.checkpoint)
        frames = labelled_frames(args)
        about = provenance(args, predict)
        result, show = COMMANDS[args.command](args, predict, frames)
        result |= about | {"minutes": round((time.monotonic() - started) / 60, 1)}
        write(args, result, show)
    except (OSError, ValueError, KeyError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def has_rows(args: argparse.Namespace) -> bool:
    """Whether rows are to be appended to --results."""
    return args.command in ("semantic", "anomaly") and str(args.results) not in ("", ".")


def write(args: argparse.Namespace, result: dict[str, Any], show: Callable[[dict[str, Any]], str]) -> None:
    """--output, and for tables of quality --results and --report; what others are made from comes first."""
    if args.output:
        write_text(args.output, json.dumps(results.without_nan(result), indent=2) + "\n")
    if has_rows(args):
        print(f"{results.append(args.results, result)} rows appended to {args.results}")
    if args.report:
        write_text(args.report / "report.html", show(result))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
