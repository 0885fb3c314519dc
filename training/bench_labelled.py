#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure the contestants of `make bench` on labelled frames: is the faster one as good?

  python -m eomt_anomaly.runtime.bench --checkpoint DIR --image 360 480 --side 476 --output out/bench
  python training/bench_labelled.py --bench out/bench --root DIR --stamps DIR

Checkpoint, windows, device, threads and contestants are those of the benchmark's bench.json. All see the same
frames, with the same pasted objects as `evaluate.py anomaly`, and are compared with fp32 and naive
post-processing in the same windows ("ours exact"). Prints a Markdown table, and adds the figures to
bench.json (`labelled`) and bench.html. Who cannot take part is named, and the others go on.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from eomt_anomaly.model.checkpoint import read_config  # noqa: E402
from eomt_anomaly.report.engine_page import engine_page  # noqa: E402
from eomt_anomaly.report.origin import write_json  # noqa: E402
from eomt_anomaly.runtime.benchmark import contestants  # noqa: E402
from eomt_anomaly.runtime.benchmark.comparison import FORMAT, REFERENCE  # noqa: E402
from eomt_anomaly.runtime.benchmark.setting import Setting  # noqa: E402
from eomt_training.evaluation.approximations import LIMITS, compare, table  # noqa: E402
from eomt_training.evaluation.labelled import about_frames, add_options, labelled_frames  # noqa: E402
from eomt_training.json_files import read_object  # noqa: E402


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, default=Path("out/bench"), help="folder of bench.json")
    add_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        bench = read_bench(args.bench / "bench.json")
        found = measure(args, bench)
    except (FileNotFoundError, ValueError, KeyError) as error:
        print(f"bench_labelled: {error}", file=sys.stderr)
        return 1
    print(table(found["contestants"], "what it is"))
    for name, reason in (bench["skipped"] | found["skipped"]).items():
        print(f"not here: {name}: {reason}")
    print(f"\n{found['frames']} frames of {args.data} {args.split}, {bench['host']['cpu']}, "
          f"GPU: {bench['host']['gpu'] or 'none'}")  # fmt: skip
    bench["labelled"] = found
    write_json(args.bench / "bench.json", bench)
    (args.bench / "bench.html").write_text(engine_page(bench), encoding="utf-8")
    print(f"added to {args.bench / 'bench.json'}, {args.bench / 'bench.html'}")
    return 0


def read_bench(path: Path) -> dict[str, Any]:
    """What the benchmark left. Raises FileNotFoundError or ValueError with the remedy."""
    again = "run `python -m eomt_anomaly.runtime.bench --checkpoint DIR`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {again}")
    bench = read_object(path)
    if bench.get("format") != FORMAT:
        raise ValueError(f"{path} is {bench.get('format')!r}, not {FORMAT!r}: {again}")
    if not bench["setting"]["checkpoint"]:
        raise ValueError(f"{path} is of random weights, which have learned no classes: {again}")
    return bench


def measure(args: argparse.Namespace, bench: Mapping[str, Any]) -> dict[str, Any]:
    """The section `labelled` of bench.json: `compare`'s row of each contestant, the reference first."""
    setting = Setting(**{**bench["setting"], "size": tuple(bench["setting"]["size"])})
    model = setting.model()
    labels = model.config.labels
    frames = labelled_frames(args, labels)
    setting.set_threads()
    first = [np.ascontiguousarray(frames[0].image)]
    there: dict[str, contestants.Contestant] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="eomt-bench-") as work, ExitStack() as stack:
        for name in dict.fromkeys([REFERENCE, *(row["name"] for row in bench["contestants"])]):
            try:
                contestant = contestants.build(name, setting, model, Path(work))
                stack.callback(contestant.close)
                contestant.run(first)  # and warm it up
            except Exception as error:  # whatever a library raises
                skipped[name] = contestants.reason(error)
            else:
                there[name] = contestant
        if REFERENCE in skipped:
            raise ValueError(f"{REFERENCE} cannot take part, and all are compared with it: "
                             f"{skipped[REFERENCE]}")  # fmt: skip
        runs = {name: contestant.run for name, contestant in there.items()}
        rows = compare(runs, frames, len(labels), lambda i: tqdm(i, unit="frame", leave=False))
    return {
        "contestants": {name: {**row, "about": there[name].about} for name, row in rows.items()},
        "skipped": skipped,
        "reference": REFERENCE,
        "limits": LIMITS,
        **about_frames(args, frames),
        "weights_sha256": read_config(Path(bench["setting"]["checkpoint"]))[1],
        "date": datetime.date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
