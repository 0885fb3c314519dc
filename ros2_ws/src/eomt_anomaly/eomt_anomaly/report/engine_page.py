# SPDX-License-Identifier: MIT
"""The engine beside its peers as one HTML file, from what `runtime.benchmark` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from . import plots
from .layout import document, section, tile
from .sections import notes, number, table

STAGES = ("preprocess", "forward", "postprocess", "upload", "compute", "download")
NO_GPU = "No GPU took part: no figure on this page is of a GPU. `make bench-gpu` measures one where it is."
CPU_TIMES = (
    "Times of a CPU say something about this machine at that moment only; what counts is the ratio of "
    "contestants that took turns in one run."
)
RANDOM = (
    "The weights are random: speed is that of trained ones, agreement is not. What the approximations cost "
    "on trained weights and labelled data is measured elsewhere."
)


def engine_page(result: Mapping[str, Any]) -> str:
    """The page of one bench.json."""
    setting, rows = result["setting"], result["contestants"]
    weights = setting["checkpoint"] or f"{setting['preset']}, random weights"
    height, width = setting["size"]
    parts = [
        f"<h1>The engine beside its peers</h1><p class=soft>{escape(weights)}, on "
        f"{escape(setting['device'])}; {setting['cameras']} image(s) of {height}×{width} px in, class map "
        f"and anomaly map of the same size out; "
        f"{result['network']['windows']} window(s) of {setting['side']} px; {result['rounds']} rounds. "
        f"Every ratio is to <b>{escape(result['ours'])}</b>.</p>",
        f'<div class="tiles">{"".join(_tiles(result))}</div>',
        section("Notes", notes(_notes(result))),
        section("Time", _times(result)),
        section("Where the time goes", _stages_of(rows)),
        section("Peak memory", _memory(rows)),
        section("Arithmetic", _arithmetic(result)),
        section("Agreement with the fp32 exact reference", _agreement(rows, result["reference_classes"])),
        section("Quality on labelled frames", _labelled(result["labelled"])) if "labelled" in result else "",
        section("Pre- and post-processing on their own", _stages(result["stages"]))
        if result["stages"]
        else "",
        section("The CUDA pipeline under load", _pipeline(result["pipeline"])) if result["pipeline"] else "",
        section("Not here, and why", _skipped(result["skipped"])),
        section("How this was measured", _origin(result)),
    ]
    return document("eomt_anomaly: the engine beside its peers", parts)


def _tiles(result: Mapping[str, Any]) -> list[str]:
    tiles = [tile(f"{row['ratio']['median']:.2f}×", f"{row['name']} / {result['ours']}")
             for row in result["contestants"] if row["name"] != result["ours"]]  # fmt: skip
    if found := result["pipeline"]:
        rate = found["images_per_s"]["1"]
        tiles.insert(0, tile(f"{number(rate['pipelined'])} img/s", "end to end, batch 1"))
    return tiles


def _notes(result: Mapping[str, Any]) -> list[str]:
    said = []
    if result["setting"]["device"] == "cpu":
        said += [NO_GPU, CPU_TIMES]
    if not result["setting"]["checkpoint"]:
        said.append(RANDOM)
    return said


def _times(result: Mapping[str, Any]) -> str:
    rows = result["contestants"]
    cells = [
        (row["name"], *(number(row["ms"][key]) for key in ("p50", "p95", "min", "max")),
         number(row["cpu_ms"]["p50"]), f"{row['ratio']['median']:.2f}", _interval(row["ratio"]["interval"]),
         f"{row['ratio_cpu']['median']:.2f}", row["about"])
        for row in rows
    ]  # fmt: skip
    head = ("ms", "p50", "p95", "min", "max", "CPU p50", "ratio", "95 %", "ratio of CPU", "what it is")
    others = {row["name"]: row["ratio"]["median"] for row in rows if row["name"] != result["ours"]}
    course = {row["name"]: list(enumerate(row["samples_ms"], 1)) for row in rows}
    return (
        (plots.ratios(others) if others else "")
        + table(head, cells)
        + "<p class=soft>Ratio: the median of the rounds' ratios to ours, with a bootstrap interval over the "
        "rounds; "
        "above 1, ours is faster. CPU: of all threads.</p>" + plots.lines(course, "round", "ms")
    )


def _stages_of(rows: Sequence[Mapping[str, Any]]) -> str:
    there = [stage for stage in STAGES if any(stage in row["stages_ms"] for row in rows)]
    times = [(row["name"], *(number(row["stages_ms"].get(s)) for s in there)) for row in rows]
    ratios = [(row["name"], *(_ratio(row["ratio_stages"].get(s)) for s in there)) for row in rows]
    return (
        plots.stacked({row["name"]: row["stages_ms"] for row in rows}, there)
        + table(("ms, p50", *there), times)
        + table(("ratio to ours", *there), ratios)
    )


def _memory(rows: Sequence[Mapping[str, Any]]) -> str:
    weighed = {row["name"]: row["memory"] for row in rows if row["memory"]}
    if not weighed:
        return "<p>Not measured (--no-memory).</p>"
    found = {name: m for name, m in weighed.items() if "failed" not in m}
    bars = {name: {"before the first image": m["built_mb"], "more while images run": m["extra_mb"]}
            for name, m in found.items()}  # fmt: skip
    gpu = any("gpu_peak_mb" in m for m in found.values())
    head = ("MB", "before the first image", "peak", "more", *(("GPU before", "GPU peak") if gpu else ()))
    keys = ("built_mb", "peak_mb", "extra_mb", *(("gpu_built_mb", "gpu_peak_mb") if gpu else ()))
    failed = {name: m["failed"] for name, m in weighed.items() if "failed" in m}
    return (
        plots.stacked(bars, ("before the first image", "more while images run"), "MB")
        + table(head, [(name, *(number(m.get(key)) for key in keys)) for name, m in found.items()])
        + "<p class=soft>Resident memory (on a GPU also torch's allocator) of a process of its own; 1 MB is "
        "a million bytes. What a process holds before the first image includes its libraries.</p>"
        + (_skipped(failed) if failed else "")
    )


def _arithmetic(result: Mapping[str, Any]) -> str:
    rates = [(dtype, number(rate)) for dtype, rate in result["gemm_gflops"].items()]
    shares = [(row["name"], row["dtype"], row["percent_of_gemm_over"], number(row["percent_of_gemm"]))
              for row in result["contestants"]]  # fmt: skip
    return (
        f"<p>One forward pass: <b>{number(result['network']['gflop'])} GFLOP</b> (a multiply-add is two).</p>"
        + table(("matrix products here", "GFLOP/s"), rates)
        + table(("", "in", "over the stage", "% of the measured matrix product rate"), shares)
    )


def _agreement(rows: Sequence[Mapping[str, Any]], classes: int) -> str:
    cells = [
        (row["name"], f"{row['agreement']['argmax_percent']:.3f}",
         *(f"{row['agreement'][key]:.2g}" for key in ("anomaly_max_abs", "anomaly_mean_abs")))
        for row in rows
    ]  # fmt: skip
    return table(("", "same class, %", "anomaly: largest difference", "mean difference"), cells) + (
        f"<p class=soft>The reference's class map has {classes} classes.</p>"
    )


def _labelled(found: Mapping[str, Any]) -> str:
    """What training/bench_labelled.py adds."""
    metrics = {"miou": "mIoU %", "auprc": "AuPRC %", "fpr95": "FPR95 %"}
    cells = [
        (name, *(f"{row[m]:.2f} ({row['difference'][m]:+.2f})" for m in metrics), f"{row['agreement']:.2f}",
         f"{row['anomaly_max']:.2g}", f"{row['anomaly_mean']:.2g}")
        for name, row in found["contestants"].items()
    ]  # fmt: skip
    head = ("", *metrics.values(), "same class, %", "anomaly: largest difference", "mean difference")
    frames = f"{found['frames']} frames of {found['data']} {found['split']}"
    return (
        table(head, cells)
        + f"<p class=soft>{escape(frames)}{', unseen objects pasted' * found['pasted']}; in brackets the "
        f"difference to {escape(found['reference'])}, in points.</p>"
        + (_skipped(found["skipped"]) if found["skipped"] else "")
    )


def _stages(stages: Mapping[str, Any]) -> str:
    weighed = {name: found.get("extra_mb") for name, found in stages["memory"].items()}
    cells = [(name, *(number(ms[key]) for key in ("p50", "p95")), number(stages["cpu_ms"][name]["p50"]),
              number(weighed.get(name))) for name, ms in stages["ms"].items()]  # fmt: skip
    failed = {name: found["failed"] for name, found in stages["memory"].items() if "failed" in found}
    ratios = {name: found["median"] for name, found in stages["ratios"].items()}
    spans = [(name, number(found["median"]), _interval(found["interval"]))
             for name, found in stages["ratios"].items()]  # fmt: skip
    return (
        table(("CPU, ms", "p50", "p95", "CPU p50", "MB while it runs"), cells)
        + plots.ratios(ratios)
        + table(("", "ratio", "95 %"), spans)
        + (_skipped(stages["skipped"] | failed) if stages["skipped"] or failed else "")
    )


def _pipeline(found: Mapping[str, Any]) -> str:
    latency = found["latency_ms"]
    rates = [(batch, *(number(rate[key]) for key in ("pipelined", "forward_only", "pipelined_percent")),
              "a CUDA graph" if rate["cuda_graph"] else "eager")
             for batch, rate in found["images_per_s"].items()]  # fmt: skip
    same = [(name, f"{one['classes_percent']:.3f}", f"{one['anomaly_max_abs']:.2g}")
            for name, one in found["same_maps"].items()]  # fmt: skip
    return (
        f"<p>{escape(found['precision'])}. One image at a time: p50 {number(latency['p50'])} ms, p99 "
        f"{number(latency['p99'])} ms, p99 / p50 <b>{latency['p99_over_p50']:.2f}</b>, "
        f"{found['frames']} frames. "
        f"Floor (arithmetic / matrix product rate): {number(found['floor_ms'])} ms an image; end to end "
        f"reaches "
        f"{number(found['percent_of_floor']['pipelined'])} % of it, the network alone "
        f"{number(found['percent_of_floor']['forward_only'])} %.</p>"
        + table(("batch", "img/s end to end", "img/s forward only", "%", "forward only runs as"), rates)
        + table(("against one image at a time", "same class, %", "anomaly: largest difference"), same)
        + (_skipped(found["skipped"]) if found["skipped"] else "")
    )


def _skipped(skipped: Mapping[str, str]) -> str:
    return (
        table(("", "reason"), list(skipped.items()))
        if skipped
        else "<p>Everyone that was asked took part.</p>"
    )


def _origin(result: Mapping[str, Any]) -> str:
    rows = [(key, str(result[key])) for key in ("command", "started", "torch_threads", "warmup")]
    for group in ("host", "versions", "setting", "network"):
        rows += [
            (f"{group}: {name}", str(value)) for name, value in result[group].items() if value is not None
        ]
    body = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>" for name, value in rows
    )
    return f"<table>{body}</table>"


def _ratio(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else f"{found['median']:.2f}"


def _interval(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
