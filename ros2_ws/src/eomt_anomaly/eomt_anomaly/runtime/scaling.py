# SPDX-License-Identifier: MIT
"""`python -m eomt_anomaly.runtime.scaling --output out/scaling`: what time and memory grow with.

Four axes around one base configuration: the camera's image, the network's short side, queries, and cameras,
either batched in one process or with a process each (which share the threads). On request (--models) a fifth:
sizes of the model, all with the queries and the upscaling of the default checkpoint. Every configuration has
processes of its own, so that its peak memory is its own; the configurations of an axis take turns in every
round, and each axis has the base among them, to which its ratios are. Weights are random: speed and memory
only. Writes scaling.json; `python -m eomt_anomaly.report.scaling_page out/scaling/scaling.json` makes the
page of it (`make scaling` does both).
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from ..model import EomtExtConfig
from ..model.checkpoint import read_config
from .benchmark.arithmetic import network_gflop, parameters_m
from .benchmark.timing import quantiles
from .checkpoints import default_checkpoint
from .host import device_name
from .network import PRECISIONS
from .preprocess import plan
from .scaling_worker import Load, Worker

BATCHED, EACH = "batched in one process", "one process each"
COLUMNS = {"parameters_m": "M parameters", "gflop": "GFLOP an image", "ms": "ms", "ms_p95": "p95 ms",
           "ms_per_image": "ms an image", "cpu_ms_per_image": "CPU ms an image", "peak_mb": "peak MB",
           "gpu_peak_mb": "GPU peak MB"}
PRESETS = ("tiny", "small", "base", "large")
UPSCALING = ("upscale_blocks", "upscale_channels", "detail_layer", "scale_mask_logits")


@dataclass(frozen=True)
class Case:
    """One configuration. x: its place on the axis. series: the line that it belongs to."""

    axis: str
    x: float
    name: str
    load: Load
    series: str = BATCHED
    processes: int = 1


def axes(base: Load, images: Sequence[tuple[int, int]], sides: Sequence[int], queries: Sequence[int],
         cameras: Sequence[int], models: Sequence[str] = ()) -> dict[str, list[Case]]:
    """The cases of each axis, the base first; an axis without any value but the base's is left out.

    The model axis has the base's model first, but as the default checkpoint's: see `like_default`.
    """
    def along(axis: str, values: Sequence[Any], own: Any, x: Callable[[Any], float],
              name: Callable[[Any], str], change: Callable[[Any], Load]) -> list[Case]:
        others = sorted(set(values) - {own}, key=x)
        return [Case(axis, x(v), name(v), change(v)) for v in (own, *others)]

    found = {
        "image": along("image", images, base.image, lambda v: v[0] * v[1] / 1e6,
                       lambda v: f"{v[1]}x{v[0]}", lambda v: replace(base, image=v)),
        "side": along("side", sides, base.side, float, "{} px".format, lambda v: replace(base, side=v)),
        "queries": along("queries", queries, base.queries, float, str, lambda v: replace(base, queries=v)),
        "cameras": along("cameras", cameras, 1, float, "{} batched".format,
                         lambda v: replace(base, images=v)),
        "model": along("model", models, base.model, lambda v: parameters_m(like_default(base, v).config()),
                       str, lambda v: like_default(base, v)),
    }
    total = base.threads or torch.get_num_threads()
    found["cameras"] += [
        Case("cameras", n, f"{n} processes", replace(base, threads=max(1, total // n)), EACH, n)
        for n in sorted(set(cameras) - {1})]
    return {axis: cases for axis, cases in found.items() if len(cases) > 1}


def like_default(base: Load, model: str) -> Load:
    """`base` with another preset, and with queries and upscaling of the checkpoint inside the package.

    Features of a frozen block join the upscaling only where the preset has that block (not in tiny).
    """
    config = read_config(default_checkpoint())[0]
    options = {name: getattr(config, name) for name in UPSCALING}
    if config.detail_layer is not None and config.detail_layer >= EomtExtConfig.preset(model).frozen_layers:
        del options["detail_layer"]
    return replace(base, model=model, queries=config.num_queries, options=options)


def measure(cases: Sequence[Case], rounds: int,
            progress: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """The cases' rows, interleaved: every round runs each once, after one round that does not count.

    Raises RuntimeError where a process fails, for want of memory say.
    """
    with ExitStack() as stack:
        workers = []
        for case in cases:
            progress(f"{case.axis}: {case.name}")
            workers.append([stack.enter_context(Worker(case.load)) for _ in range(case.processes)])
        seen: list[list[tuple[float, list[dict[str, Any]]]]] = [[] for _ in cases]
        for turn in range(rounds + 1):
            for team, samples in zip(workers, seen):
                start = time.perf_counter()
                for worker in team:
                    worker.go()
                answers = [worker.answer() for worker in team]
                wall = 1e3 * (time.perf_counter() - start)
                if turn:
                    samples.append((wall, answers))
        rows = [_row(case, samples, team[0].precision) for case, samples, team in zip(cases, seen, workers)]
    for row in rows:
        row["ratio"] = {k: row[k] / rows[0][k] for k in COLUMNS if row[k] is not None}
    return rows


def _row(case: Case, samples: Sequence[tuple[float, list[dict[str, Any]]]], precision: str) -> dict[str, Any]:
    """Medians over the rounds; ms: wall clock until every image of every process is done.

    parameters_m (1e6) and gflop (1e9 operations of one image) are of the network, counted, not measured.
    """
    images = case.processes * case.load.images
    config = case.load.config()
    window = plan(*case.load.image, case.load.side, config.patch_size).window
    walls = [wall for wall, _ in samples]
    cpu_ms = median(sum(a["cpu_ms"] for a in answers) for _, answers in samples)
    last = samples[-1][1]                                   # peaks only grow
    gpu = [a["gpu_peak_mb"] for a in last if a["gpu_peak_mb"] is not None]
    stages = {name: median(np.mean([a["stages_ms"][name] for a in answers]).item() for _, answers in samples)
              for name in last[0]["stages_ms"]}
    return {"axis": case.axis, "series": case.series, "x": case.x, "name": case.name,
            "load": asdict(case.load), "processes": case.processes, "images": images, "precision": precision,
            "parameters_m": parameters_m(config), "gflop": network_gflop(config, (1, 3, *window)),
            "ms": median(walls), "ms_p95": quantiles(walls)["p95"], "ms_low": min(walls),
            "ms_high": max(walls),
            "ms_per_image": median(walls) / images, "images_per_s": 1e3 * images / median(walls),
            "cpu_ms_per_image": cpu_ms / images, "stages_ms": stages,
            "peak_mb": sum(a["peak_mb"] for a in last),
            "gpu_peak_mb": sum(gpu) if gpu else None}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One axis in Markdown, ratios to its first row in brackets, without columns that are all the same."""
    keys = [k for k in COLUMNS if len({row[k] for row in rows}) > 1]
    lines = [(rows[0]["axis"], *(COLUMNS[k] for k in keys)), ("---",) * (1 + len(keys))]
    lines += [(row["name"], *(f"{row[k]:.0f} ({row['ratio'][k]:.2f})" for k in keys)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=Path("out/scaling"), help="folder for scaling.json")
    add("--model", default="small", choices=PRESETS)
    add("--image", type=_size, default=(720, 1280), metavar="HxW", help="the base's; likewise the next two")
    add("--side", type=int, default=476)
    add("--queries", type=int, default=100)
    add("--images", type=_size, nargs="*", metavar="HxW",
        default=[(360, 640), (720, 1280), (1080, 1920), (1440, 2560)], help="the axis; likewise the next")
    add("--sides", type=int, nargs="*", default=[252, 364, 476, 588])
    add("--query-counts", type=int, nargs="*", default=[25, 50, 100, 200])
    add("--cameras", type=int, nargs="*", default=[1, 2, 4])
    add("--models", nargs="*", default=[], choices=PRESETS, help="also this axis, beside --model")
    add("--rounds", type=int, default=7)
    add("--threads", type=int, help="of the base; processes of an axis share them")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", default="auto", choices=PRECISIONS)
    options = parser.parse_args(argv)
    for name in ("side", "queries", "rounds", "threads", "sides", "query_counts", "cameras"):
        value = getattr(options, name)
        if value is not None and min(value if isinstance(value, list) else [value], default=1) < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: give positive integers")
    return options


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text}: give HEIGHTxWIDTH, like 720x1280")
    return int(height), int(width)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write scaling.json."""
    options = arguments(argv)
    base = Load(options.model, options.image, options.side, options.queries, 1, options.threads,
                options.device, options.precision)
    groups = axes(base, options.images, options.sides, options.query_counts, options.cameras,
                  options.models)
    try:
        rows = {axis: measure(cases, options.rounds) for axis, cases in groups.items()}
    except RuntimeError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    result = {"base": asdict(base), "rounds": options.rounds, "axes": rows,
              "threads": options.threads or torch.get_num_threads(),
              "device_name": device_name(options.device), "torch": torch.__version__,
              "opencv": cv2.__version__, "date": datetime.date.today().isoformat()}
    for of_axis in rows.values():
        print(f"\n{table(of_axis)}")
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "scaling.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
