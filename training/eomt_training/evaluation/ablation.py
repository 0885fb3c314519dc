# SPDX-License-Identifier: MIT
"""Variants of a recipe over seeds: figures of one run, and the table that says whether they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eomt_anomaly.model import patches

from ..baselines import AnomalyPredictor, open_predictor
from ..json_files import read_object

Figures = dict[str, float]
QUALITY = {
    "miou": "mIoU",
    "pasted_auprc": "pasted AuPRC",
    "pasted_fpr95": "FPR95",
    "pasted_f1_star": "F1*",
    "drives_auprc": "drives AuPRC",
    "drives_fpr95": "FPR95",
    "drives_f1_star": "F1*",
    "pasted_auprc_surface": "pasted AuPRC on road",
    "drives_auprc_surface": "drives AuPRC on road",
}  # in %; the last two where they were measured
FILES = ("semantic", "pasted", "drives")


def results_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What evaluate.py left in the folder of a run: semantic.json, pasted.json and drives.json."""
    return {name: read_object(folder / f"{name}.json") for name in FILES}


def measurements(folder: Path, score: str) -> Figures:
    """`quality` of one run, and the `cost` of its network."""
    results = results_of(folder)
    network = open_predictor(folder / "version_0/checkpoint", None)
    return {**quality(results, score), **cost(network, results["semantic"]["short_side"])}


def quality(results: Mapping[str, Any], score: str, condition: str = "clean") -> Figures:
    """Figures of `results_of` a run under one score, on frames as they are or degraded (``condition``).

    Raises ValueError where `score` was not measured.
    """
    seen = {k: v if condition == "clean" else v["degraded"][condition] for k, v in results.items()}
    figures = {"miou": seen["semantic"]["miou"]}
    for name in FILES[1:]:
        scores = seen[name]["scores"]
        if score not in scores:
            raise ValueError(f"{name} has no score {score!r}, only {', '.join(scores)}")
        figures |= {f"{name}_{metric}": scores[score][metric] for metric in ("auprc", "fpr95", "f1_star")}
        if scores[score].get("auprc_surface") is not None:
            figures[f"{name}_auprc_surface"] = scores[score]["auprc_surface"]
    return figures


def scores_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores that every run (see `results_of`) has on both sets of frames."""
    first = runs[0]["pasted"]["scores"]
    return [s for s in first if all(s in run[name]["scores"] for run in runs for name in FILES[1:])]


def conditions_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of degraded copies that every run was measured on."""
    first = runs[0]["semantic"].get("degraded", {})
    return [c for c in first if all(c in run[name].get("degraded", {}) for run in runs for name in FILES)]


@torch.inference_mode()
def cost(network: AnomalyPredictor, short_side: int) -> Figures:
    """GFLOPs (multiply and add are two) of one 4:3 image of `short_side` px, and parameters in millions.

    Both sides are rounded to whole patches, as `fit_short_side` does for the evaluation.
    Attention is run as its two matrix products: torch's counter knows no fused attention of the CPU.
    The network is not trained after this: its parameters need no gradient any more.
    """
    patch = network.config.patch_size
    height, width = (patches(side, patch) * patch for side in (short_side, short_side * 4 / 3))
    # The counter hooks what needs a gradient: inference mode records none.
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.predict_scores(torch.zeros(1, 3, height, width))
    return {
        "gflops": counter.get_total_flops() / 1e9,
        "parameters_m": sum(p.numel() for p in network.parameters()) / 1e6,
    }


def paired(ours: Sequence[float], reference: Sequence[float]) -> tuple[float, float]:
    """Mean of ours - reference over seeds, and half the width of its 95 % interval (Student's t).

    NaN for the half width with fewer than two seeds.
    """
    differences = np.subtract(ours, reference)
    n = len(differences)
    if n < 2:
        return float(differences.mean()), math.nan
    return float(differences.mean()), float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))


def table(found: Mapping[str, Sequence[Figures]]) -> str:
    """Markdown: means over seeds, then for each variant its difference from the first one.

    A difference whose interval does not contain 0 is bold.
    """
    names, keys = list(found), _columns(found.values())
    head = ["variant", *(QUALITY[key] for key in keys), "GFLOPs", "M parameters"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name in names:
        costs = (f"{_mean(found[name], key):.1f}" for key in ("gflops", "parameters_m"))
        lines.append(_row([name, *_means(found[name], keys), *costs]))
    for name in names[1:]:
        cells = []
        for key in keys:
            mean, half = paired([r[key] for r in found[name]], [r[key] for r in found[names[0]]])
            text = f"{mean:+.1f} ± {half:.1f}" if not math.isnan(half) else f"{mean:+.1f}"
            cells.append(f"**{text}**" if abs(mean) > half else text)
        lines.append(_row([f"{name} − {names[0]}", *cells, "", ""]))
    return "\n".join(lines) + "\n"


def means_table(found: Mapping[str, Mapping[str, Sequence[Figures]]], what: str) -> str:
    """Markdown: means over seeds of each variant and, within it, of each score or condition (``what``)."""
    keys = _columns(runs for parts in found.values() for runs in parts.values())
    head = ["variant", what, *(QUALITY[key] for key in keys)]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, parts in found.items():
        lines += [_row([name, part, *_means(runs, keys)]) for part, runs in parts.items()]
    return "\n".join(lines) + "\n"


def _columns(groups: Iterable[Sequence[Figures]]) -> list[str]:
    """Those of `QUALITY` that every run has."""
    runs = [run for group in groups for run in group]
    return [key for key in QUALITY if all(key in run for run in runs)]


def _mean(runs: Sequence[Figures], key: str) -> float:
    return float(np.mean([run[key] for run in runs]))


def _means(runs: Sequence[Figures], keys: Sequence[str]) -> list[str]:
    return [f"{_mean(runs, key):.1f}" for key in keys]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
