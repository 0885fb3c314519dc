# SPDX-License-Identifier: MIT
"""How much arithmetic the network is, and how fast the device multiplies matrices."""

from __future__ import annotations

import time

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...model import EomtExt
from ..network import DTYPES

SIDES = {"cpu": 2048, "cuda": 8192}  # of the square matrices
REPEATS = 5


def network_gflop(model: EomtExt, windows: int, side: int) -> float:
    """Floating point operations of one image's forward pass, 1e9; a multiply-add counts as two.

    Nothing is computed. Attention is counted as its two matrix products, whatever kernel runs it (torch's
    counter knows no fused attention of the CPU).
    """
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), FakeTensorMode(allow_non_fake_inputs=True), counter:
        model(torch.zeros(windows, 3, side, side))
    return counter.get_total_flops() / 1e9


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
