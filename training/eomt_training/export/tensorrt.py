# SPDX-License-Identifier: MIT
"""Builds a TensorRT engine of an exported graph, where TensorRT is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENGINE = "model.engine"


def require() -> Any:
    """The module `tensorrt`. Raises ImportError with the remedy where it is not installed."""
    try:
        import tensorrt
    except ImportError as error:
        raise ImportError(
            "a TensorRT engine is built where it will run, with an NVIDIA GPU and the package tensorrt: "
            "run `python3 -m pip install tensorrt`, or export without --tensorrt"
        ) from error
    return tensorrt


def build(graph: Path, engine: Path, size: tuple[int, int], preprocess: bool, max_batch: int) -> None:
    """Write the engine of `graph` for batches of 1 to `max_batch` inputs of `size` (height, width).

    It fits only this machine's GPU and version of TensorRT. Raises RuntimeError with TensorRT's own words.
    """
    trt = require()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeError(f"TensorRT {trt.__version__} cannot read {graph.name}: {errors}")
    profile, name = builder.create_optimization_profile(), network.get_input(0).name
    shapes = [(b, *size, 3) if preprocess else (b, 3, *size) for b in (1, 1, max_batch)]  # least, best, most
    profile.set_shape(name, *shapes)
    settings = builder.create_builder_config()
    settings.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, settings)
    if serialized is None:
        raise RuntimeError(
            f"TensorRT {trt.__version__} built no engine of {graph.name}: see its messages above"
        )
    engine.write_bytes(serialized)
