# SPDX-License-Identifier: MIT
"""Two summaries of `bag_benchmark` side by side, as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from . import plots
from .benchmark_page import HERE, STAGES, TIMES, comparison
from .compare import KEYS
from .layout import document, section
from .sections import origin

PERCENT = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def compare_page(
    found: Mapping[str, Any], summaries: tuple[Mapping[str, Any], Mapping[str, Any]], files: tuple[str, str]
) -> str:
    """The page of `compare.compare(*summaries)`; `files` are the two summaries' paths."""
    both = dict(zip(("a", "b"), summaries))
    names = "".join(f"<p><b>{key}</b>: <code>{escape(file)}</code></p>" for key, file in zip(both, files))
    parts = [f"<h1>Two benchmarks</h1>{names}", section("Ratios", comparison(found))]
    for time in ("latency_ms", "age_ms"):
        curves = {
            key: [(PERCENT[p], one[time][p]) for p in KEYS if (one.get(time) or {}).get(p) is not None]
            for key, one in both.items()
        }
        if all(curves.values()):
            meaning = (HERE if both["a"]["mode"] == "in_process" else {}).get(time, TIMES[time])
            parts.append(section(meaning, plots.lines(curves, "% of the frames are faster", "ms")))
    stages = {
        key: {name: (one["stages_ms"].get(name) or {}).get("p50") or 0.0 for name in STAGES}
        for key, one in both.items()
        if one.get("stages_ms")
    }
    if len(stages) == len(both):
        parts.append(section("Median time by stage", plots.stacked(stages, STAGES)))
    parts += [section(f"How {key} was measured", origin(dict(one))) for key, one in both.items()]
    return document("Two benchmarks", parts)
