# SPDX-License-Identifier: MIT
"""Exported graphs on the CPU: what runs them, and the pipeline around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..model import EomtExtConfig, EomtExtOutput
from .cpu import CpuPipeline
from .errors import InvalidImage, NonFiniteOutput
from .exported import Exported
from .pipeline import Setup
from .preprocess import Plan, cut

Session = Callable[[np.ndarray], list[np.ndarray]]   # the graph's input -> its outputs, in their order


def onnxruntime_session(graph: Path, threads: int | None, precision: str) -> Session:
    """The graph in ONNX Runtime's CPU provider, as it is: in fp32. threads: None leaves its choice."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})


def openvino_session(graph: Path, threads: int | None, precision: str) -> Session:
    """The graph on OpenVINO's CPU device, in fp32 unless `precision` is bf16: told, never its own choice."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
    return lambda array: list(compiled(array).to_tuple())


SESSIONS = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}
BACKENDS = ("torch", *SESSIONS)


def open_session(backend: str, graph: Path, threads: int | None = None, precision: str = "fp32") -> Session:
    """Load a graph. Raises ImportError with pip's command where the backend is not installed."""
    try:
        return SESSIONS[backend](graph, threads, precision)
    except ImportError as error:
        raise ImportError(f"backend {backend!r} needs the package {backend} ({error}): "
                          f"run `python3 -m pip install {backend}`") from error


class Graph:
    """An exported graph where pipelines expect the network."""

    def __init__(self, exported: Exported, session: Session):
        self.exported, self.session = exported, session

    @property
    def config(self) -> EomtExtConfig:
        return self.exported.config

    def __call__(self, pixels: Any) -> Any:
        """The graph's input -> logits, or its class map, anomaly and finite arrays; see `Exported`."""
        outputs = self.session(np.asarray(pixels))
        if self.exported.output_size:
            return outputs
        masks, classes, anomalies = map(torch.from_numpy, outputs)
        return EomtExtOutput(masks, classes, anomalies)


class GraphPipeline(CpuPipeline):
    """`CpuPipeline` without the steps that the graph takes itself."""

    def __init__(self, setup: Setup, threads: int | None = None):
        self._exported: Exported = setup.network.exported
        super().__init__(setup, threads)

    def _warm_up(self) -> None:
        if not self._exported.output_size:
            super()._warm_up()

    def _input(self, image: np.ndarray, plan: Plan) -> Any:
        if self._exported.output_size and len(plan.corners) > 1:
            (height, width), (h, w) = self._exported.size, plan.image
            raise InvalidImage(f"image is {h}x{w} px, but the exported graph makes its maps of one input of "
                               f"{height}x{width} px: export with --height and --width of the image's "
                               "aspect, or without --postprocess")
        return cut(image, plan) if self._exported.preprocess else super()._input(image, plan)

    def _forward(self, pixels: Any) -> Any:
        if not self._exported.output_size:
            return super()._forward(pixels)
        class_map, anomaly, finite = self.setup.forward(pixels)
        if not finite.all():
            raise NonFiniteOutput
        return class_map[0], anomaly[0]

    def _maps(self, output: Any, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        if not self._exported.output_size:
            return super()._maps(output, plan)
        size = plan.image[::-1]
        return (cv2.resize(output[0], size, interpolation=cv2.INTER_NEAREST_EXACT),
                cv2.resize(output[1], size, interpolation=cv2.INTER_LINEAR))
