# SPDX-License-Identifier: MIT
"""Measures the detector on any bag: latency, age, jitter, drops, CPU and memory, as JSON and as a page.

Starts a detector of its own in its own ROS domain, or attaches to a running one. Every published frame is
accounted for: in = out + dropped, by reason. The method is in docs/benchmarking.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..report.benchmark_page import benchmark_page
from ..report.compare import NotComparable, compare, lines
from ..report.compare_page import compare_page
from ..report.origin import write_json
from .accounts import ReplayError
from .bag_io import BagError
from .benchmark import options, text
from .benchmark.in_process import MakeEngine
from .benchmark.measure import as_recorded, under_load, without_ros
from .describe import report_lines
from .engines import make_engine
from .processes import ChildError
from .replay_options import end_on_sigterm


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of the benchmark."""
    return options.arguments(__doc__, argv)


def main(
    argv: list[str] | None = None,
    module: str = "eomt_anomaly.ros.detector",
    make_engine: MakeEngine = make_engine,
) -> int:
    """Exit status: 0 when frames came back, 1 when none did or it failed, 130 when interrupted."""
    args = arguments(argv)
    end_on_sigterm()
    try:
        if args.compare:
            a, b = args.compare
            return compare_files(a, b, args.output)
        args.output.mkdir(parents=True, exist_ok=True)
        for name in ("summary.json", "report.html"):
            (args.output / name).unlink(missing_ok=True)  # an old one must not pass for this one's
        if args.mode == "in_process":
            summary, courses = without_ros(args, make_engine, _say)
        elif args.even:
            summary, courses = under_load(args, module, _say)
        else:
            summary, courses = as_recorded(args, module, _say)
        write_json(args.output / "summary.json", summary)
        (args.output / "report.html").write_text(benchmark_page(summary, courses), encoding="utf-8")
        for camera, of in summary.get("cameras", {"": summary}).items():
            if of.get("quality") is not None:
                print(*([f"camera {camera}"] if camera else []), report_lines(of), sep="\n")
        print(text.report(summary))
        print(f"wrote {args.output / 'summary.json'} and report.html")
        return 0 if summary["frames_out"] else 1
    except (BagError, ReplayError, ChildError, NotComparable) as error:
        print(f"bag_benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def compare_files(a: Path, b: Path, output: Path | None = None) -> int:
    """Print the ratios of two summaries; compare.json and .html into `output`. Raises NotComparable."""
    summaries = _read(a), _read(b)
    found = compare(*summaries)
    print(lines(found, (str(a.parent), str(b.parent))))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "compare.json", {"a": str(a), "b": str(b), **found})
        page = compare_page(found, summaries, (str(a), str(b)))
        (output / "compare.html").write_text(page, encoding="utf-8")
        print(f"wrote {output / 'compare.json'} and compare.html")
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotComparable(
            f"{path} cannot be read: {error}. Give two summary.json of bag_benchmark"
        ) from error
    if not isinstance(content, dict) or "latency_ms" not in content:
        raise NotComparable(f"{path} is no summary of bag_benchmark: it has no latency_ms")
    return content


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
