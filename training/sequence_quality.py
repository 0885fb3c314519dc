#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure alerts over whole rendered drives: inference once, then as many replays as needed.

  python training/sequence_quality.py infer  --checkpoint DIR --sequences S/train --maps M/train
  python training/sequence_quality.py infer  --checkpoint DIR --sequences S/val --maps M/val
  python training/sequence_quality.py match  --sequences S/train --maps M/train --output scores.json
  python training/sequence_quality.py replay --sequences S/val --maps M/val --scores-file scores.json \\
         --output OUT

The sequences S come from render_sequences.py. `match` finds where each score must lie to fire on as many
normal pixels as eomt_ext. `replay` writes OUT/quality.json and OUT/quality.html. Tune on train drives (replay
--sequences S/train --set confirm_hits=2 ...), report val or test.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from eomt_anomaly.alerts import MonitorParams  # noqa: E402
from eomt_anomaly.model.calibration import for_size, read_calibration  # noqa: E402
from eomt_anomaly.model.checkpoint import WEIGHTS, file_sha256  # noqa: E402
from eomt_anomaly.runtime import Engine  # noqa: E402
from eomt_training.baselines import open_predictor  # noqa: E402
from eomt_training.data.sequences import Sequence, open_sequences  # noqa: E402
from eomt_training.evaluation import Predictor, sequence_quality  # noqa: E402
from eomt_training.evaluation.predictor import usable_device  # noqa: E402
from eomt_training.evaluation.provenance import git_commit  # noqa: E402
from eomt_training.evaluation.results import without_nan  # noqa: E402
from eomt_training.evaluation.sequence_drive import REFERENCE, drive  # noqa: E402
from eomt_training.evaluation.sequence_maps import Maps, infer, open_maps  # noqa: E402
from eomt_training.evaluation.sequence_scores import (  # noqa: E402
    normal_values,
    quantiles,
    rate_at,
)
from eomt_training.json_files import read_object  # noqa: E402
from eomt_training.report.sequence_page import sequence_page  # noqa: E402

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("infer", "match", "replay"):
        add = commands.add_parser(name).add_argument
        add("--sequences", type=Path, required=True, help="folder of render_sequences.py, with its split")
        add("--maps", type=Path, required=True, help="folder of the kept maps")
        if name == "infer":
            add("--checkpoint", type=Path, required=True)
            add("--backbone", help="file or folder of the frozen backbone, if it is in no usual place")
            add("--every", type=int, default=1, help="use every n-th frame")
            add("--short-side", type=int, help="px; default: as trained")
            add("--precision", choices=tuple(DTYPES), default="fp32")
            add("--device", type=usable_device, default="cuda" if torch.cuda.is_available() else "cpu")
        else:
            add("--output", type=Path, required=True, help="JSON file (match), folder (replay)")
        if name == "replay":
            add("--scores-file", type=Path, help="of `match`; without it eomt_ext alone is measured")
            add("--scores", nargs="+", help="default: all of --scores-file")
            add("--threshold", type=float, help="default: the checkpoint's calibrated one")
            add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other MonitorParams")
            add("--second-look", type=Path, metavar="DIR", help="its checkpoint; look again as the node does")
            add("--backbone", help="as of `infer`, for --second-look")
            add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        COMMANDS[args.command](args, open_sequences(args.sequences))
    except (FileNotFoundError, ValueError) as error:
        print(f"sequence_quality: {error}", file=sys.stderr)
        return 1
    return 0


def infer_all(args: argparse.Namespace, sequences: list[Sequence]) -> None:
    if args.every < 1:
        raise ValueError(f"--every {args.every}: give 1 or more")
    network = open_predictor(args.checkpoint, args.backbone)
    predict = Predictor(network, args.short_side, DTYPES[args.precision], args.device)
    weights = file_sha256(args.checkpoint / WEIGHTS)
    calibration = for_size(read_calibration(args.checkpoint, weights), predict.short_side)
    about = {
        "checkpoint": args.checkpoint.resolve().name,
        "weights_sha256": weights,
        "threshold": calibration.get("threshold"),
        "drivable_ids": [label.id for label in predict.labels if label.drivable],
        "scores": list(predict.scores),
        "short_side": predict.short_side,
        "grid": predict.grid,
        "precision": args.precision,
        "every": args.every,
    }
    open_maps(args.maps, about)
    done = 0
    for sequence in tqdm(sequences, unit="drive"):
        done += infer(predict, sequence, args.maps, range(0, len(sequence), args.every))
    print(f"{done} frames inferred into {args.maps}")


def match(args: argparse.Namespace, sequences: list[Sequence]) -> None:
    about = open_maps(args.maps)
    knots: dict[str, list[float]] = {}
    for name in tqdm(about["scores"], unit="score"):
        knots[name] = quantiles(
            normal_values(Maps(args.maps, s).read(i, name)[1], s.labels(i))
            for s in sequences
            for i in range(0, len(s), about["every"])
        )
    kept = {k: about[k] for k in ("checkpoint", "weights_sha256", "short_side", "precision")}
    args.output.write_text(json.dumps({"split": args.sequences.name, **kept, "quantiles": knots}))
    print(f"written: {args.output}")


def replay_all(args: argparse.Namespace, sequences: list[Sequence]) -> None:
    about = open_maps(args.maps)
    knots = read_scores(args.scores_file, about) if args.scores_file else {}
    names = args.scores or list(dict.fromkeys([REFERENCE, *knots]))
    unknown = [n for n in names if n != REFERENCE and n not in knots]
    if unknown:
        raise ValueError(f"no quantiles of {', '.join(unknown)}: give --scores-file of `match`")
    threshold = about["threshold"] if args.threshold is None else args.threshold
    if threshold is None:
        raise ValueError(f"{about['checkpoint']} is not calibrated: give --threshold, or calibrate it first")
    if "grid" not in about:
        raise ValueError(f"{args.maps} holds maps of an older version: infer them again into another folder")
    params = MonitorParams(
        drivable_ids=tuple(about["drivable_ids"]),
        threshold=threshold,
        grid=about["grid"],
        **settings(args.set),
    )
    scores: dict[str, Any] = {}
    for name in names:
        engine = second_look(args, about, name)
        drives = [
            drive(s, Maps(args.maps, s), name, knots, params, about["every"], engine)
            for s in tqdm(sequences, desc=name, unit="drive")
        ]
        scores[name] = sequence_quality.measure(drives, args.seed)
    rates = {s.about["rate_hz"] / about["every"] for s in sequences}
    result = {
        "split": args.sequences.name,
        "date": datetime.date.today().isoformat(),
        "commit": git_commit(),
        **{k: about[k] for k in ("checkpoint", "weights_sha256", "short_side", "precision")},
        "rate_hz": sorted(rates),
        "threshold": threshold,
        "pixel_fpr_tuning": rate_at(threshold, knots[REFERENCE]) if knots else None,
        "parameters": asdict(params),
        "second_look": args.second_look is not None,
        "seed": args.seed,
        "targets": sequence_quality.verdicts(scores[names[0]]),
        "scores": scores,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    result = without_nan(result)
    (args.output / "quality.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.output / "quality.html").write_text(sequence_page(result), encoding="utf-8")
    for name, f in scores.items():
        large, false = f["recall_by_share"]["0.5"], f["false_alerts_per_minute"]
        print(
            f"{name}: {large['found']} of {large['of']} obstacles over 0.5 % found, {false['events']} false "
            f"alerts in {false['minutes']:.1f} clean minutes, median "
            f"{f['first_alert']['0.5']['median_frames']} frames to the first alert"
        )
    print(f"written: {args.output / 'quality.json'}, {args.output / 'quality.html'}")


def second_look(args: argparse.Namespace, about: dict[str, Any], score: str) -> Engine | None:
    """The engine that looks again, as the one that made the maps; None without --second-look."""
    if args.second_look is None:
        return None
    if file_sha256(args.second_look / WEIGHTS) != about["weights_sha256"]:
        raise ValueError(f"--second-look {args.second_look} has other weights than those of {args.maps}")
    return Engine(
        args.second_look,
        precision=about["precision"],
        short_side=about["short_side"],
        score=score,
        backbone=args.backbone,
    )


def read_scores(path: Path, about: dict[str, Any]) -> dict[str, list[float]]:
    """The quantiles of `match`. Raises ValueError where another checkpoint or size made them."""
    kept = read_object(path)
    if "quantiles" not in kept:
        raise ValueError(f"{path} has no quantiles: give what `match` wrote")
    for key in ("weights_sha256", "short_side", "precision"):
        if kept.get(key) != about[key]:
            raise ValueError(f"{path} was made with {key} {kept.get(key)!r}, the maps with {about[key]!r}")
    return kept["quantiles"]


def settings(texts: list[str]) -> dict[str, Any]:
    """['confirm_hits=2'] -> {'confirm_hits': 2}. Raises ValueError for what MonitorParams does not take."""
    taken: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        default = MonitorParams.__dataclass_fields__.get(name)
        if default is None or not isinstance(default.default, (int, float)):
            raise ValueError(f"--set {text}: MonitorParams has no number {name!r}")
        try:
            taken[name] = float(value) if "." in value or "e" in value else int(value)
        except ValueError:
            raise ValueError(f"--set {text}: {value!r} is no number") from None
    return taken


COMMANDS = {"infer": infer_all, "match": match, "replay": replay_all}

if __name__ == "__main__":
    sys.exit(main())
