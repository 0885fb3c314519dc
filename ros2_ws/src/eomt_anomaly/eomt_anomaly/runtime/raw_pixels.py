# SPDX-License-Identifier: MIT
"""Normalisation folded into the network: it takes the camera's bytes, and no normalised image is ever made.

The patch embedding is linear and has no padding, so that with x the bytes and weights w, bias b,
sum w (x / 255 - mean) / std + b = sum w' x + b',  w' = w / (255 std),  b' = b - sum w mean / std.
Bytes enter as x - CENTRE: that is exact in bfloat16, and near zero on average, so that what the weights lose
to rounding is multiplied by little.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import EomtExt
from ..model.heads import Upscale
from .preprocess import Normalizer, Plan, cut

CENTRE = 128


def raw_input(image: np.ndarray, plan: Plan) -> Tensor:
    """uint8 [H,W,3] -> int8 [n,3,h,w] (channels last in memory), x - CENTRE, a row for each window."""
    return torch.from_numpy((cut(image, plan) ^ CENTRE).view(np.int8)).permute(0, 3, 1, 2)


def take_raw_pixels(network: EomtExt, dtype: torch.dtype) -> None:
    """Let a float32 network on the CPU, which will run in `dtype`, take what `raw_input` gives."""
    config = network.config
    mean = tuple(m - CENTRE / 255 for m in config.pixel_mean)
    embed = PatchProduct(network.backbone.patch_embed, mean, config.pixel_std, dtype)
    network.backbone.register_module("patch_embed", embed)
    if network.upscale.detail:
        upscale = RawUpscale(network.upscale, Normalizer(mean, config.pixel_std, dtype))
        network.register_module("upscale", upscale)


class PatchProduct(nn.Module):
    """A patch embedding as one matrix product over the bytes of each patch; int8 [B,3,H,W] -> [B,D,gh,gw]."""

    def __init__(self, embed: nn.Conv2d, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype):
        super().__init__()
        assert embed.bias is not None   # `DinoVit` makes it with one
        self.patch, scale = embed.kernel_size[0], 255 * torch.tensor(std)
        weight = (embed.weight / scale.view(3, 1, 1)).permute(0, 2, 3, 1).to(dtype)           # [D,p,p,3]
        # Of the rounded weights: what rounding took from them then meets x / 255 - mean, not x.
        bias = embed.bias - (weight.float() * 255 * torch.tensor(mean)).sum((1, 2, 3))
        self.weight = nn.Parameter(weight.flatten(1), requires_grad=False)                    # [D,p*p*3]
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        p, (rows, columns) = self.patch, (side // self.patch for side in pixels.shape[-2:])
        x = pixels.permute(0, 2, 3, 1).reshape(-1, rows, p, columns, 3 * p).transpose(2, 3)   # [B,gh,gw,p,3p]
        x = x.to(self.weight.dtype, memory_format=torch.contiguous_format).flatten(3).flatten(1, 2)
        return F.linear(x, self.weight, self.bias).transpose(1, 2).unflatten(2, (rows, columns))


class RawUpscale(nn.Module):
    """`Upscale` with detail on raw pixels: shrunk to the size that its stem takes, then normalised."""

    def __init__(self, upscale: Upscale, normalize: Normalizer):
        super().__init__()
        self.upscale, self.normalize = upscale, normalize

    def forward(self, patches: Tensor, pixels: Tensor, tap: Tensor | None) -> Tensor:
        size = [side << (len(self.upscale.blocks) + 1) for side in patches.shape[-2:]]
        small = F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
        return self.upscale(patches, self.normalize(small), tap)
