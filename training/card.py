#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
r"""Write a checkpoint's model card from what was measured; every figure in it comes from a file.

  python training/card.py --checkpoint DIR --introduction FILE --environment RUN/environment.json ... \
    --semantic TITLE=a.json ... --anomaly TITLE=b.json ... --control TITLE=c.json ...

The introduction is Markdown: a title, what the checkpoint is for and where it fails, and `## Data and terms`;
that of the CamVid recipes is configs/camvid/card.md. Each measurement is a file that `evaluate.py --output`
wrote; several of a kind become several columns. Sections of what is not given stay as the card has them, so
one can be measured anew where the files of the others are gone. A measurement or a calibration.json of other
weights is refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.model.checkpoint import CALIBRATION  # noqa: E402
from eomt_training.evaluation.results import of_weights  # noqa: E402
from eomt_training.json_files import read_object  # noqa: E402
from eomt_training.report.card import anomaly, control, semantic, threshold, training  # noqa: E402

INTRODUCTION = ("# ", "## Data and terms")
ORDER = (
    "---",
    *INTRODUCTION,
    "## Training",
    "## Classes",
    "## Anomalies",
    "## Control",
    "## Alert threshold",
)
KINDS = {"semantic": semantic, "anomaly": anomaly, "control": control}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--introduction", type=Path, help="Markdown: title, limits, data and terms")
    parser.add_argument("--environment", type=Path, nargs="+", default=[], help="of each stage, in order")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="*", default=[], metavar="TITLE=FILE")
    args = parser.parse_args()
    try:
        write(args)
    except (OSError, ValueError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 1
    return 0


def write(args: argparse.Namespace) -> None:
    """Write the card. Raises OSError or ValueError where what it is made of is missing or does not belong."""
    card, calibration = args.checkpoint / "README.md", args.checkpoint / CALIBRATION
    kept = sections(card.read_text()) if card.is_file() else {}
    introduction = sections(args.introduction.read_text()) if args.introduction else {}
    if introduction:
        kept = {heading: text for heading, text in kept.items() if not heading.startswith(INTRODUCTION)}
    known = introduction or kept
    if missing := [kind for kind in INTRODUCTION if not any(heading.startswith(kind) for heading in known)]:
        raise ValueError(
            f"{args.introduction or card} has no line that begins with {' and none with '.join(missing)!r}: "
            "what the weights were trained on and under which terms they are is not known here. Give "
            f"--introduction FILE, Markdown like {HERE / 'configs/camvid/card.md'}"
        )
    parts = [training([stage(path) for path in args.environment])]
    for kind, section in KINDS.items():
        parts.append(section(named(kind, getattr(args, kind), args.checkpoint)))
    parts.append(threshold(of_weights(calibration, args.checkpoint) if calibration.is_file() else None))
    made = introduction | sections("\n".join(part for part in parts if part))
    card.write_text("".join(text.rstrip() + "\n\n" for text in ordered({**kept, **made})).rstrip() + "\n")


def sections(card: str) -> dict[str, str]:
    """A card's parts by their first line, a heading of the first or second level; --- for what is before."""
    parts = re.split(r"^(?=##? )", card, flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in parts if part.strip()}


def ordered(parts: dict[str, str]) -> list[str]:
    """The parts in the card's order; of one kind, in the order given; what has no place comes last."""
    rank = {heading: [*map(heading.startswith, ORDER), True].index(True) for heading in parts}
    return [parts[heading] for heading in sorted(parts, key=rank.__getitem__)]


def named(kind: str, pairs: list[str], checkpoint: Path) -> dict[str, dict[str, Any]]:
    """TITLE=FILE arguments -> {title: measurement}. Raises ValueError also for one of another command."""
    found = {}
    for pair in pairs:
        title, sign, file = pair.partition("=")
        if not sign:
            raise ValueError(f"--{kind} {pair}: give TITLE=FILE")
        found[title] = of_weights(Path(file), checkpoint)
        if (command := found[title].get("command", kind)) != kind:
            raise ValueError(f"{file} is what `evaluate.py {command}` measured: give it with --{command}")
    return found


def stage(environment: Path) -> dict[str, Any]:
    """environment.json of a run, and its ``callbacks``' class names, where config.yaml lies beside it."""
    found = read_object(environment)
    config = environment.with_name("config.yaml")
    if config.is_file():
        callbacks = yaml.safe_load(config.read_text())["trainer"].get("callbacks") or []
        several = callbacks if isinstance(callbacks, list) else [callbacks]
        found["callbacks"] = [one["class_path"].rpartition(".")[2] for one in several]
    return found


if __name__ == "__main__":
    sys.exit(main())
