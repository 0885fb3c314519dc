# SPDX-License-Identifier: MIT
"""One run: build all contestants, hold their maps against the reference, time them in turns, weigh them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model import EomtExt
from ..cuda import CudaPipeline
from ..network import DTYPES, prepare
from ..pipeline import Setup
from ..streams import CudaStreams, Streams
from . import arithmetic, contestants, memory, throughput, timing
from .agreement import agreement
from .contestants import Contestant
from .setting import Setting
from .stages import compare_stages

FORMAT = "eomt_anomaly_engine_benchmark/1"
REFERENCE = "ours exact"
Say = Callable[[str], Any]


def compare(
    setting: Setting,
    wanted: Sequence[str],
    rounds: int,
    *,
    warmup: int = 1,
    weigh: bool = True,
    with_stages: bool = True,
    frames: int = 200,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Every number of the report; see docs/benchmarks.md for the fields.

    Args:
        wanted: names of `contestants.names`; the ratios are to the first, which is ours.
        weigh: peak memory, each contestant in a process of its own.
        with_stages: also `compare_stages`, on the CPU.
        frames: of each figure of the CUDA pipeline.

    Raises:
        ValueError: the setting does not fit the network, or the first of `wanted` cannot take part.
    """
    model = setting.model()
    setting.set_threads()
    images, device = setting.images(), torch.device(setting.device)
    plan = setting.plan(model.config.patch_size)
    with tempfile.TemporaryDirectory(prefix="eomt-bench-") as scratch:
        work = Path(scratch)
        say("the fp32 exact reference")
        exact = contestants.build(REFERENCE, setting, model, work)
        reference = exact.run(images)
        exact.close()
        classes = len(np.unique(np.concatenate([p.class_map.ravel() for p in reference])))
        there, skipped, agreements = [], {}, {}
        for name in wanted:
            say(f"building {name}")
            try:
                contestant = contestants.build(name, setting, model, work)
                agreements[name] = agreement(reference, contestant.run(images))
            except Exception as error:  # whatever a library raises: it is told, and the others go on
                skipped[name] = contestants.reason(error)
                continue
            there.append(contestant)
        if wanted[0] in skipped:
            raise ValueError(f"{wanted[0]} cannot take part, and the ratios are to it: {skipped[wanted[0]]}")
        shape = (len(plan.corners), 3, setting.side, setting.side)
        gflop = len(images) * arithmetic.network_gflop(model.config, shape)
        say("timing: " + ", ".join(c.name for c in there))
        samples = timing.interleave({c.name: _timed(c, images) for c in there}, rounds, warmup, say)
        rates = {
            dtype: arithmetic.gemm_rate(dtype, device)
            for dtype in dict.fromkeys(c.dtype for c in there)
            if dtype in DTYPES
        }
        rows = [
            _row(c, samples, there[0].name, gflop, rates, agreements[c.name], setting.seed) for c in there
        ]
        for contestant in there:
            contestant.close()
        if weigh:
            for row in rows:
                row["memory"] = _weigh(row["name"], setting, work, say)
    result: dict[str, Any] = {
        "format": FORMAT,
        "setting": asdict(setting),
        "rounds": rounds,
        "warmup": warmup,
        "network": _network(model, plan, gflop),
        "torch_threads": torch.get_num_threads(),
        "ours": there[0].name,
        "contestants": rows,
        "reference_classes": classes,
        "skipped": skipped,
        "gemm_gflops": rates,
        "stages": None,
        "pipeline": None,
    }
    if with_stages:
        say("stages on their own")
        stages = result["stages"] = compare_stages(setting, model, rounds)
        for name in [name for name in stages["ms"] if weigh and name.endswith("postprocess")]:
            stages["memory"][name] = _weigh(name, setting, Path(), say)
    if device.type == "cuda":
        say("the CUDA pipeline under load")
        args = setting, model, there[0].dtype, CudaStreams(device), frames, gflop / len(images), rates
        result["pipeline"], why = _under_load(*args)
        skipped.update(why)
    return result


def _under_load(*args: Any) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """`pipeline_figures`, or None and why not: the contestants' figures are not lost for it."""
    try:
        return pipeline_figures(*args), {}
    except Exception as error:
        return None, {"the CUDA pipeline under load": contestants.reason(error)}


def pipeline_figures(
    setting: Setting,
    model: EomtExt,
    precision: str,
    streams: Streams,
    frames: int,
    gflop: float,
    rates: dict[str, float],
) -> dict[str, Any]:
    """`throughput.measure` of our CUDA pipeline, and the floor: `gflop` of an image / GEMM rate."""
    setup = Setup(
        prepare(model, precision, streams.device),
        DTYPES[precision],
        False,
        model.config.score,
        setting.side,
        "windows",
        None,
    )
    pipeline = CudaPipeline(setup, streams)
    try:
        found = throughput.measure(pipeline, setting.images(), frames)
    finally:
        pipeline.close()
    floor = 1e3 * gflop / rates[precision]
    single = found["images_per_s"]["1"]
    return {
        **found,
        "precision": precision,
        "floor_ms": floor,
        "percent_of_floor": {name: floor * single[name] / 10 for name in ("pipelined", "forward_only")},
    }


def _timed(contestant: Contestant, images: Sequence[Any]) -> Callable[[], dict[str, float]]:
    """Stages of all images together, ms."""

    def run() -> dict[str, float]:
        total: dict[str, float] = {}
        for prediction in contestant.run(images):
            for stage, ms in prediction.timings_ms.items():
                total[stage] = total.get(stage, 0.0) + ms
        return total

    return run


def _row(
    contestant: Contestant,
    samples: dict[str, timing.Samples],
    first: str,
    gflop: float,
    rates: dict[str, float],
    agreed: dict[str, float],
    seed: int,
) -> dict[str, Any]:
    mine, ours = samples[contestant.name], samples[first]
    stages = {name: timing.quantiles(values)["p50"] for name, values in mine.stages.items()}
    measured = "forward" if "forward" in stages else "compute"  # a GPU's compute is more than the forward
    rate = rates.get(contestant.dtype)
    percent = 100 * gflop / (stages[measured] / 1e3) / rate if rate and stages.get(measured) else None
    return {
        "name": contestant.name,
        "about": contestant.about,
        "dtype": contestant.dtype,
        "ms": timing.quantiles(mine.wall),
        "cpu_ms": timing.quantiles(mine.cpu),
        "samples_ms": [round(x, 3) for x in mine.wall],
        "stages_ms": stages,
        "ratio": timing.ratio(mine.wall, ours.wall, seed),
        "ratio_cpu": timing.ratio(mine.cpu, ours.cpu, seed),
        "ratio_stages": {
            name: timing.ratio(values, ours.stages[name], seed)
            for name, values in mine.stages.items()
            if name in ours.stages
        },
        "percent_of_gemm": percent,
        "percent_of_gemm_over": measured,
        "agreement": agreed,
        "memory": None,
    }


def _weigh(name: str, setting: Setting, work: Path, say: Say) -> dict[str, Any]:
    say(f"memory of {name}")
    try:
        return memory.peak(name, setting, work)
    except memory.Failed as error:
        return {"failed": str(error)}


def _network(model: EomtExt, plan: Any, gflop: float) -> dict[str, Any]:
    config = model.config
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "hidden_size": config.hidden_size,
        "layers": config.num_layers,
        "patch_size": config.patch_size,
        "queries": config.num_queries,
        "classes": config.num_classes,
        "windows": len(plan.corners),
        "window": list(plan.window),
        "gflop": gflop,
    }
