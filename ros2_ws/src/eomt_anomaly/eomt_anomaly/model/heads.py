# SPDX-License-Identifier: MIT
"""From query and patch tokens to mask, class and anomaly logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import EomtExtConfig


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [B,C,H,W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UpscaleBlock(nn.Module):
    """[B,C,h,w] -> [B,C',2h,2w]: transposed convolution, GELU, depthwise 3x3, norm (EoMT)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels, out_channels, 2, stride=2)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.norm = LayerNorm2d(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv2(F.gelu(self.conv1(x))))


class Upscale(nn.Module):
    """Patch features [B,D,gh,gw] -> pixel features [B,C,gh*2^n,gw*2^n].

    With ``detail`` on, features of an early frozen block join after the first block and a small
    convolutional stem on the image itself joins after the last: thin things live there.
    """

    def __init__(self, config: EomtExtConfig):
        super().__init__()
        channels = config.upscale_channels or (config.hidden_size,) * config.upscale_blocks
        inputs = (config.hidden_size, *channels[:-1])
        self.blocks = nn.ModuleList(UpscaleBlock(i, o) for i, o in zip(inputs, channels))
        self.detail = config.detail_layer is not None
        if self.detail:
            self.skip = nn.Sequential(
                nn.LayerNorm(config.hidden_size, eps=1e-6), nn.Linear(config.hidden_size, channels[0]))
            self.stem = nn.Sequential(
                nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.GELU(),
                nn.Conv2d(32, channels[-1], 3, padding=1))
            self.fuse = nn.Sequential(
                nn.Conv2d(channels[-1], channels[-1], 3, padding=1, groups=channels[-1], bias=False),
                LayerNorm2d(channels[-1], eps=1e-6))

    def forward(self, patches: Tensor, pixels: Tensor, tap: Tensor | None) -> Tensor:
        """patches [B,D,gh,gw]; pixels [B,3,H,W]; tap [B,gh*gw,D], tokens of the detail layer."""
        x = patches
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 0 and self.detail:
                skip = self.skip(tap).transpose(1, 2).unflatten(2, patches.shape[-2:])       # [B,C0,gh,gw]
                x = x + F.interpolate(skip, size=x.shape[-2:], mode="bilinear", align_corners=False)
        if self.detail:
            size = (2 * x.shape[-2], 2 * x.shape[-1])
            x = x + self.stem(F.interpolate(pixels, size=size, mode="bilinear", align_corners=False))
            x = x + self.fuse(x)
        return x


class MaskHead(nn.Module):
    """Queries [B,Q,D] -> mask embeddings [B,Q,C]: three layers with GELU between."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))


class DenseAnomalyHead(nn.Conv2d):
    """Pixel features [B,C',h,w] -> logits of the C known classes and the anomaly, float32 [B,C+1,h,w]."""

    bias: nn.Parameter

    def __init__(self, channels: int, num_classes: int):
        super().__init__(channels, num_classes + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):   # bfloat16 logits would tie
            return F.conv2d(x.float(), self.weight.float(), self.bias.float())


class AnomalyHead(nn.Module):
    """[query embedding, normalised entropy, top probability] -> logits of Normal, Anomaly, Void.

    The class probabilities are those of the C known classes, no-object left out and renormalised; they
    enter detached, so that the anomaly loss cannot flatten the class head.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim + 2, hidden), nn.Linear(hidden, 3)

    def forward(self, query: Tensor, class_logits: Tensor) -> Tensor:
        """query [B,Q,D], class_logits [B,Q,C+1] -> [B,Q,3]."""
        log_p = class_logits[..., :-1].detach().float().log_softmax(-1)                      # [B,Q,C]
        p = log_p.exp()
        entropy = -(p * log_p).sum(-1, keepdim=True) / math.log(p.shape[-1])                 # in [0,1]
        confidence = torch.cat([entropy, p.amax(-1, keepdim=True)], -1).to(query.dtype)      # [B,Q,2]
        return self.fc2(F.gelu(self.fc1(torch.cat([query, confidence], -1))))
