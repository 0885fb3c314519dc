#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure how fast a recipe trains, and what caching the frozen backbone's features would bring.

  python training/throughput.py --config training/configs/camvid/small_476.yaml --batch-sizes 2 4 8

Every other argument is fit.py's. Steps of all cases (each batch size, the frozen blocks computed at every
step or their tokens and taps computed once and reused) take turns in every round; figures are medians. Peak
memory is measured for each case in a process of its own. Batches are synthetic, of the recipe's crop. Each
step ends with the optimiser's (trainer.accumulate_grad_batches is not followed); data loading, callbacks
and validation are left out.
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

from eomt_anomaly.runtime.host import device_name  # noqa: E402
from eomt_training.evaluation.provenance import git_commit  # noqa: E402
from eomt_training.evaluation.throughput import Case, rows, run_alone, table  # noqa: E402

CAVEAT = (
    "Cached features hold for one crop of one image. The recipes here scale, crop, flip and paste anew at "
    "every step, which changes the features: they cannot be cached without giving up that augmentation."
)


def arguments(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The own options, and the recipe's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--config", type=Path, action="append", help="recipe; default: configs/camvid/small_476.yaml")
    add("--batch-sizes", type=int, nargs="+", default=[4], metavar="N")
    add("--rounds", type=int, default=5)
    add("--output", type=Path, help="also write the result to this JSON file")
    options, recipe = parser.parse_known_args(argv)
    if min(options.batch_sizes) < 1:
        parser.error(f"--batch-sizes {options.batch_sizes}: give positive integers")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: give a positive integer")
    configs = options.config or [HERE / "configs/camvid/small_476.yaml"]
    for config in configs:
        if not config.is_file():
            parser.error(f"--config {config}: no such file")
    return options, [*(f"--config={config}" for config in configs), *recipe]


def main(argv: list[str] | None = None) -> int:
    options, recipe = arguments(argv)
    cases = [Case(n, cached) for n in dict.fromkeys(options.batch_sizes) for cached in (False, True)]
    try:
        result = measure(recipe, cases, options.rounds)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"throughput: {error}", file=sys.stderr)
        return 1
    height, width = result["size"]
    print(table(result["cases"]))
    print(
        f"\n{result['device_name']}, {result['precision']}, crops of {width}x{height} px. On disk, cached "
        f"features need {result['feature_bytes'] / 1e6:.2f} MB an image (bfloat16).\n{CAVEAT}"
    )
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written: {options.output}")
    return 0


def measure(recipe: list[str], cases: list[Case], rounds: int) -> dict[str, Any]:
    """What --output holds."""
    print(f"timing {len(cases)} cases", file=sys.stderr)
    timed = run_alone(recipe, cases, rounds)
    print("weighing them, each in a process of its own", file=sys.stderr)
    weighed = [run_alone(recipe, [case], 1) for case in cases]
    about = asdict(timed)
    return {
        "recipe": recipe,
        "cases": rows(cases, timed, weighed),
        "rounds": rounds,
        **{name: about[name] for name in ("size", "precision", "device", "feature_bytes")},
        "caveat": CAVEAT,
        "device_name": device_name(timed.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": git_commit(),
        "date": datetime.date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
