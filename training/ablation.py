#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train variants of one recipe with several seeds and tell whether they differ.

  python training/ablation.py training/configs/ablation/query_or_dense.yaml --output runs/query_or_dense \\
    --seeds 0 1 2 --camvid DIR --drives DIR --stamps DIR

A plan names arguments of fit.py common to all variants, those of each variant, and which scores are compared.
Each run is trained by fit.py and measured by evaluate.py in processes of their own, seeds outermost, so that
an interrupted ablation has whole seeds. What is finished is not done again; what was trained with other
arguments or recipes than the plan has now (made_with.json beside it) is refused. The table has the mean over
seeds and, for each variant against the first, the 95 % interval of the paired difference (Student's t; the
same seed means the same data order and the same pasted objects). Further tables: every score on the same
weights, and with --degraded the plan's score on degraded copies (what lacks them is only measured again).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_training.evaluation.ablation import (  # noqa: E402
    conditions_of,
    means_table,
    measurements,
    quality,
    results_of,
    scores_of,
    table,
)
from eomt_training.json_files import read_object  # noqa: E402

MADE_WITH = "made_with.json"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder for runs, results and the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", help="only these; the first is the reference")
    parser.add_argument("--degraded", nargs="+", default=[], metavar="KIND", help="as evaluate.py's")
    for name in ("camvid", "drives", "stamps"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"as fit.py's data.{name}_root")
    args = parser.parse_args(argv)
    try:
        plan = yaml.safe_load(args.plan.read_text(encoding="utf-8"))
        names = chosen(plan, args.variants)
        runs_to_do = [(name, seed) for seed in args.seeds for name in names]
        for name, seed in runs_to_do:  # all before the first is trained
            check(place(args, name, seed), made_with(plan, name, seed, args))
        for name, seed in runs_to_do:
            run(plan, name, seed, args)
    except (OSError, ValueError) as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"ablation: status {error.returncode} of: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    scores = {name: plan["variants"][name]["score"] for name in names}
    found = {
        name: [measurements(place(args, name, seed), scores[name]) for seed in args.seeds] for name in names
    }
    runs = {name: [results_of(place(args, name, seed)) for seed in args.seeds] for name in names}
    by_score = {
        name: {score: [quality(one, score) for one in of_name] for score in scores_of(of_name)}
        for name, of_name in runs.items()
    }
    by_condition = {
        name: {kind: [quality(one, scores[name], kind) for one in of_name] for kind in conditions_of(of_name)}
        for name, of_name in runs.items()
    }
    result = {"plan": args.plan.name, "about": plan["about"], "seeds": args.seeds, "found": found}
    result |= {"scores": by_score, "degraded": by_condition}
    (args.output / "ablation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    text = table(found) + "\n## Score against score, on the same weights\n" + means_table(by_score, "score")
    if any(by_condition.values()):
        text += "\n## Degraded copies\n" + means_table(by_condition, "frames")
    (args.output / "ablation.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def chosen(plan: dict[str, Any], wanted: list[str] | None) -> list[str]:
    """The variants to run. Raises ValueError for one that the plan does not have."""
    for name in wanted or ():
        if name not in plan["variants"]:
            raise ValueError(f"no variant {name!r}: the plan has {', '.join(plan['variants'])}")
    return wanted or list(plan["variants"])


def place(args: argparse.Namespace, name: str, seed: int) -> Path:
    return Path(args.output / f"{name.replace(', ', '_').replace(' ', '_')}_seed{seed}")


def made_with(plan: dict[str, Any], name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """What decides the figures of a run: fit.py's arguments, what its recipe files say, evaluate.py's."""
    options = [*plan["variants"][name]["fit"], *plan["fit"]]
    recipes = [x for option, x in zip(options, options[1:]) if option in ("--config", "-c")]
    recipes += [x.removeprefix("--config=") for x in options if x.startswith("--config=")]
    data = [f"--data.{key}_root={getattr(args, key).resolve()}" for key in ("camvid", "drives", "stamps")]
    return {
        "fit": [*options, *data, f"--seed_everything={seed}", f"--data.seed={seed}"],
        "recipes": {file: yaml.safe_load(Path(file).read_text(encoding="utf-8")) for file in recipes},
        "evaluate": plan["evaluate"],
    }


def check(folder: Path, now: dict[str, Any]) -> bool:
    """Whether the run in a folder is trained. Raises OSError or ValueError where it is not of this plan."""
    if not (folder / "version_0/checkpoint").is_dir():
        if folder.exists():
            raise FileExistsError(f"{folder} holds an unfinished run: remove it")
        return False
    record, remedy = folder / MADE_WITH, f"remove {folder}, or give another --output"
    if not record.is_file():
        raise FileNotFoundError(f"{folder} has no {MADE_WITH}, so the plan may have changed since: {remedy}")
    then = read_object(record)
    if other := sorted(set(then["fit"]) ^ set(now["fit"])):
        raise ValueError(f"{folder} was trained with other arguments ({' '.join(other)}): {remedy}")
    if then["fit"] != now["fit"] or then["recipes"] != now["recipes"]:
        raise ValueError(
            f"{folder} was trained with other recipes (or their order), which {record} has: {remedy}"
        )
    return True


def run(plan: dict[str, Any], name: str, seed: int, args: argparse.Namespace) -> None:
    """Train and measure one variant with one seed, unless that is done."""
    folder, now = place(args, name, seed), made_with(plan, name, seed, args)
    record = folder / MADE_WITH
    if not check(folder, now):
        script("fit.py", "fit", *now["fit"], f"--trainer.default_root_dir={folder}")
        write(record, now)
    measured_so = read_object(record)["evaluate"] == now["evaluate"]
    if not measured_so:
        write(record, now | {"evaluate": None})  # until all three files are of this plan
    camvid, drives = ("--data", "camvid", "--root", args.camvid), ("--data", "drives", "--root", args.drives)
    for file, command in {
        "semantic": ("semantic", *camvid),
        "pasted": ("anomaly", *camvid, "--stamps", args.stamps),
        "drives": ("anomaly", *drives),
    }.items():
        output = folder / f"{file}.json"
        done = read_object(output) if output.is_file() else None
        had = set() if done is None else set(done.get("degraded", {}))
        if done is None or not measured_so or set(args.degraded) - had:
            kinds = sorted(had | set(args.degraded))
            script(
                "evaluate.py",
                *command,
                "--split",
                "val",
                "--checkpoint",
                folder / "version_0/checkpoint",
                *plan["evaluate"],
                *(["--degraded", *kinds] if kinds else []),
                "--output",
                output,
                "--results",
                args.output / "results.csv",
            )
    write(record, now)


def write(record: Path, content: dict[str, Any]) -> None:
    record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def script(name: str, *arguments: object) -> None:
    print("+", name, *arguments, flush=True)
    subprocess.run([sys.executable, str(HERE / name), *map(str, arguments)], check=True)


if __name__ == "__main__":
    sys.exit(main())
