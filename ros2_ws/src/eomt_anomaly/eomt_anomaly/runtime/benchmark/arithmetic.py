# SPDX-License-Identifier: MIT
"""How much arithmetic the network is, and how fast the device multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...model import EomtExt, EomtExtConfig
from ..network import DTYPES

SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices
REPEATS = 5


def network_gflop(config: EomtExtConfig, shape: Sequence[int]) -> float:
    """Floating point operations of a forward pass over pixels [B,3,H,W], 1e9; a multiply-add is two.

    Nothing is computed, and no weights are made. Attention is counted as its two matrix products, whatever
    kernel runs it (torch's counter knows no fused attention of the CPU).
    """
    with torch.device("meta"):
        model = EomtExt(config)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), FakeTensorMode(allow_non_fake_inputs=True), counter:
        model.to_empty(device="cpu")(torch.zeros(*shape))
    return counter.get_total_flops() / 1e9


def parameters_m(config: EomtExtConfig) -> float:
    """Parameters of the network, frozen ones too, 1e6."""
    with torch.device("meta"):
        return sum(p.numel() for p in EomtExt(config).parameters()) / 1e6


def gemm_rate(dtype: str, device: torch.device, side: int | None = None) -> float:
    """Measured GFLOP/s of square matrix products in `dtype` (a name in `DTYPES`): the best of `REPEATS`."""
    n = side or SIDES[device.type]
    a, b = (torch.randn(n, n, device=device).to(DTYPES[dtype]) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS + 1):  # the first warms up
        start = _now(device)
        torch.mm(a, b)
        best = min(best, _now(device) - start)
    return 2 * n**3 / best / 1e9


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
