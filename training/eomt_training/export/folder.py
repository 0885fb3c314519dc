# SPDX-License-Identifier: MIT
"""Writes an exported folder, whole or not at all."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from eomt_anomaly.model import patches
from eomt_anomaly.model.calibration import for_size
from eomt_anomaly.model.checkpoint import CALIBRATION, CONFIG, WEIGHTS, file_sha256
from eomt_anomaly.runtime.backends import SESSIONS
from eomt_anomaly.runtime.checkpoints import EXPORT, default_checkpoint, open_checkpoint
from eomt_anomaly.runtime.exported import FORMAT, GRAPH
from eomt_anomaly.runtime.onnx_graph import OPSET, ExportGraph, write_graph

from ..evaluation.provenance import git_commit
from . import tensorrt
from .parity import TOLERANCE, check

PARITY = "parity.json"


def export_folder(
    checkpoint: Path | None,
    output: Path,
    size: tuple[int, int],
    *,
    backbone: Path | None = None,
    preprocess: bool = False,
    output_size: tuple[int, int] | None = None,
    score: str | None = None,
    checks: Sequence[str] = tuple(SESSIONS),
    tensorrt_batch: int | None = None,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Export a checkpoint folder (None: the one inside the package) to `output`; returns parity.json.

    Args:
        size: height and width of the network's input, px; multiples of the patch size.
        preprocess, output_size: put these steps into the graph; see `ExportGraph`.
        score: of the anomaly map inside the graph; None: the calibration's, else the configuration's.
        checks: backends to compare with torch.
        tensorrt_batch: also build a TensorRT engine for at most so many images.

    Raises:
        ValueError: a size does not fit, `output` holds other things, or a backend differs from torch by more
            than TOLERANCE. ImportError: a backend to compare with, or TensorRT, is not installed. What
            `open_checkpoint` raises. Nothing is written then.
    """
    if tensorrt_batch:
        tensorrt.require()
    opened = open_checkpoint(checkpoint, backbone)
    source = Path(checkpoint) if checkpoint else default_checkpoint()
    _check(size, opened.config.patch_size, output)
    score = score or opened.calibration.get("score", opened.config.score)
    graph = ExportGraph(opened.model, preprocess, output_size, score).eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".exporting-") as scratch:
        folder = Path(scratch, "export")
        folder.mkdir()
        say(f"exporting {opened.model_id} at {size[0]}x{size[1]} px")
        write_graph(graph, size, folder / GRAPH)
        calibrated_at = for_size(opened.calibration, min(size)).get("short_side", min(size))
        if calibrated_at != min(size):
            say(
                f"note: the alert threshold was calibrated at a short side of {calibrated_at} px; "
                f"for this one run training/evaluate.py calibrate --short-side {min(size)} first"
            )
        parity = _parity(graph, folder / GRAPH, size, checks, say)
        for name in (CONFIG, WEIGHTS, CALIBRATION):  # weights: torch runs the folder too
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        _write(folder / PARITY, parity)
        _write(
            folder / EXPORT,
            {
                "format": FORMAT,
                "precision": "fp32",
                "input": {"height": size[0], "width": size[1], "preprocess": preprocess},
                "postprocess": output_size
                and {"height": output_size[0], "width": output_size[1], "score": score},
                "weights_sha256": opened.sha256,
                "files": {name: file_sha256(folder / name) for name in (GRAPH, CONFIG)},
                "opset": OPSET,
                "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
                "commit": git_commit(),
                "date": datetime.date.today().isoformat(),
            },
        )
        if tensorrt_batch:
            say("building the TensorRT engine")
            tensorrt.build(folder / GRAPH, folder / tensorrt.ENGINE, size, preprocess, tensorrt_batch)
        if output.exists():
            shutil.rmtree(output)
        folder.replace(output)
    return parity


def _parity(
    graph: ExportGraph, path: Path, size: tuple[int, int], checks: Sequence[str], say: Callable[[str], object]
) -> dict[str, Any]:
    """The content of parity.json. Raises ValueError for a backend that differs too much."""
    parity: dict[str, Any] = {"reference": f"torch {torch.__version__}, fp32", "tolerance": TOLERANCE}
    for backend in checks:
        parity[backend] = found = check(graph, path, size, backend)
        worst = ", ".join(f"{name} {x['error']:.2g}" for name, x in found["outputs"].items())
        say(f"{backend} {found['version']} against torch: {worst}")
        if not found["passed"]:
            raise ValueError(
                f"{backend} differs from torch by more than {TOLERANCE:g} ({worst}): nothing was "
                "written; check the weights and the versions of requirements/export.txt"
            )
    return parity


def _check(size: tuple[int, int], patch: int, output: Path) -> None:
    for name, side in zip(("height", "width"), size):
        if side < patch or side % patch:
            near = patches(side, patch) * patch
            raise ValueError(f"{name} {side} is not a multiple of the patch size {patch}: give {near}")
    others = output.exists() and not (output / EXPORT).is_file()
    if others and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists and is no export: give another --output")


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
