# SPDX-License-Identifier: MIT
"""Whether an exported graph says what torch says in fp32."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from eomt_anomaly.runtime.backends import open_session
from eomt_anomaly.runtime.onnx_graph import ExportGraph
from eomt_anomaly.runtime.preprocess import Normalizer

TOLERANCE = 1e-3
BATCHES = (1, 3)


def pictures(batch: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    """uint8 [B,h,w,3]: smooth colours with noise, seeded."""
    random = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(batch, 3, 6, 8, generator=random), size, mode="bicubic")
    noise = 0.05 * torch.randn(batch, 3, *size, generator=random)
    return ((smooth + noise).clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous()


def check(
    graph: ExportGraph, path: Path, size: tuple[int, int], backend: str, threads: int | None = None
) -> dict[str, Any]:
    """Run the file at `path` beside `graph` in torch, at batches of 1 and 3.

    Each output's `error`: of floats max |a - b| / max(1, |a|), absolute below 1 and relative above; of class
    maps and flags the share of differing elements. `max_abs`: max |a - b| of floats. `passed`: every error is
    at most TOLERANCE (NaN is not).
    """
    session = open_session(backend, path, threads)
    config = graph.model.config
    normalize = Normalizer(config.pixel_mean, config.pixel_std, torch.float32)
    outputs: dict[str, dict[str, float]] = {name: {} for name in graph.output_names}
    for batch in BATCHES:
        image = pictures(batch, size, seed=batch)
        fed = image if graph.normalize else normalize(image.permute(0, 3, 1, 2))
        with torch.inference_mode():
            expected = [x.numpy() for x in graph(fed)]
        for name, want, got in zip(graph.output_names, expected, session(fed.numpy()), strict=True):
            for key, value in difference(want, got).items():
                outputs[name][key] = float(np.maximum(outputs[name].get(key, 0.0), value))
    error = float(np.max([x["error"] for x in outputs.values()]))
    return {
        "version": metadata.version(backend),
        "batches": list(BATCHES),
        "outputs": outputs,
        "error": error,
        "passed": error <= TOLERANCE,
    }


def difference(want: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """`error` and, of floats, `max_abs` of one output; ValueError for another shape or dtype."""
    if want.shape != got.shape or want.dtype != got.dtype:
        raise ValueError(f"the graph gives {got.dtype} {got.shape}, torch {want.dtype} {want.shape}")
    if want.dtype.kind != "f":
        return {"error": float(np.mean(want != got))}
    apart = np.abs(want.astype(np.float64) - got)
    return {"error": float((apart / np.maximum(1, np.abs(want))).max()), "max_abs": float(apart.max())}
