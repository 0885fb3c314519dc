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
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from eomt_anomaly.model.calibration import for_size, read_calibration  # noqa: E402
from eomt_anomaly.model.checkpoint import CALIBRATION, WEIGHTS, file_sha256  # noqa: E402
from eomt_training import evaluation, report  # noqa: E402
from eomt_training.baselines import open_predictor  # noqa: E402
from eomt_training.data.generic_anomaly import generic_anomaly  # noqa: E402
from eomt_training.data.left_out import LeftOut  # noqa: E402
from eomt_training.evaluation import Predictor, Predicts, labelled, results  # noqa: E402
from eomt_training.evaluation.frames import Frames, degraded, every, pasted  # noqa: E402
from eomt_training.evaluation.labelled import CLASSES  # noqa: E402  # generic_anomaly has none
from eomt_training.evaluation.provenance import git_commit  # noqa: E402
from eomt_training.evaluation.unseen import SOURCES, unseen_objects  # noqa: E402
from eomt_training.labels import control_ids, ground_ids, require_classes  # noqa: E402
from eomt_training.metrics.components import TRACKS  # noqa: E402
from eomt_training.targets import OUTLIER  # noqa: E402

DATA: dict[str, Callable[..., Frames]] = {**labelled.DATA, "generic_anomaly": generic_anomaly}
OWN_OUTLIERS = ("drives", "generic_anomaly")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ONLY_OF = {  # options that the other commands would not heed
    **dict.fromkeys(("stamps", "coco", "cutouts", "scores", "track"), ("anomaly",)),
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
    add("command", choices=("semantic", "anomaly", "control", "calibrate"))
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
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
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
    except (FileNotFoundError, ValueError, KeyError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def labelled_frames(args: argparse.Namespace) -> Frames:
    frames: Frames = every(DATA[args.data](args.root, args.split), args.every)
    if args.left_out:
        frames = LeftOut(frames, args.left_out, CLASSES.get(args.data, ()), OUTLIER)
    return frames


def open_model(args: argparse.Namespace, folder: Path) -> Predictor:
    network = open_predictor(folder, args.backbone)
    predictor = Predictor(network, args.short_side, DTYPES[args.precision], args.device, args.temperature)
    if args.scores:
        if unknown := sorted(set(args.scores) - set(predictor.scores)):
            raise ValueError(
                f"--scores {' '.join(unknown)}: {name_of(folder)} has {', '.join(predictor.scores)}"
            )
        predictor.scores = tuple(args.scores)
    return predictor


def provenance(args: argparse.Namespace, predict: Predicts) -> dict[str, Any]:
    """What a result says of its making; no path of this machine."""
    return {
        "command": args.command,
        "data": args.data,
        "dataset": " without ".join([args.data, *args.left_out]),
        "split": args.split,
        "every": args.every,
        "short_side": predict.short_side,
        "precision": args.precision,
        "device": args.device,
        "checkpoint": name_of(args.checkpoint),
        "weights_sha256": file_sha256(args.checkpoint / WEIGHTS),
        "commit": git_commit(),
        "date": datetime.date.today().isoformat(),
    }


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


def progress(items: Any) -> Any:
    return tqdm(items, unit="frame", leave=False)


def models(args: argparse.Namespace, predict: Predicts) -> Iterator[tuple[str, Predicts]]:
    """The checkpoint (named "") and the baselines."""
    yield "", predict
    seen = {name_of(args.checkpoint)}
    for text in args.baseline:
        name, folder = named_folder(text)
        if name in seen:
            raise ValueError(f"two models are called {name!r}: give --baseline NAME={folder}")
        seen.add(name)
        yield name, open_model(args, folder)


def named_folder(text: str) -> tuple[str, Path]:
    """[NAME=]DIR; where DIR itself has an equals sign and no name is given, it must be there."""
    name, sign, folder = text.partition("=")
    if sign and not Path(text).is_dir():
        return name, Path(folder)
    return name_of(Path(text)), Path(text)


def name_of(folder: Path) -> str:
    """A checkpoint folder's name; of a run's RUN/version_N/checkpoint, the run's."""
    folder = folder.resolve()
    return folder.parent.parent.name if folder.name == "checkpoint" else folder.name


def conditions(args: argparse.Namespace, frames: Frames) -> Iterator[tuple[str, Frames]]:
    """The frames as they are, and degraded."""
    yield "clean", frames
    for kind in args.degraded:
        yield kind, degraded(frames, kind, args.severity, args.seed)


def over_all(
    args: argparse.Namespace,
    predict: Predicts,
    frames: Frames,
    measure: Callable[[str, Predicts, str, Frames], dict[str, Any]],
) -> dict[str, Any]:
    """``measure`` of each model in each condition, nested as in the JSON.

    All are opened first: a mistake in the last option must not cost the measurements before it.
    """
    result: dict[str, Any] = {}
    opened, views = list(models(args, predict)), list(conditions(args, frames))
    if args.command == "semantic":
        for _, predictor in opened:
            require_classes(predictor.labels, CLASSES.get(args.data, ()), args.data)
    for model, predictor in opened:
        of_model: dict[str, Any] = {}
        for condition, seen in views:
            measured = measure(model, predictor, condition, seen)
            if condition == "clean":
                of_model = measured
            else:
                of_model.setdefault("degraded", {})[condition] = measured
        if model:
            result.setdefault("baselines", {})[model] = of_model
        else:
            result = of_model
    return result | ({"degraded_severity": args.severity} if args.degraded else {})


def semantic(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Callable]:
    def measure(model: str, predictor: Predicts, condition: str, seen: Frames) -> dict[str, Any]:
        folder = args.predictions / model / condition if args.predictions else None
        return evaluation.evaluate_semantic(predictor, seen, progress, folder)

    result = over_all(args, predict, frames, measure)
    print("| class | IoU % |\n|---|---|")
    for name, value in result["iou"].items():
        print(f"| {name} | {value:.1f} |")
    print()
    for model, condition, m in results.measurements({"checkpoint": name_of(args.checkpoint)} | result):
        print(f"{model}, {condition}: mIoU {m['miou']:.1f}, mAcc {m['macc']:.1f}, aAcc {m['aacc']:.1f} "
              f"on {m['frames']} frames")  # fmt: skip

    def show(complete: dict[str, Any]) -> str:
        panels = report.semantic_panels(predict, frames, result["frame_miou"])
        return report.page(complete, panels=panels, labels=predict.labels)

    return result, show


def anomaly(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Callable]:
    if args.data not in OWN_OUTLIERS and not (args.stamps or args.coco or args.cutouts or args.left_out):
        raise ValueError(
            f"{args.data} has no outliers: give --stamps, --coco or --cutouts DIR to paste unseen objects, "
            "or --left-out a class that the network never learned"
        )
    if args.stamps or args.coco or args.cutouts:
        if args.data not in CLASSES:
            raise ValueError(
                f"{args.data} has outliers of its own, and no classes that tell where an object could stand: "
                "leave --stamps, --coco and --cutouts out"
            )
        checkpoints = [args.checkpoint, *(named_folder(text)[1] for text in args.baseline)]
        known = [label.name for label in predict.labels]
        objects = unseen_objects(checkpoints, args.stamps, args.coco, known, args.cutouts)
        print(f"{sum(map(len, objects))} cut-outs to paste")
        frames = pasted(frames, objects, args.seed, ground_ids(CLASSES[args.data]))
    drivable = [label.id for label in CLASSES.get(args.data, ()) if label.drivable]
    main_score = "eomt_ext" if "eomt_ext" in predict.scores else predict.scores[0]
    alerts = calibrated(args.checkpoint, predict.short_side)
    figures: dict[str, report.AnomalyFigures] = {}

    def measure(model: str, predictor: Predicts, condition: str, seen_frames: Frames) -> dict[str, Any]:
        seen = evaluation.Anomalies(predictor, seen_frames, None, drivable, progress)
        try:
            thresholds = {} if model else alerts
            if args.report and not model:
                figures[condition] = report.anomaly_figures(
                    seen, main_score, predictor.labels, alerts.get(main_score)
                )
            return evaluation.summary(seen, args.seed, args.track, thresholds)
        finally:
            seen.close()

    result = over_all(args, predict, frames, measure) | {"temperature": args.temperature}
    sources = ("cutouts",) if args.cutouts else SOURCES
    result["pasted"] = [source for source in sources if getattr(args, source)]
    named = {"checkpoint": name_of(args.checkpoint)} | result
    print(
        "| model | frames | score | AuPRC % (95 % interval) | AUROC % | FPR95 % | F1* % |\n"
        + "|---" * 7
        + "|"
    )
    for model, condition, measured in results.measurements(named):
        for name, row in sorted(measured["scores"].items(), key=lambda item: -item[1]["auprc"]):
            print(f"| {model} | {condition} | {name} | {row['auprc']:.1f} ({row['auprc_low']:.1f} to "
                  f"{row['auprc_high']:.1f}) | {row['auroc']:.1f} | {row['fpr95']:.1f} "
                  f"| {row['f1_star']:.1f} |")  # fmt: skip
    print(f"\n{result['frames']} frames, {result['prevalence']:.2f} % of pixels anomalous")
    for model, condition, measured in results.measurements(named):
        for line in results.differences(measured):
            print(f"{model}, {condition}: {line}, points; 95 % interval over the same frames")
    return result, lambda complete: report.page(complete, figures, labels=predict.labels)


def calibrated(checkpoint: Path, short_side: int) -> dict[str, float]:
    """{score: threshold} of a checkpoint that was calibrated, for this size if it was for this size.

    Raises ValueError for a calibration of other weights.
    """
    if not (checkpoint / CALIBRATION).is_file():
        return {}
    values = for_size(read_calibration(checkpoint, file_sha256(checkpoint / WEIGHTS)), short_side)
    return {values["score"]: values["threshold"]}


def control(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Any]:
    require_learned(args, predict)
    threshold = args.threshold
    if threshold is None:
        threshold = calibrated(args.checkpoint, predict.short_side).get("eomt_ext")
    if threshold is None:
        raise FileNotFoundError(
            f"{args.checkpoint} has no {CALIBRATION} of eomt_ext: give --threshold, or calibrate it first"
        )
    classes, tpr95 = CLASSES.get(args.data, ()), None
    if args.tpr95_of:
        measured = json.loads(args.tpr95_of.read_text()).get("scores", {}).get("eomt_ext", {})
        if (tpr95 := measured.get("threshold_tpr95")) is None:
            raise ValueError(f"{args.tpr95_of} has no threshold_tpr95 of eomt_ext: measure `anomaly` anew")
    result = evaluation.evaluate_control(
        predict, frames, threshold, args.seed, progress, control_ids(classes), ground_ids(classes), tpr95
    )
    print(
        f"{result['pastes']} ordinary segments pasted; at or above {threshold:.4g}: "
        f"pasted {result['pasted']:.2f} %, around {result['around']:.2f} %, "
        f"same place before {result['before']:.2f} %; pasted less around {result['excess']:.2f} points "
        f"({result['excess_low']:.2f} to {result['excess_high']:.2f})\n"
        f"median anomaly: pasted {result['median_pasted']:.3g}, around {result['median_around']:.3g}, before "
        f"{result['median_before']:.3g}; AUROC of pasted against around {result['auroc_around']:.3f}, "
        f"against before {result['auroc_before']:.3f} (0.5: alike)"
    )
    if tpr95 is not None:
        print(
            f"at or above {tpr95:.4g}, TPR 95 % of {args.tpr95_of}: pasted {result['pasted_tpr95']:.2f} %, "
            f"around {result['around_tpr95']:.2f} %, before {result['before_tpr95']:.2f} %"
        )
    return result, None


def require_learned(args: argparse.Namespace, predict: Predicts) -> None:
    if "eomt_ext" not in predict.scores:
        raise ValueError(
            f"{args.checkpoint} has no trained anomaly head: {args.command} is about its score, eomt_ext"
        )


def calibrate(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Any]:
    require_learned(args, predict)
    result = evaluation.calibration(evaluation.normal_scores(predict, frames, progress), args.fpr)
    about = provenance(args, predict)
    kept = ("data", "split", "every", "short_side", "precision", "weights_sha256", "commit", "date")
    result |= {"dataset": f"{args.data} {args.split}", "seed": args.seed} | {k: about[k] for k in kept}
    how = {"fpr": args.fpr, **{k: about[k] for k in ("data", "split", "every", "short_side", "precision")}}
    result["made_with"] = "evaluate.py calibrate " + " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in how.items()
    )
    path = args.checkpoint / CALIBRATION
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(evaluation.beside(before, result), indent=2) + "\n")
    print(
        f"threshold {result['threshold']:.4g}: on average {100 * result['calibration_rate']:.3g} % of a "
        f"frame's normal pixels on {result['dataset']} reach it. Guarantee: {result['guarantee']}.\n"
        f"Written to {path}"
    )
    return result, None


COMMANDS = {"semantic": semantic, "anomaly": anomaly, "control": control, "calibrate": calibrate}

if __name__ == "__main__":
    sys.exit(main())
