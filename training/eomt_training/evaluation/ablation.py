# SPDX-License-Identifier: MIT
"""Variants of a recipe over seeds: figures of one run, and the table that says whether they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..baselines import open_predictor

Figures = dict[str, float]
QUALITY = {
    "miou": "mIoU",
    "pasted_auprc": "pasted AuPRC",
    "pasted_fpr95": "FPR95",
    "pasted_f1_star": "F1*",
    "drives_auprc": "drives AuPRC",
    "drives_fpr95": "FPR95",
    "drives_f1_star": "F1*",
}  # in %


def measurements(folder: Path, score: str) -> Figures:
    """Figures of one run, whose folder holds semantic.json, pasted.json and drives.json of evaluate.py.

    Raises ValueError where `score` was not measured.
    """
    semantic, pasted, drives = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("semantic", "pasted", "drives")
    )
    figures = {"miou": semantic["miou"]}
    for name, result in (("pasted", pasted), ("drives", drives)):
        if score not in result["scores"]:
            raise ValueError(f"{folder} has no score {score!r}, only {', '.join(result['scores'])}")
        for metric in ("auprc", "fpr95", "f1_star"):
            figures[f"{name}_{metric}"] = result["scores"][score][metric]
    network = open_predictor(folder / "version_0/checkpoint", None)
    return {**figures, **cost(network, semantic["short_side"])}


@torch.inference_mode()
def cost(network: nn.Module, short_side: int) -> Figures:
    """GFLOPs (multiply and add are two) of one 4:3 image of `short_side` px, and parameters in millions.

    Attention is run as its two matrix products: torch's counter knows no fused attention of the CPU.
    The network is not trained after this: its parameters need no gradient any more.
    """
    patch = network.config.patch_size
    width = round(short_side * 4 / 3 / patch) * patch
    network.requires_grad_(False)  # the counter hooks what needs a gradient: inference mode records none
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.predict_scores(torch.zeros(1, 3, short_side, width))
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
    names = list(found)
    head = ["variant", *QUALITY.values(), "GFLOPs", "M parameters"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name in names:
        mean = {key: float(np.mean([run[key] for run in found[name]])) for key in found[name][0]}
        lines.append(
            _row(
                [name, *(f"{mean[key]:.1f}" for key in QUALITY)]
                + [f"{mean['gflops']:.1f}", f"{mean['parameters_m']:.1f}"]
            )
        )
    for name in names[1:]:
        cells = []
        for key in QUALITY:
            mean, half = paired([r[key] for r in found[name]], [r[key] for r in found[names[0]]])
            text = f"{mean:+.1f} ± {half:.1f}" if not math.isnan(half) else f"{mean:+.1f}"
            cells.append(f"**{text}**" if abs(mean) > half else text)
        lines.append(_row([f"{name} − {names[0]}", *cells, "", ""]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
