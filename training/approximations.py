#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure what the engine's shortcuts cost on trained weights and labelled frames.

  python training/approximations.py --data camvid --root DIR --stamps DIR --output out/approximations.json

Every way to run the engine (precisions, post-processing, windows against one rectangle, torch.compile, a
smaller input, and with --exported the other backends) sees the same frames with the same pasted objects as
`evaluate.py anomaly`. Each is compared with fp32 and naive post-processing (precision "exact"): mIoU must
stay within 0.2, AuPRC and FPR95 within 0.5 points. Prints a Markdown table; ends with status 2 if what the
engine does by default on this device is not within the limits. ms: median of a frame, ways interleaved.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from eomt_anomaly.model.checkpoint import read_config  # noqa: E402
from eomt_anomaly.runtime import Engine  # noqa: E402
from eomt_anomaly.runtime.checkpoints import default_checkpoint  # noqa: E402
from eomt_anomaly.runtime.host import device_name  # noqa: E402
from eomt_training.evaluation.approximations import (  # noqa: E402
    LIMITS,
    REFERENCE,
    Way,
    compare,
    in_force,
    is_default,
    table,
    ways,
)
from eomt_training.evaluation.labelled import about_frames, add_options, labelled_frames  # noqa: E402
from eomt_training.evaluation.provenance import git_commit  # noqa: E402
from eomt_training.evaluation.results import without_nan  # noqa: E402

BEYOND_LIMITS = 2  # exit status


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, default=default_checkpoint(), help="folder; default: the package's")
    add("--backbone", help="file or folder of the frozen backbone, if it is in no usual place")
    add("--exported", type=Path, help="folder of training/export.py: ONNX Runtime and OpenVINO beside torch")
    add("--ways", nargs="+", metavar="NAME", help=f"only these; {REFERENCE} is always among them")
    add_options(parser)
    add("--threads", type=int, help="for the network's arithmetic on a CPU")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--output", type=Path, help="also write the result to this JSON file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        result = measure(args)
    except (FileNotFoundError, ValueError, KeyError, ImportError) as error:
        print(f"approximations: {error}", file=sys.stderr)
        return 1
    print(table(result["ways"]))
    print(f"\n{result['frames']} frames of {args.data} {args.split}, short side {result['short_side']} px, "
          f"score {result['score']}, {result['device_name']}")  # fmt: skip
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(without_nan(result), indent=2) + "\n", encoding="utf-8")
        print(f"written: {args.output}")
    if result["default_within"] is False:
        print(f"The engine's default on {args.device}, {result['default']}, exceeds the limits.")
        return BEYOND_LIMITS
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """What --output holds; ``default_within`` is None where --ways leaves the default out."""
    config, digest = read_config(args.checkpoint)
    frames = labelled_frames(args, config.labels)
    chosen = choose(ways(args.device, config.image_size, config.patch_size, args.exported), args.ways)
    fixed = {"device": args.device, "threads": args.threads}
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for way in chosen:
            own = {"checkpoint": args.checkpoint, "backbone": args.backbone}
            options = {**fixed, **({} if "backend" in way.options else own), **way.options}
            engines[way.name] = engine = stack.enter_context(Engine(**options))
            if engine.checkpoint_sha256 != digest:
                raise ValueError(f"{args.exported} was not exported from {args.checkpoint}: export it again")
            engine.warmup([frames[0].labels.shape])
        runs = {name: engine.infer for name, engine in engines.items()}
        rows = compare(runs, frames, len(config.labels), lambda i: tqdm(i, unit="frame", leave=False))
        score = engines[REFERENCE].score
    for way in chosen:
        rows[way.name] |= {"about": way.about, "default": is_default(way, args.device),
                           "options": in_force(way.options, args.device)}  # fmt: skip
    default = next((name for name, row in rows.items() if row["default"]), None)
    return {
        "ways": rows,
        "reference": REFERENCE,
        "limits": LIMITS,
        "default": default,
        "default_within": rows[default]["within"] if default else None,
        **about_frames(args, frames),
        "device": args.device,
        "threads": args.threads,
        "checkpoint": args.checkpoint.resolve().name,
        "weights_sha256": digest,
        "short_side": config.image_size,
        "score": score,
        "device_name": device_name(args.device),
        "torch": torch.__version__,
        "commit": git_commit("../ros2_ws/src/eomt_anomaly/eomt_anomaly/runtime"),
        "date": datetime.date.today().isoformat(),
    }


def choose(every_way: list[Way], names: list[str] | None) -> list[Way]:
    """The reference and the named ways, in their order. Raises ValueError for a name that is none."""
    known = [way.name for way in every_way]
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(f"--ways {', '.join(unknown)}: choose from {', '.join(map(repr, known))}")
    return [way for way in every_way if names is None or way.name in (REFERENCE, *names)]


if __name__ == "__main__":
    sys.exit(main())
