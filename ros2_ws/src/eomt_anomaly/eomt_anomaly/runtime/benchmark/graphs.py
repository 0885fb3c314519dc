# SPDX-License-Identifier: MIT
"""The same weights as an ONNX graph, for the engine's other backends and for the peers that run graphs."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path

import torch

from ...model import EomtExt
from ..backends import SESSIONS, Graph, GraphPipeline, open_session
from ..exported import GRAPH, Exported
from ..network import cpu_has_bf16
from ..pipeline import Setup
from .setting import Setting, Skipped

BACKENDS = tuple(SESSIONS)


def require(*packages: str) -> None:
    """Raise Skipped with pip's command for the packages that are not installed."""
    missing = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise Skipped(
            f"not installed: {', '.join(missing)}; run `python3 -m pip install {' '.join(missing)}` "
            "(versions: requirements/export.txt)"
        )


def write(setting: Setting, model: EomtExt, work: Path) -> Path:
    """The fp32 network, float32 [B,3,side,side] -> logits, as training/export.py writes it; once a folder."""
    path = work / GRAPH
    if path.is_file():
        return path
    require("onnx", "onnxscript")
    from ..onnx_graph import ExportGraph, write_graph

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of packages that are not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_graph(
                ExportGraph(model, False, None, model.config.score), (setting.side, setting.side), path
            )
    except ValueError as error:
        raise Skipped(str(error)) from error
    finally:
        logger.setLevel(level)
    return path


def pipeline(
    setting: Setting, model: EomtExt, work: Path, backend: str, precision: str = "fp32"
) -> GraphPipeline:
    """What `Engine(folder, precision=..., backend=...)` runs, on this graph."""
    if setting.device != "cpu":
        raise Skipped(f"backend {backend} runs on the CPU only")
    if precision == "bf16" and not cpu_has_bf16():
        raise Skipped("this processor multiplies no bfloat16: it has neither AMX nor AVX512-BF16")
    require(backend)
    graph = write(setting, model, work)
    size = (setting.side, setting.side)
    exported = Exported(model.config, "", "benchmark", graph, size, False, None, None)
    network = Graph(exported, open_session(backend, graph, setting.threads, precision))
    return GraphPipeline(
        Setup(network, torch.float32, False, model.config.score, setting.side, "windows", None, size),
        setting.threads,
    )
