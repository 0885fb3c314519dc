# SPDX-License-Identifier: MIT
"""Results as files: JSON of one run, and one table of all, a row for each model, condition and score."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eomt_anomaly.model.checkpoint import WEIGHTS, file_sha256

from ..json_files import read_object

ABOUT = (
    *("date", "commit", "command", "checkpoint", "weights_sha256", "dataset", "pasted", "split", "every"),
    *("frames", "seed", "track"),
)
HOW = ("short_side", "precision", "temperature", "device")
METRICS = (
    *("miou", "macc", "aacc", "auprc", "auprc_low", "auprc_high", "auroc", "fpr95"),
    *("tnr_at_tpr80", "tnr_at_tpr90", "tnr_at_tpr95", "tnr_at_tpr99", "best_f1", "best_f1_threshold"),
    *("auprc_surface", "fpr95_surface", "siou", "ppv", "f1_star"),
    *("threshold", "fpr_at_threshold", "tpr_at_threshold"),
)
ROW = ("model", "condition", "degraded_severity", "score")
COLUMNS = (*ABOUT, *ROW, *METRICS, *HOW)  # metrics in %, thresholds as they are


def rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one result as `evaluate.py --output` writes it (semantic or anomaly)."""
    about = {k: result.get(k) for k in (*ABOUT, *HOW)}
    for model, condition, measured in measurements(result):
        about["frames"] = measured["frames"]
        severity = None if condition == "clean" else result.get("degraded_severity")
        for score, numbers in measured.get("scores", {"": measured}).items():
            kept = {k: numbers[k] for k in METRICS if k in numbers}
            row = dict(zip(ROW, (model, condition, severity, score), strict=True))
            yield {**about, **row, **kept}


def measurements(result: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(model, condition, measurement) of a result: itself and its baselines, each clean and degraded."""
    for model, of_model in [(result["checkpoint"], result), *result.get("baselines", {}).items()]:
        yield model, "clean", of_model
        for condition, measured in of_model.get("degraded", {}).items():
            yield model, condition, measured


def differences(measured: dict[str, Any]) -> list[str]:
    """``against_best``, where it was measured: "eomt_ext − uno: AuPRC +5.5 (+1.2 to +9.7)", and FPR95."""
    names = {"auprc": "AuPRC", "fpr95": "FPR95"}
    return [
        f"eomt_ext − {d['other']}: {names[metric]} {d['difference']:+.1f} "
        f"({d['low']:+.1f} to {d['high']:+.1f})"
        for metric, d in measured.get("against_best", {}).items()
    ]


def append(path: Path, result: dict[str, Any]) -> int:
    """Append the rows of ``result`` to a CSV file, with a header where it is new; returns how many.

    Raises ValueError for a file with other columns: nothing is written into it.
    """
    new = check(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = list(rows(result))
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in found)
    return len(found)


def check(path: Path) -> bool:
    """Whether a file for `append` is new. Raises ValueError for one with other columns."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open(newline="") as file:
        if tuple(next(csv.reader(file))) != COLUMNS:
            raise ValueError(f"{path} has other columns than these results: name another file")
    return False


def of_weights(file: Path, checkpoint: Path) -> dict[str, Any]:
    """What was measured of a checkpoint. Raises ValueError for a file that says it is of other weights.

    One from before files told the hash of their weights is warned of.
    """
    found = read_object(file)
    if (measured := found.get("weights_sha256")) is None:
        print(f"{file} does not tell of which weights it is: it is taken for {checkpoint}'s", file=sys.stderr)
    elif measured != (own := file_sha256(checkpoint / WEIGHTS)):
        raise ValueError(
            f"{file} is of weights {measured}, but those of {checkpoint} are {own}: measure these anew"
        )
    return found


def without_nan(value: Any) -> Any:
    """A result with None in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
