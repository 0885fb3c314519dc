# SPDX-License-Identifier: MIT
"""The result of a comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines(result: Mapping[str, Any]) -> str:
    """Contestants, those left out, stages, and the CUDA pipeline where there is one."""
    return "\n".join(
        [
            *_head(result),
            *_contestants(result),
            *_skipped(result["skipped"]),
            *_stages(result["stages"]),
            *_pipeline(result["pipeline"], result["setting"]["device"]),
        ]
    )


def _head(result: Mapping[str, Any]) -> list[str]:
    setting, network = result["setting"], result["network"]
    weights = setting["checkpoint"] or f"{setting['preset']} (random weights)"
    height, width = setting["size"]
    rates = ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in result["gemm_gflops"].items())
    return [
        f"{weights} on {setting['device']}, {setting['cameras']} image(s) of {height}x{width} px, "
        f"{network['windows']} window(s) of {setting['side']} px, {result['rounds']} rounds, "
        f"{result['torch_threads']} thread(s)",
        f"{network['gflop']:.1f} GFLOP; matrix products here, GFLOP/s: {rates}; "
        f"{result['reference_classes']} classes in the reference's map",
        "",
    ]


def _contestants(result: Mapping[str, Any]) -> list[str]:
    text = [
        f"{'wall clock, ms':20}{'p50':>9}{'p95':>9}  {'/ ours (95 %)':22}{'CPU p50':>9}{'/ ours':>8}"
        f"{'GEMM %':>8}{'peak MB':>9}{'+MB':>7}  {'class %':>8} {'anomaly max, mean':>18}"
    ]
    for row in result["contestants"]:
        low_high = row["ratio"]["interval"]
        ratio = f"{row['ratio']['median']:.2f}" + (
            f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else ""
        )
        memory, found = row["memory"] or {}, row["agreement"]
        text.append(
            f"{row['name']:20}{row['ms']['p50']:9.1f}{row['ms']['p95']:9.1f}  {ratio:22}"
            f"{row['cpu_ms']['p50']:9.1f}{row['ratio_cpu']['median']:8.2f}"
            f"{_or_dash(row['percent_of_gemm'], 8)}{_or_dash(memory.get('peak_mb'), 9)}"
            f"{_or_dash(memory.get('extra_mb'), 7)}  {found['argmax_percent']:8.2f} "
            f"{found['anomaly_max_abs']:9.2g}{found['anomaly_mean_abs']:9.2g}"
        )
    for row in result["contestants"]:
        ratios = row["ratio_stages"]
        stages = ", ".join(
            f"{name} {ms:.1f}" + (f" ({ratios[name]['median']:.2f}x)" if name in ratios else "")
            for name, ms in row["stages_ms"].items()
        )
        text.append(f"  {row['name']}: {row['about']}; ms (and / ours): {stages}")
        if "failed" in (row["memory"] or {}):
            text.append(f"  {row['name']}: memory not measured: {row['memory']['failed']}")
    return text


def _skipped(skipped: Mapping[str, str]) -> list[str]:
    return [f"not here: {name}: {reason}" for name, reason in skipped.items()]


def _stages(stages: Mapping[str, Any] | None) -> list[str]:
    if stages is None:
        return []
    text = ["", "stages on their own, CPU, wall clock ms p50"]
    for name, ms in stages["ms"].items():
        weighed = stages["memory"].get(name)
        text.append(f"  {name:40}{ms['p50']:10.2f}" + (f"   {_weighed(weighed)}" if weighed else ""))
    text += [f"  {name:48}{ratio['median']:8.2f}x" for name, ratio in stages["ratios"].items()]
    return text + _skipped(stages["skipped"])


def _pipeline(found: Mapping[str, Any] | None, device: str) -> list[str]:
    if found is None:
        return ["", "no GPU took part: no figure here is of a GPU"] if device == "cpu" else []
    latency = found["latency_ms"]
    text = [
        "",
        f"CUDA pipeline, {found['precision']}: one image p50 {latency['p50']:.2f} ms, p99 "
        f"{latency['p99']:.2f} ms, p99 / p50 {latency['p99_over_p50']:.2f}; floor {found['floor_ms']:.2f} ms",
    ]
    for batch, rate in found["images_per_s"].items():
        text.append(
            f"  batch {batch}: {rate['pipelined']:.1f} img/s end to end, {rate['forward_only']:.1f} "
            f"forward only{' as a CUDA graph' * rate['cuda_graph']} ({rate['pipelined_percent']:.1f} %)"
        )
    for name, same in found["same_maps"].items():
        text.append(
            f"  {name}: classes {same['classes_percent']:.3f} %, anomaly {same['anomaly_max_abs']:.2g}"
        )
    return text + _skipped(found["skipped"])


def _weighed(memory: Mapping[str, Any]) -> str:
    return memory.get("failed") or f"+{memory['extra_mb']:.1f} MB while it runs"


def _or_dash(value: float | None, width: int) -> str:
    return f"{'–':>{width}}" if value is None else f"{value:{width}.0f}"
