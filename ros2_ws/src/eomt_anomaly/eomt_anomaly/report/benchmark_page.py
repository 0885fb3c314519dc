# SPDX-License-Identifier: MIT
"""The report of `bag_benchmark` as one HTML file; every number stands beside its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from . import plots
from .charts import histogram
from .layout import document, section, tile
from .sections import REASONS, notes, number, origin, table

STAGES = ("wait", "deserialize", "decode", "inference", "alerts", "publish")
MEANING = {
    "wait": "arrival in the node's callback → the worker takes it (a batch's other frames included)",
    "deserialize": "bytes → message",
    "decode": "message → RGB",
    "inference": "the engine as a whole",
    "second_look": "the engine again, at another scale, where something new appears (of these frames alone)",
    "alerts": "maps → tracks → level",
    "publish": "until the alert's publish returns",
    "outputs": "masks, heatmaps, overlay, …, after the alert; only what is subscribed to",
    "end_to_end": "arrival in the node → return of the alert's publish",
    "overhead": "end_to_end − inference − second_look: what ROS and the alerts add",
    "service": "the worker's time: without wait, with outputs",
    "age": "stamp → everything published",
}
TIMES = {
    "latency_ms": "publishing the picture → its alert arrives here",
    "age_ms": "the picture's stamp → its alert arrives here",
    "node_latency_ms": "the node itself: picture received → alert made",
    "jitter_ms": "|difference of two consecutive latencies|",
    "interval_ms": "between two consecutive alerts",
    "publish_lateness_ms": "how late the replay was in publishing",
}
HERE = {"latency_ms": "the message's bytes → the alert level"}  # of in_process
TITLES = {
    "ros": "through a live node",
    "in_process": "engine and monitor in one process, without transport",
    "search": "highest sustainable rate of a live node",
    "overload": "a live node beyond its rate",
    "outputs": "what a live node's outputs cost",
}


@dataclass
class Course:
    """What a plot needs of one run: (s, latency in ms) of each judged frame, and `Sampler.samples`."""

    name: str
    latencies: list[tuple[float, float]]
    samples: Sequence[tuple[Any, ...]] = field(default_factory=list)


def benchmark_page(summary: Mapping[str, Any], courses: Sequence[Course]) -> str:
    """The page of one summary.json; the last course is the headline run's."""
    runs = summary["runs"]
    parts = [
        f"<h1>Benchmark on {escape(Path(str(summary['bag'])).name)}</h1><p class=soft>"
        f"{escape(TITLES[summary['mode']])}; topic <code>{escape(summary['topic'])}</code>, model "
        f"{escape(str(summary['model_id']))} on {escape(str(summary['device']))} "
        f"({escape(str(summary['precision']))}). "
        f"Headline: {escape(summary['name'])}.</p>",
        f'<div class="tiles">{"".join(_tiles(summary))}</div>',
        section("Checks", _checks(summary["checks"])) if summary.get("checks") else "",
        section("Search", _search(summary["search"])) if summary.get("search") else "",
        section("Outputs: alerts alone against all subscribed", _outputs(summary["outputs"]))
        if summary.get("outputs")
        else "",
        section("Ratios", comparison(summary["compare"])) if summary.get("compare") else "",
        section("By camera", _cameras(summary)) if summary.get("cameras") else "",
        section("Runs", _runs(runs)),
        section("Time by stage", _stages(runs, summary)),
        section("Latency of the headline run", _latency(summary, courses)),
        section("CPU and memory", _resources(summary, courses)),
        section("How this was measured", origin(dict(summary))),
        section("Notes", notes(summary["notes"])) if summary.get("notes") else "",
    ]
    return document("eomt_anomaly benchmark", parts)


def comparison(found: Mapping[str, Any]) -> str:
    """The result of `compare.compare`, and of `compare.paired` where there is one, as HTML."""
    rows = [(r["name"], number(r["a"]), number(r["b"]), number(r["ratio"])) for r in found["rows"]]
    medians = {r["name"]: r["ratio"] for r in found["rows"] if r["ratio"] and r["name"].endswith("p50")}
    text = ""
    if pair := found.get("paired"):
        text += (
            f"<p>Median of b / a over {pair['frames']} frames that both judged: "
            f"<b>{number(pair['median_ratio'])}</b> "
            f"(95 % interval {pair['interval']}).</p>"
        )
    for name, (a, b) in found.get("differs", {}).items():
        both = f"<code>{escape(str(a))}</code> / <code>{escape(str(b))}</code>"
        text += f"<p class=soft>Differs: {escape(name)}: {both}</p>"
    return text + plots.ratios(medians) + table(("", "a", "b", "b / a"), rows)


def _tiles(summary: Mapping[str, Any]) -> list[str]:
    lost = sum(summary["dropped"].values())
    tiles = [
        tile(f"{summary['frames_out']} of {summary['frames_in']}", f"frames judged; {lost} dropped",
             "good" if lost <= 0.01 * summary["frames_in"] else "warn"),
        tile(f"{number(summary['latency_ms']['p50'])} ms",
             f"median latency; 99 %: {number(summary['latency_ms']['p99'])} ms"),
        tile(f"{number(summary['fps']['out'])} fps", "judged"),
    ]  # fmt: skip
    if found := summary.get("search"):
        tiles.insert(0, tile(f"{number(found['sustained_hz'])} Hz",
                             f"sustained with at most {100 * found['max_loss']:g} % loss"))  # fmt: skip
    over = next((r["stages_ms"] for r in summary["runs"] if r["name"] == "unloaded"), summary["stages_ms"])
    if "overhead" in over:
        tiles.append(tile(f"{number(over['overhead']['p50'])} ms", "beyond the engine, median"))
    if resources := summary.get("resources"):
        tiles.append(tile(f"{number(resources['cpu_percent'])} %", "CPU; 100 % is one core"))
        tiles.append(tile(f"{number(resources['rss_mb']['max'])} MB", "resident memory at most"))
    return tiles


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    word = {True: "met", False: "NOT met", None: "not known"}
    return table(
        ("", "value", "limit", ""),
        [(c["name"], number(c["value"]), number(c["limit"]), word[c["met"]]) for c in checks],
    )


def _search(found: Mapping[str, Any]) -> str:
    rows = [
        (f"{p['hz']:g}", "held" if p["held"] else "failed", f"{100 * p['loss']:.2f} %",
         _reasons(p["dropped"]))
        for p in found["probes"]
    ]  # fmt: skip
    limit = (100 * found["max_loss"], f"{100 * found['max_loss']:g} % allowed")
    ends = (
        f"the lowest that failed: {number(found['failed_hz'])} Hz" if found["failed_hz"] else "no rate failed"
    )
    return (
        f"<p>Highest rate that held: <b>{number(found['sustained_hz'])} Hz</b>; {ends}"
        f"{'' if found['converged'] else ' (the probes ended before the two were close)'}. Limited by "
        f"{escape(found['limited_by'])}.</p>"
        + plots.lines(
            {"loss": [(p["hz"], 100 * p["loss"]) for p in found["probes"]]}, "Hz offered", "% lost", limit
        )
        + table(("Hz", "", "lost", "dropped by reason"), rows)
    )


def _outputs(found: Mapping[str, Any]) -> str:
    rows = [
        (kind, *(number(found[kind][key]) for key in ("alone", "subscribed", "ratio")))
        for kind in ("outputs_ms", "node_latency_ms", "service_ms", "cpu_ms_per_frame")
    ]
    return (
        f"<p>{found['rounds']} rounds in turns at {number(found['hz'])} Hz; medians.</p>"
        + table(("", "alerts alone", "every output subscribed", "ratio"), rows)
    )  # fmt: skip


def _cameras(summary: Mapping[str, Any]) -> str:
    """The headline run camera by camera."""
    rows = [
        (name, of["frames_in"], of["frames_out"], _reasons(of["dropped"]), f"{100 * of['loss']:.2f} %",
         *(number(of["latency_ms"][key]) for key in ("p50", "p95", "p99")),
         number((of.get("age_ms") or {}).get("p99")))
        for name, of in summary["cameras"].items()
    ]  # fmt: skip
    head = ("camera", "in", "out", "dropped", "lost", "p50", "p95", "p99", "age p99")
    return table(head, rows) + "<p class=soft>Of the headline run; latencies and age in ms. The other " \
        "sections are of all cameras together.</p>"  # fmt: skip


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (r["name"], r["frames_in"], r["frames_out"], _reasons(r["dropped"]),
         *(number(r["latency_ms"][key]) for key in ("p50", "p95", "p99", "p999")),
         number((r.get("age_ms") or {}).get("p99")), number(r["jitter_ms"]["p50"]))
        for r in runs
    ]  # fmt: skip
    head = ("run", "in", "out", "dropped", "p50", "p95", "p99", "p99.9", "age p99", "jitter p50")
    met = {reason for r in runs for reason in r["dropped"]}
    text = "".join(f"<p class=soft>{escape(m)}: {escape(REASONS.get(m, m))}.</p>" for m in sorted(met))
    paced = sorted((r for r in runs if r.get("wanted_hz")), key=lambda r: r["wanted_hz"])
    curves = {
        key: [(r["wanted_hz"], r["latency_ms"][key]) for r in paced if r["latency_ms"][key] is not None]
        for key in ("p50", "p95", "p99")
    }
    plot = plots.lines(curves, "Hz offered", "ms") if len({r["wanted_hz"] for r in paced}) > 1 else ""
    return table(head, rows) + text + "<p class=soft>Latencies, age and jitter in ms.</p>" + plot


def _stages(runs: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    bars = {
        r["name"]: {s: times["p50"] for s, times in r["stages_ms"].items() if times["p50"] is not None}
        for r in runs
        if r["stages_ms"]
    }
    of = summary["stages_ms"]
    keys = [key for key in ("p50", "p95", "p99", "p999") if all(key in times for times in of.values())]
    rows = [
        (name, *(number(times[key]) for key in keys), MEANING.get(name, "as the engine says"))
        for name, times in of.items()
    ]
    return (
        "<p class=soft>Medians; stages after the alert are left out of the bars.</p>"
        + plots.stacked(bars, STAGES)
        + (
            table((f"ms, {summary['name']}", *(k.replace("p999", "p99.9") for k in keys), "meaning"), rows)
            if rows
            else "<p>No stage times are known.</p>"
        )
    )


def _latency(summary: Mapping[str, Any], courses: Sequence[Course]) -> str:
    keys = ("p50", "p95", "p99", "p999", "max")
    rows = [
        (text, *(number(summary[name][key]) for key in keys), summary[name]["count"])
        for name, text in (TIMES | (HERE if summary["mode"] == "in_process" else {})).items()
        if summary.get(name)
    ]
    points = courses[-1].latencies if courses else []
    marks = {name: summary["latency_ms"][name] for name in ("p50", "p95", "p99")}
    return (
        table(("ms", "p50", "p95", "p99", "p99.9", "max", "frames"), rows)
        + histogram((ms for _, ms in points), marks)
        + plots.lines({course.name: course.latencies for course in courses[-2:]}, "s", "ms")
        + "<p class=soft>Percentiles are values that occurred. With fewer than 1000 frames, p99.9 is the "
        "maximum.</p>"
    )


def _resources(summary: Mapping[str, Any], courses: Sequence[Course]) -> str:
    found = summary.get("resources")
    if not found:
        return "<p>Not known: not this tool's own process, shared by two, or too short a run.</p>"
    rows = [(name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
            for name, value in found.items() if value is not None]  # fmt: skip
    samples = courses[-1].samples
    memory = {"resident": [(s[0], s[2]) for s in samples]}
    if any(s[5] is not None for s in samples):
        memory["GPU"] = [(s[0], s[5]) for s in samples if s[5] is not None]
    cpu = [
        (late[0], 100 * (late[1] - early[1]) / (late[0] - early[0]))
        for early, late in zip(samples[::5], samples[5::5])
    ]
    return (
        table(("", "headline run"), rows)
        + plots.lines(memory, "s", "MB")
        + plots.lines({"CPU": cpu}, "s", "% of one core")
    )
