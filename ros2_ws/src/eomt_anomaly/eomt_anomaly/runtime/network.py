# SPDX-License-Identifier: MIT
"""Makes a trained model ready for inference: precision, what can be folded or fused, positions cached."""

from __future__ import annotations

import contextlib
import copy
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model import EomtExt
from ..model.vit import Block, LayerScale, Mlp
from .raw_pixels import take_raw_pixels

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "exact")
DTYPES = {"fp32": torch.float32, "exact": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GRIDS_KEPT = 16


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX, AVX512-BF16); elsewhere bf16 is slower."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def choose_precision(wanted: str, device: torch.device) -> str:
    """The precision in force. auto: bf16 where the hardware has it, else fp32 (CPU) or fp16 (CUDA).

    Raises ValueError for an unknown name, and for fp16 on a CPU.
    """
    if wanted not in PRECISIONS:
        raise ValueError(f"unknown precision {wanted!r}: choose one of {', '.join(PRECISIONS)}")
    if device.type == "cpu":
        if wanted == "fp16":
            raise ValueError("precision 'fp16' needs a CUDA device: on a CPU choose 'bf16', 'fp32' or 'auto'")
        return ("bf16" if cpu_has_bf16() else "fp32") if wanted == "auto" else wanted
    if wanted == "auto":
        return "bf16" if torch.cuda.get_device_properties(device).major >= 8 else "fp16"    # from Ampere on
    return wanted


def prepare(model: EomtExt, precision: str, device: torch.device, raw_pixels: bool = False) -> EomtExt:
    """A copy of `model` for inference on `device`, in eval mode; `model`, wherever it lies, is left as it is.

    raw_pixels: on a CPU, the copy takes what `raw_input` gives in place of normalised pixels.
    """
    full_float32()
    network = copy.deepcopy(model).eval().requires_grad_(False).to("cpu", torch.float32)
    if precision != "exact":
        for block in network.modules():
            if isinstance(block, Block):
                _fold(block)
    if raw_pixels:
        take_raw_pixels(network, DTYPES[precision])
    network.to(device=device, dtype=DTYPES[precision])
    if device.type == "cpu" and precision == "bf16":
        network.mask_product = bf16_mask_product  # type: ignore[method-assign]  # this copy's own
        if hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            for block in network.modules():
                if isinstance(block, Block):
                    block.register_module("mlp", FusedMlp(block.mlp))
    # Positions depend on the grid only: interpolated once.
    cached = lru_cache(GRIDS_KEPT)(network.backbone.positions)
    network.backbone.positions = cached  # type: ignore[method-assign]  # this copy's own
    return network


def full_float32() -> None:
    """float32 is float32 in this process from now on, whatever was set before.

    Else `torch.set_float32_matmul_precision("high")`, which training asks for, leaves products 10 bits
    (TF32; "medium" on a CPU 7 of bfloat16), and cuDNN's convolutions have TF32 by default.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    # torch's newer settings, which win over these two where they were used
    libraries: Any = torch.backends
    for operations in (libraries.cuda.matmul, libraries.cudnn.conv, libraries.cudnn.rnn,
                       libraries.mkldnn.matmul, libraries.mkldnn.conv, libraries.mkldnn.rnn):
        operations.fp32_precision = "ieee"


def compile_in_place(network: EomtExt) -> None:
    """torch.compile at the first input of each shape; what the compiler made is kept for later processes.

    In `~/.cache/eomt_anomaly/inductor`, because torch's own place, /tmp, is emptied when the machine starts;
    `$TORCHINDUCTOR_CACHE_DIR` chooses another. Where no home can be written, torch's own place it is.
    """
    place = Path("~/.cache/eomt_anomaly/inductor").expanduser()
    if not os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place)
    network.compile()


class FusedMlp(nn.Module):
    """`Mlp` with its GELU inside oneDNN's product: the hidden layer is written once, and never read for it.

    The operator has no public name: torch.compile puts it in by itself, and cannot trace it from here.
    """

    def __init__(self, mlp: Mlp):
        super().__init__()
        self.fc1, self.fc2 = mlp.fc1, mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self.fc2(F.gelu(self.fc1(x)))
        return self.fc2(torch.ops.mkldnn._linear_pointwise(
            x, self.fc1.weight, self.fc1.bias, "gelu", [], "none"))


def bf16_mask_product(embedding: Tensor, features: Tensor) -> Tensor:
    """`EomtExt.mask_product` without its float32 copies: logits are rounded to bfloat16, as the operands are.

    Equal logits of two queries decide nothing here, because every query's class scores weigh its mask.
    """
    logits = torch.bmm(embedding, features.flatten(2)).float()         # [B,Q,h*w]
    return logits.unflatten(2, features.shape[2:])


def _fold(block: Block) -> None:
    """gamma * (W x + b) = (gamma W) x + gamma b: LayerScale vanishes into the projection before it."""
    for name, projection in (("ls1", block.attn.proj), ("ls2", block.mlp.fc2)):
        scale: LayerScale = getattr(block, name)
        projection.weight.mul_(scale.gamma[:, None])
        projection.bias.mul_(scale.gamma)
        setattr(block, name, nn.Identity())
