#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure a checkpoint, or choose its alert threshold.

  python training/evaluate.py semantic  --checkpoint DIR --data camvid --root DIR --split val
  python training/evaluate.py anomaly   --checkpoint DIR --data camvid --root DIR --split val --stamps DIR
  python training/evaluate.py control   --checkpoint DIR --data camvid --root DIR --split val
  python training/evaluate.py calibrate --checkpoint DIR --data camvid --root DIR --split val --fpr 0.005

``--data drives`` reads frames of render_drives.py, which hold outliers of their own. Each command prints a
table and, with --output, writes the same numbers as JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from eomt_anomaly.model import EomtExt  # noqa: E402
from eomt_anomaly.model.checkpoint import read_config  # noqa: E402
from eomt_training.data.cutouts import load_cutouts  # noqa: E402
from eomt_training.data.folders import SegmentationFolder, camvid, drives  # noqa: E402
from eomt_training.evaluation import (  # noqa: E402
    Predictor,
    evaluate_anomaly,
    evaluate_control,
    evaluate_semantic,
    normal_scores,
)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("semantic", "anomaly", "control", "calibrate"))
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="folder with config.json and model.safetensors"
    )
    parser.add_argument(
        "--backbone", help="file or folder of the frozen backbone, if it is in no usual place"
    )
    parser.add_argument("--data", choices=("camvid", "drives"), default="camvid")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--stamps", type=Path, help="folder of RGBA cut-outs; its evaluation half is pasted")
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    parser.add_argument("--short-side", type=int, help="px; default: as trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fpr",
        type=float,
        default=0.005,
        help="calibrate: wanted share of normal pixels that fire, in (0, 1)",
    )
    parser.add_argument("--threshold", type=float, help="control: default is the checkpoint's calibrated one")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="also write the result to this JSON file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    started = time.monotonic()
    try:
        model = EomtExt.from_pretrained(
            args.checkpoint, **({"backbone": args.backbone} if args.backbone else {})
        )
        frames = open_frames(args)
        predict = Predictor(
            model,
            args.short_side,
            {"fp32": torch.float32, "bf16": torch.bfloat16}[args.precision],
            args.device,
        )
        result = {"semantic": semantic, "anomaly": anomaly, "control": control, "calibrate": calibrate}[
            args.command
        ](args, predict, frames)
    except (FileNotFoundError, ValueError, KeyError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    result |= {
        "command": args.command,
        "data": args.data,
        "split": args.split,
        "every": args.every,
        "short_side": predict.short_side,
        "precision": args.precision,
        "device": args.device,
        "checkpoint": args.checkpoint.name,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def open_frames(args: argparse.Namespace) -> SegmentationFolder:
    frames = (camvid if args.data == "camvid" else drives)(args.root, args.split)
    frames.names = frames.names[:: args.every]
    return frames


def progress(items: Any) -> Any:
    return tqdm(items, unit="frame", leave=False)


def semantic(args: argparse.Namespace, predict: Predictor, frames: SegmentationFolder) -> dict[str, Any]:
    result = evaluate_semantic(predict, frames, progress)
    print("| class | IoU % |\n|---|---|")
    for name, value in result["iou"].items():
        print(f"| {name} | {value:.1f} |")
    print(
        f"\nmIoU {result['miou']:.1f}, mAcc {result['macc']:.1f}, aAcc {result['aacc']:.1f} "
        f"on {result['frames']} frames"
    )
    return result


def anomaly(args: argparse.Namespace, predict: Predictor, frames: SegmentationFolder) -> dict[str, Any]:
    if args.data == "camvid" and not args.stamps:
        raise ValueError("CamVid has no outliers: give --stamps DIR to paste unseen objects")
    cutouts = list(load_cutouts(str(args.stamps), "eval").values()) if args.stamps else None
    result = evaluate_anomaly(predict, frames, cutouts, args.seed, progress=progress)
    print("| score | AuPRC % (95 % interval) | AUROC % | FPR95 % |\n|---|---|---|---|")
    for name, row in sorted(result["scores"].items(), key=lambda item: -item[1]["auprc"]):
        print(
            f"| {name} | {row['auprc']:.1f} ({row['auprc_low']:.1f} to {row['auprc_high']:.1f}) "
            f"| {row['auroc']:.1f} | {row['fpr95']:.1f} |"
        )
    print(f"\n{result['frames']} frames, {result['prevalence']:.2f} % of pixels anomalous")
    return result


def control(args: argparse.Namespace, predict: Predictor, frames: SegmentationFolder) -> dict[str, Any]:
    threshold = args.threshold
    if threshold is None:
        threshold = json.loads((args.checkpoint / "calibration.json").read_text())["threshold"]
    result = evaluate_control(predict, frames, threshold, args.seed, progress)
    print(
        f"{result['pastes']} ordinary segments pasted; at or above {threshold:.4g}: "
        f"pasted {result['pasted']:.2f} %, around {result['around']:.2f} %, "
        f"same place before {result['before']:.2f} %; pasted less around {result['excess']:.2f} points "
        f"({result['excess_low']:.2f} to {result['excess_high']:.2f})"
    )
    return result


def calibrate(args: argparse.Namespace, predict: Predictor, frames: SegmentationFolder) -> dict[str, Any]:
    if not 0 < args.fpr < 1:
        raise ValueError(f"--fpr {args.fpr}: give a share in (0, 1)")
    metrics = normal_scores(predict, frames, progress)
    threshold = float(np.clip(metrics.threshold_at_fpr(args.fpr), 1e-6, 1 - 1e-6))
    calibration = {
        "score": "eomt_ext",
        "threshold": threshold,
        "method": "lowest threshold that at most the wanted share of normal pixels reaches",
        "false_positive_rate": args.fpr,
        "dataset": f"{args.data} {args.split}",
        "frames": len(frames),
        "short_side": predict.short_side,
        "weights_sha256": read_config(args.checkpoint)[1],
        "date": datetime.date.today().isoformat(),
    }
    (args.checkpoint / "calibration.json").write_text(json.dumps(calibration, indent=2) + "\n")
    print(
        f"threshold {threshold:.4g}: at most {100 * args.fpr:g} % of normal pixels on "
        f"{calibration['dataset']} reach it; written to {args.checkpoint / 'calibration.json'}"
    )
    return calibration


if __name__ == "__main__":
    sys.exit(main())
