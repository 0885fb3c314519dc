# SPDX-License-Identifier: MIT
"""The commands of evaluate.py.

Each takes evaluate.py's options, the checkpoint's predictor and the frames, measures, and prints a table. It
returns its result for the JSON file, and what makes the HTML report of the completed result (None: none).
Raises ValueError or FileNotFoundError that says what the options, the checkpoint or the data lack.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable
from typing import Any

from eomt_anomaly.model.checkpoint import CALIBRATION

from .. import report
from ..json_files import read_object
from ..labels import control_ids, ground_ids
from ..metrics.conformal import check_rate
from . import results
from .anomaly import Anomalies, summary
from .calibration import beside, calibration, normal_scores, thresholds
from .control import evaluate_control
from .frames import Frames, pasted
from .labelled import CLASSES
from .predictor import Predicts
from .semantic import evaluate_semantic
from .subjects import calibrated, name_of, named_folder, over_all, progress, provenance
from .unseen import SOURCES, unseen_objects

OWN_OUTLIERS = ("drives", "generic_anomaly")


def semantic(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Callable]:
    """IoU of each class, in %, of every model in every condition."""

    def measure(model: str, predictor: Predicts, condition: str, seen: Frames) -> dict[str, Any]:
        folder = args.predictions / model / condition if args.predictions else None
        return evaluate_semantic(predictor, seen, progress, folder)

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
    """AuPRC, FPR95, ... of each score, in %, of every model in every condition."""
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
        seen = Anomalies(predictor, seen_frames, None, drivable, progress)
        try:
            thresholds = {} if model else alerts
            if args.report and not model:
                figures[condition] = report.anomaly_figures(
                    seen, main_score, predictor.labels, alerts.get(main_score)
                )
            return summary(seen, args.seed, args.track, thresholds)
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


def control(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Any]:
    """What eomt_ext says of ordinary segments pasted from another frame."""
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
        of_anomaly = results.of_weights(args.tpr95_of, args.checkpoint)
        measured = of_anomaly.get("scores", {}).get("eomt_ext", {})
        if (tpr95 := measured.get("threshold_tpr95")) is None:
            raise ValueError(f"{args.tpr95_of} has no threshold_tpr95 of eomt_ext: measure `anomaly` anew")
    result = evaluate_control(
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
    """Raise ValueError for a network without a trained anomaly head."""
    if "eomt_ext" not in predict.scores:
        raise ValueError(
            f"{args.checkpoint} has no trained anomaly head: {args.command} is about its score, eomt_ext"
        )


def calibrate(args: argparse.Namespace, predict: Predicts, frames: Frames) -> tuple[dict[str, Any], Any]:
    """Choose the alert threshold and write it into the checkpoint's calibration.json."""
    require_learned(args, predict)
    check_rate(args.fpr)
    path = args.checkpoint / CALIBRATION
    before = read_object(path) if path.is_file() else {}
    if not os.access(path if before else args.checkpoint, os.W_OK):
        raise ValueError(f"{path} cannot be written: measure a copy of the folder")
    metrics = normal_scores(predict, frames, progress)
    result = calibration(metrics, args.fpr)
    about = provenance(args, predict)
    kept = ("data", "split", "every", "short_side", "precision", "weights_sha256", "commit", "date")
    result |= {"dataset": f"{about['dataset']} {args.split}", "seed": args.seed}
    result |= {k: about[k] for k in kept}
    how = {"fpr": args.fpr, **{k: about[k] for k in ("data", "split", "every", "short_side", "precision")}}
    if args.left_out:
        how["left_out"] = shlex.join(args.left_out)
    result["made_with"] = "evaluate.py calibrate " + " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in how.items()
    )
    print(
        f"threshold {result['threshold']:.4g}: on average {100 * result['calibration_rate']:.3g} % of a "
        f"frame's normal pixels on {result['dataset']} reach it. Guarantee: {result['guarantee']}."
    )
    path.write_text(json.dumps(beside(before, result), indent=2) + "\n")
    print(f"Written to {path}")
    print("On these frames other rates would give: " + ("; ".join(thresholds(metrics, args.fpr)) or "none"))
    return result, None


COMMANDS = {"semantic": semantic, "anomaly": anomaly, "control": control, "calibrate": calibrate}
