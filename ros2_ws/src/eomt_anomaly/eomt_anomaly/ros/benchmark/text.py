# SPDX-License-Identifier: MIT
"""A measurement in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...report.compare import lines as ratio_lines

SHOWN = ("wait", "deserialize", "decode", "inference", "second_look", "alerts", "publish", "outputs",
         "overhead", "service")


def report(summary: Mapping[str, Any]) -> str:
    """Runs, stages of the headline run and of the unloaded one, resources, checks."""
    text = [line(run) for run in summary["runs"]]
    for camera, numbers in summary.get("cameras", {}).items():
        text.append(f"{summary['name']}, camera " + line({"name": camera, **numbers}))
    shown = {run["name"]: run for run in summary["runs"] if run["name"] == "unloaded"} | {
        summary["name"]: summary
    }
    for name, run in shown.items():
        stages = [f"{s} {run['stages_ms'][s]['p50']:.2f}" for s in SHOWN if s in run["stages_ms"]]
        text.append(f"{name}, median ms: {'  '.join(stages) or 'no stage times are known'}")
    if resources := summary["resources"]:
        text.append(
            f"resources: CPU {resources['cpu_percent']} %, {resources['cpu_ms_per_frame']} ms a frame; "
            f"resident {resources['rss_mb']['max']} MB"
            + (f"; GPU {gpu} MB" if (gpu := resources["gpu_memory_mb"]) else "")
        )
    if found := summary.get("search"):
        more = "" if found["converged"] else " (not converged: more --probes)"
        text.append(
            f"highest sustainable rate: {found['sustained_hz']:g} Hz{more}, limited by {found['limited_by']}"
        )
    if found := summary.get("outputs"):
        for kind in ("outputs_ms", "node_latency_ms", "service_ms", "cpu_ms_per_frame"):
            row = found[kind]
            text.append(
                f"{kind:17} alerts alone {row['alone']}, subscribed {row['subscribed']}, ratio {row['ratio']}"
            )
    for check in summary.get("checks", ()):
        word = {True: "met", False: "NOT met", None: "not known"}[check["met"]]
        text.append(f"{word}: {check['name']}: {check['value']} (limit {check['limit']})")
    if found := summary.get("compare"):
        pair = found["paired"]
        text.append(ratio_lines(found, tuple(run["name"] for run in summary["runs"])))
        text.append(
            f"b / a over {pair['frames']} frames of both: median {pair['median_ratio']}, "
            f"95 % {pair['interval']}"
        )
    return "\n".join(text)


def line(summary: Mapping[str, Any]) -> str:
    """A run in one line."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in summary["dropped"].items()) or "none"
    latency = summary["latency_ms"]
    age = f", age p99 {summary['age_ms']['p99']}" if summary.get("age_ms") else ""
    return (
        f"{summary['name']}: {summary['frames_in']} in = {summary['frames_out']} out + "
        f"{sum(summary['dropped'].values())} dropped ({dropped}); latency p50 {latency['p50']} p99 "
        f"{latency['p99']}{age} ms"
        + ("" if summary.get("offered", True) else "; the replay could not keep this rate")
    )
