#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Export a checkpoint to ONNX, and check it against torch in ONNX Runtime and OpenVINO.

  python training/export.py --checkpoint DIR --output DIR --height 252 --width 448
  python training/export.py --output DIR --height 252 --width 448 --preprocess --postprocess 360x640

The batch stays free, height and width are fixed. The folder runs with `Engine(DIR, backend="onnxruntime")`
and `"openvino"`, and in the node (parameters `checkpoint` and `backend`). Where a backend differs from torch
by more than 1e-3, nothing is written.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.model.scores import SCORES  # noqa: E402
from eomt_anomaly.runtime.backends import SESSIONS  # noqa: E402

NETWORK_SIZE = "network"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        help="folder with config.json and model.safetensors; default: the package's",
    )
    add("--backbone", type=Path, help="file or folder of the frozen backbone, if it is in no usual place")
    add("--output", type=Path, required=True, help="folder to write; an earlier export there is replaced")
    add("--height", type=int, required=True, help="px, of the network's input; a multiple of the patch size")
    add("--width", type=int, required=True, help="px, likewise")
    add("--preprocess", action="store_true", help="into the graph: uint8 NHWC RGB in, normalised inside")
    add(
        "--postprocess",
        nargs="?",
        const=NETWORK_SIZE,
        metavar="HxW",
        help="into the graph: class map and anomaly map out, at HxW px (default: as the input)",
    )
    add(
        "--score",
        choices=tuple(SCORES),
        help="--postprocess: of the anomaly map; default: the calibrated one",
    )
    add(
        "--check", nargs="+", choices=tuple(SESSIONS), default=list(SESSIONS), help="compare these with torch"
    )
    add("--tensorrt", type=int, metavar="BATCH", help="also build a TensorRT engine for up to BATCH images")
    args = parser.parse_args(argv)
    if args.postprocess not in (None, NETWORK_SIZE) and not re.fullmatch(
        r"[1-9]\d*x[1-9]\d*", args.postprocess
    ):
        parser.error(f"--postprocess {args.postprocess}: give HEIGHTxWIDTH, like 360x640")
    if args.score and not args.postprocess:
        parser.error("--score goes with --postprocess: without it the graph gives logits for every score")
    if args.tensorrt is not None and args.tensorrt < 1:
        parser.error(f"--tensorrt {args.tensorrt}: give the largest batch, 1 or more")
    return args


def output_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """Height and width, px, of the maps inside the graph."""
    if args.postprocess in (None, NETWORK_SIZE):
        return (args.height, args.width) if args.postprocess else None
    height, width = map(int, args.postprocess.split("x"))
    return height, width


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are not needed
    try:
        from eomt_training.export import export_folder

        export_folder(
            args.checkpoint,
            args.output,
            (args.height, args.width),
            backbone=args.backbone,
            preprocess=args.preprocess,
            output_size=output_size(args),
            score=args.score,
            checks=args.check,
            tensorrt_batch=args.tensorrt,
        )
    except ModuleNotFoundError as error:
        print(f"export: {error}: run `python3 -m pip install -r requirements/export.txt`", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError, ImportError, RuntimeError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(f"written: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
