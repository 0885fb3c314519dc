# SPDX-License-Identifier: MIT
"""Pre- and post-processing on their own: ours, the naive way, and transformers' processor, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...model import EomtExt, EomtExtOutput
from ..network import choose_precision, prepare
from ..postprocess import exact, finish, fuse
from ..preprocess import Normalizer, network_input
from ..raw_pixels import raw_input
from . import timing
from .hf import Peer, make_processor
from .setting import Setting, Skipped

OURS = {
    "preprocess": "ours preprocess",
    "preprocess + patch embed": "ours preprocess + patch embed",
    "postprocess": "ours postprocess",
}


@dataclass
class Stages:
    """Each way through a stage by name. before: restores the logits that a run may have overwritten."""

    runs: dict[str, Callable[[], Any]]
    before: Callable[[], Any]
    skipped: dict[str, str] = field(default_factory=dict)


@torch.inference_mode()
def compare_stages(setting: Setting, model: EomtExt, rounds: int) -> dict[str, Any]:
    """Interleaved times of each way through a stage, ms, and their ratios to ours."""
    stages = build_stages(setting, model)
    runs = {name: _only_time(run) for name, run in stages.runs.items()}
    samples = timing.interleave(runs, rounds, before=stages.before)
    ratios = {}
    for stage, ours in OURS.items():
        for who in ("exact", "naive", "transformers"):
            if (name := f"{who} {stage}") in samples:
                ratios[f"{name} / ours"] = timing.ratio(samples[name].wall, samples[ours].wall, setting.seed)
    return {
        "ms": {name: timing.quantiles(s.wall) for name, s in samples.items()},
        "cpu_ms": {name: timing.quantiles(s.cpu) for name, s in samples.items()},
        "ratios": ratios,
        "memory": {},
        "skipped": stages.skipped,
    }


@torch.inference_mode()
def build_stages(setting: Setting, model: EomtExt) -> Stages:
    """All ways, on the CPU. Ours is in the precision "auto"; post-processing gets the same fp32 logits.

    Use it and call what it returns in inference mode.
    """
    cpu, image, score = torch.device("cpu"), setting.images()[0], model.config.score
    plan = setting.plan(model.config.patch_size)
    precision = choose_precision("auto", cpu)
    output = prepare(model, "fp32", cpu)(
        network_input(image, plan, Normalizer(model.config.pixel_mean, model.config.pixel_std, torch.float32))
    )
    masks = output.mask_logits.clone()
    embed = prepare(model, "fp32", cpu).backbone.patch_embed
    fast_embed = prepare(model, precision, cpu, raw_pixels=True).backbone.patch_embed
    runs: dict[str, Callable[[], Any]] = {
        OURS["preprocess"]: lambda: raw_input(image, plan),
        OURS["preprocess + patch embed"]: lambda: fast_embed(raw_input(image, plan)),
        OURS["postprocess"]: lambda: finish(fuse(output, score).numpy(), plan, score),
        "exact postprocess": lambda: exact(output, plan, score),
    }
    skipped = {}
    try:
        runs |= _theirs(setting, model, image, output, embed)
    except Skipped as reason:
        skipped["transformers' processor"] = str(reason)
    return Stages(runs, lambda: output.mask_logits.copy_(masks), skipped)


def _theirs(
    setting: Setting, model: EomtExt, image: np.ndarray, output: EomtExtOutput, embed: torch.nn.Module
) -> dict[str, Callable[[], Any]]:
    """transformers' ways through the same stages; naive: its class map, a naive anomaly map."""
    processor = make_processor(setting, model)
    offsets = [tuple(map(int, o)) for o in processor(image, return_tensors="pt")["patch_offsets"]]
    naive, careful = (Peer(setting, processor, model, torch.device("cpu"), naive) for naive in (True, False))
    return {
        "transformers preprocess": lambda: processor(image, return_tensors="pt"),
        "transformers preprocess + patch embed": lambda: embed(
            processor(image, return_tensors="pt")["pixel_values"]
        ),
        "naive postprocess": lambda: naive.maps(output, offsets, image.shape[:2]),
        "transformers postprocess": lambda: careful.maps(output, offsets, image.shape[:2]),
    }


def _only_time(run: Callable[[], Any]) -> Callable[[], None]:
    def timed() -> None:
        run()

    return timed
