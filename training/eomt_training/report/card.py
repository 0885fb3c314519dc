# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (the card's text)
"""The sections of a model card, Markdown, from what evaluate.py and fit.py wrote; "" for nothing measured."""

from __future__ import annotations

import shlex
from typing import Any

from eomt_anomaly.model.checkpoint import CALIBRATION

from ..evaluation.results import differences, measurements
from . import notes


def training(stages: list[dict[str, Any]]) -> str:
    """Each stage's command and circumstances; which weights were kept, where `stage` knows all callbacks."""
    if not stages:
        return ""
    text = "## Training\n"
    for one in stages:
        text += (
            f"    {one['command']}\n\n{one['steps']} steps in {one['minutes']:.0f} minutes on {one['device']} "
            f"({one['threads']} threads, {one['precision']}, torch {one['torch']}); seed {one['seed']}; "
            f"commit {one['git_commit']}.\n\n"
        )
    if not all("callbacks" in one for one in stages):
        return text + "One run each.\n"
    averaged = ", averaged" if all("ExponentialAverage" in one["callbacks"] for one in stages) else ""
    chosen = "none was selected on a validation set"
    if any("EarlyStopping" in one["callbacks"] for one in stages):
        chosen = "a validation set said when to stop"
    return text + f"One run each; the weights are those of the last step{averaged}: {chosen}.\n"


def measured_with(command: str, m: dict[str, Any]) -> str:
    """The command behind a measurement."""
    left_out = m.get("dataset", "").split(" without ")[1:]  # a class each; some names have spaces
    more = f" --left-out {shlex.join(left_out)}" if left_out else ""
    more += "".join(f" --{source} DIR" for source in m.get("pasted", []))
    return (
        f"`evaluate.py {command} --data {m['data']} --split {m['split']} --every {m['every']} "
        f"--short-side {m['short_side']} --precision {m['precision']}{more}`, {m['device']}"
    )


CAMVID_VAL = """
CamVid's val is one clip (0016E5) of a drive that training frames come from too: its figure says nothing about other
drives and must not stand beside published test figures.
"""


def semantic(columns: dict[str, dict[str, Any]]) -> str:
    """IoU by class, a column for each measurement; then mIoU on degraded copies and of baselines."""
    if not columns:
        return ""
    rows = [["class", *columns], ["---"] * (len(columns) + 1)]
    first = next(iter(columns.values()))
    rows += [[name, *(number(m["iou"].get(name)) for m in columns.values())] for name in first["iou"]]
    rows += [
        [f"**{label}**", *(f"**{m[key]:.1f}**" for m in columns.values())]
        for label, key in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc"))
    ]
    commands = "".join(f"- {title}: {measured_with('semantic', m)}\n" for title, m in columns.items())
    note = CAMVID_VAL if any((m["data"], m["split"]) == ("camvid", "val") for m in columns.values()) else ""
    more = [[title, *row] for title, m in columns.items() for row in others(m, ("miou",))]
    if more:
        head = [["measurement", "model", "frames", "mIoU %"], ["---"] * 4]
        note += "\n" + table(head + more)
    return "## Classes (IoU, %)\n" + commands + "\n" + table(rows) + note


SCORE_COLUMNS = {
    "auroc": "AUROC %",
    "fpr95": "FPR95 %",
    "tnr_at_tpr99": "TNR at TPR 99 %",
    "auprc_surface": "AuPRC on road %",
    "siou": "sIoU %",
    "ppv": "PPV %",
    "f1_star": "F1* %",
}


def anomaly(columns: dict[str, dict[str, Any]]) -> str:
    """Every score with its interval; then each score on degraded copies, and the baselines."""
    text = ""
    for title, m in columns.items():
        shown = {k: v for k, v in SCORE_COLUMNS.items() if any(k in row for row in m["scores"].values())}
        rows = [["score", "AuPRC % (95 % interval over frames)", *shown.values()], ["---"] * (len(shown) + 2)]
        rows += [
            [name, interval(row), *(number(row.get(k)) for k in shown)] for name, row in by_auprc(m["scores"])
        ]
        text += (
            f"## Anomalies: {title}\n{m['frames']} frames, {m['prevalence']:.2f} % of pixels anomalous, "
            f"seed {m['seed']}: {measured_with('anomaly', m)}.\n\n" + table(rows)
        )
        if against := differences(m):
            text += (
                "\nAgainst the best other score, in points (95 % interval, the same frames drawn again for both): "
                + "; ".join(against) + ".\n"
            )  # fmt: skip
        if "track" in m:
            text += (
                f"\nComponents (sIoU, PPV, F1*) at the best-F1 threshold, sizes of SegmentMeIfYouCan's "
                f"{m['track']} track.\n"
            )
        if "mask2anomaly" in m["scores"]:
            text += f"\n{notes.MASK2ANOMALY}\n"
        text += degraded(m) + "\n"
    return text


def degraded(m: dict[str, Any]) -> str:
    """AuPRC and FPR95 of every model and score other than the clean rows of the checkpoint; "" for none."""
    rows = others(m, ("auprc", "fpr95", "f1_star", "fpr_at_threshold", "tpr_at_threshold"))
    if not rows:
        return ""
    clean = m["scores"].get("eomt_ext", {})
    titles = [
        "model",
        "frames",
        "score",
        "AuPRC %",
        "FPR95 %",
        "F1* %",
        "normal that fires %",
        "anomalous that fires %",
    ]
    text = table([titles, ["---"] * len(titles), *rows])
    severity = (
        f"Copies degraded with severity {m['degraded_severity']:g}. " if "degraded_severity" in m else ""
    )
    alert = ""
    if "fpr_at_threshold" in clean:
        alert = (
            f"Fires: at or above the alert threshold; on the clean frames {clean['fpr_at_threshold']:.2f} % of the "
            f"normal and {clean['tpr_at_threshold']:.1f} % of the anomalous pixels do."
        )
    return f"\n### Degraded copies and baselines\n{severity}{alert}\n\n{text}"


def others(m: dict[str, Any], keys: tuple[str, ...]) -> list[list[str]]:
    """Rows (model, condition, [score,] values of ``keys``) of what stands beside a measurement."""
    rows = []
    for model, condition, part in list(measurements(m))[1:]:
        for name, row in by_auprc(part["scores"]) if "scores" in part else [("", part)]:
            rows.append([model, condition, *([name] if name else []), *(number(row.get(k)) for k in keys)])
    return rows


def by_auprc(scores: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    return sorted(scores.items(), key=lambda item: -item[1]["auprc"])


def interval(row: dict[str, float]) -> str:
    return f"{row['auprc']:.1f} ({row['auprc_low']:.1f} to {row['auprc_high']:.1f})"


def number(value: float | None) -> str:
    """One digit; – for what an older file lacks or could not be measured."""
    return "–" if value is None or value != value else f"{value:.1f}"


def control(columns: dict[str, dict[str, Any]]) -> str:
    """What pasting alone does to the score."""
    if not columns:
        return ""
    rows = [
        ["control", "pastes", "pasted segment %", "rest of the frame %", "same place before %"],
        ["---"] * 5,
    ]
    rows += [
        [title, str(m["pastes"]), *(f"{m[k]:.2f}" for k in ("pasted", "around", "before"))]
        for title, m in columns.items()
    ]
    places = ("pasted", "around", "before")
    more = [
        ["control", *(f"median {k}" for k in places), "AUROC against around", "against before"]
        + [f"{k} at TPR 95 % of objects, %" for k in places],
        ["---"] * 9,
    ]
    more += [
        [
            title,
            *(f"{m[f'median_{k}']:.3g}" for k in places),
            f"{m['auroc_around']:.3f}",
            f"{m['auroc_before']:.3f}",
        ]
        + [f"{m[f'{k}_tpr95']:.2f}" if f"{k}_tpr95" in m else "–" for k in places]
        for title, m in columns.items()
        if "auroc_around" in m
    ]
    text = (
        "## Control: ordinary segments pasted from another frame\nPixels at or above the alert threshold; a detector of "
        "paste edges would fire on the pasted segment.\n\n" + table(rows)
    )
    if len(more) > 2:
        text += (
            "\nThe anomaly itself, whatever the threshold. AUROC: how well it tells pasted pixels from the rest of the frame "
            "(around) and from the same place before the paste; 0.5 is not at all.\n\n" + table(more)
        )
    return text


def threshold(calibration: dict[str, Any] | None) -> str:
    """The alert threshold and what it promises; older files promise nothing."""
    if calibration is None:
        return f"## Alert threshold\nNone: there is no {CALIBRATION}. `python training/evaluate.py calibrate` writes it.\n"
    rate = calibration.get("calibration_rate", calibration["false_positive_rate"])
    text = f"""
## Alert threshold
{calibration["threshold"]:.4g} on the scale of `1 - exp(-AnomalyMap)`, chosen for {100 * calibration["false_positive_rate"]:g} % by:
{calibration["method"]}. On {calibration["dataset"]} ({calibration["frames"]} frames, short side {calibration["short_side"]}),
{100 * rate:.3g} % of the normal pixels reach it. Calibrate on your own camera: `python training/evaluate.py calibrate`.
"""
    for other in calibration.get("other_sizes", []):
        text += (
            f"\nAt short side {other['short_side']}: {other['threshold']:.4g}, chosen in the same way on {other['dataset']} "
            f"({other['frames']} frames), {100 * other['calibration_rate']:.3g} % of the normal pixels reach it. Guarantee: {other['guarantee']}.\n"
        )
    if "guarantee" in calibration:
        text += (
            f"\nGuarantee (conformal risk control, Angelopoulos et al., 2022): {calibration['guarantee']}. Frames of "
            "one drive are not drawn like those of another: on another camera, road or day it promises nothing.\n"
        )
    return text


def table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
