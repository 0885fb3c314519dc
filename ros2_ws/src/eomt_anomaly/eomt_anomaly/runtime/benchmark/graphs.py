# SPDX-License-Identifier: MIT
"""The same weights as an ONNX graph, for the engine's other backends and for the peers that run graphs."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ...model import EomtExt
from ..backends import SESSIONS, Graph, GraphPipeline, open_session
from ..exported import Exported
from ..network import prepare
from ..pipeline import Setup
from .setting import Setting, Skipped

BACKENDS = tuple(SESSIONS)
LIMIT = 2**31   # bytes of one ONNX file
OPSET = 18


class _Logits(nn.Module):
    """Mask, class and anomaly logits as a tuple, which is what a graph can give."""

    def __init__(self, model: EomtExt):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.model(pixels)
        return out.mask_logits, out.class_logits, out.anomaly_logits


def require(*packages: str) -> None:
    """Raise Skipped with pip's command for the packages that are not installed."""
    missing = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)}; run `python3 -m pip install {' '.join(missing)}`")


def write(setting: Setting, model: EomtExt, work: Path) -> Path:
    """The graph of the fp32 network (LayerScale folded), float32 [B,3,side,side] -> logits; once a folder.

    Written beside training/export.py because this package must not need the training tools.
    """
    path = work / "model.onnx"
    if path.is_file():
        return path
    require("onnxscript")
    if sum(p.numel() * p.element_size() for p in model.parameters()) >= LIMIT:
        raise Skipped("the weights exceed the 2 GiB of one ONNX file")
    network, cells = prepare(model, "fp32", torch.device("cpu")), setting.side // model.config.patch_size
    positions = network.backbone.positions((cells, cells)).clone()
    network.backbone.positions = lambda grid: positions  # type: ignore[method-assign]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)   # it warns of packages that are not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Logits(network).eval(), (torch.zeros(2, 3, setting.side, setting.side),), dynamo=True,
                input_names=["image"], output_names=["mask_logits", "class_logits", "anomaly_logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=OPSET, verbose=False)
    finally:
        logger.setLevel(level)
    assert program is not None
    program.save(str(path))
    return path


def pipeline(setting: Setting, model: EomtExt, work: Path, backend: str) -> GraphPipeline:
    """What `Engine(folder, backend=...)` runs, on this graph."""
    if setting.device != "cpu":
        raise Skipped(f"backend {backend} runs on the CPU only")
    require(backend)
    graph = write(setting, model, work)
    size = (setting.side, setting.side)
    exported = Exported(model.config, "", "benchmark", graph, size, False, None, None)
    network = Graph(exported, open_session(backend, graph, setting.threads))
    return GraphPipeline(Setup(network, torch.float32, False, model.config.score, setting.side, "windows", None,
                               size), setting.threads)
