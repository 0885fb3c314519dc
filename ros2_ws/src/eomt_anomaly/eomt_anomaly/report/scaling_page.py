# SPDX-License-Identifier: MIT
"""`python -m eomt_anomaly.report.scaling_page SCALING.JSON`: the page of what `runtime.scaling` measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import plots
from .layout import document, section
from .sections import number, table

TITLES = {
    "image": ("Size of the camera's image", "megapixels"),
    "side": ("Short side of the network's input", "px"),
    "queries": ("Queries", "queries"),
    "cameras": ("Cameras", "cameras"),
    "model": ("Model, with queries and upscaling of the default checkpoint", "million parameters"),
}
COLUMNS = {
    "parameters_m": "M parameters",
    "gflop": "GFLOP an image",
    "ms": "ms, all images",
    "ms_p95": "p95 ms, all images",
    "ms_per_image": "ms an image",
    "cpu_ms_per_image": "CPU ms an image",
    "peak_mb": "peak MB",
    "gpu_peak_mb": "GPU peak MB",
}


def scaling_page(result: Mapping[str, Any]) -> str:
    """The page of one scaling.json."""
    base = result["base"]
    height, width = base["image"]
    about = (
        f"Base: {base['model']} with random weights, image {width}x{height}, short side {base['side']} px, "
        f"{base['queries']} queries, one camera, {result['threads']} threads. {result['device_name']}, "
        f"torch {result['torch']}, {result['date']}; medians of {result['rounds']} interleaved rounds."
    )
    notes = (
        "Ratios in brackets are to the first row of the same table, the base, measured in turns with the "
        "others; columns that are the same in every row are left out. Wall clock: from the word to go until "
        "every image of every process is done. Peak memory is each process's largest resident size; of "
        "several processes it is the sum, which counts the shared libraries once for each. Parameters and "
        "operations are counted, not measured."
    )
    parts = [f"<h1>eomt_anomaly scaling</h1><p class=soft>{escape(about)}</p><p class=soft>{notes}</p>"]
    parts += [section(TITLES[axis][0], _axis(rows, TITLES[axis][1])) for axis, rows in result["axes"].items()]
    return document("eomt_anomaly scaling", parts)


def _axis(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    def lines(key: str) -> dict[str, list[tuple[float, float]]]:
        series: dict[str, list[tuple[float, float]]] = {row["series"]: [] for row in rows}
        for row in rows:
            series[row["series"]].append((row["x"], row[key]))
        return series

    stages = {row["name"]: {s: ms for s, ms in row["stages_ms"].items() if s != "total"} for row in rows}
    parts = list(dict.fromkeys(stage for of_row in stages.values() for stage in of_row))
    differing = [key for key in COLUMNS if len({row[key] for row in rows}) > 1]
    cells = [
        (row["name"], *(f"{number(row[key])} ({row['ratio'][key]:.2f})" for key in differing)) for row in rows
    ]
    memory = "gpu_peak_mb" if "gpu_peak_mb" in differing else "peak_mb"
    return (
        plots.lines(lines("ms"), unit, "ms")
        + plots.lines(lines(memory), unit, COLUMNS[memory])
        + table(("", *(COLUMNS[key] for key in differing)), cells)
        + "<p class=soft>Stages of one image, as the engine says:</p>"
        + plots.stacked(stages, parts)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write scaling.html beside the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="scaling.json of eomt_anomaly.runtime.scaling")
    path = parser.parse_args(argv).result
    try:
        page = scaling_page(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        print(f"scaling_page: {path} is no result of runtime.scaling: {error!r}", file=sys.stderr)
        return 1
    path.with_suffix(".html").write_text(page, encoding="utf-8")
    print(f"written: {path.with_suffix('.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
