# SPDX-License-Identifier: MIT
"""A plain DINOv2 vision transformer (arXiv 2304.07193): patch embedding, blocks with LayerScale, SDPA."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import EomtExtConfig
from .states import Coverage


class Attention(nn.Module):
    """Multi-head self-attention with one packed qkv projection."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, t, d = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                                         # each [B,h,T,D/h]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, dim: int, init: float = 1.0):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block; ``mask`` is boolean, True where attention is allowed, [B,1,T,T]."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, eps: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_ratio * dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), mask))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoVit(nn.Module):
    """The first ``depth`` blocks of a DINOv2 ViT; the final norm is present only when the ViT is whole.

    Tokens are ``[cls | registers | patches]``; ``cls_token`` already includes its position.
    """

    config: EomtExtConfig   # this and the next: only of one that an adapter made
    coverage: Coverage

    def __init__(self, config: EomtExtConfig, depth: int | None = None):
        super().__init__()
        dim, depth = config.hidden_size, config.num_layers if depth is None else depth
        self.patch_size = config.patch_size
        self.pos_grid, self.antialias = config.pos_grid, config.pos_antialias
        self.num_prefix_tokens = 1 + config.num_register_tokens
        self.patch_embed = nn.Conv2d(3, dim, config.patch_size, stride=config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.num_register_tokens:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.pos_grid ** 2, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.layer_norm_eps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps) if depth == config.num_layers else None

    def embed(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """pixels [B,3,H,W] -> tokens [B,P+N,D] and the grid (H/p, W/p)."""
        height, width = pixels.shape[-2:]
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise ValueError(f"image is {height}x{width} px: both sides must be positive multiples of the "
                             f"patch size {self.patch_size}; resize it (the runtime's Engine does)")
        x = self.patch_embed(pixels)                                   # [B,D,gh,gw]
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2) + self.positions(grid)        # [B,N,D]
        prefix = [self.cls_token, self.register_tokens] if self.num_prefix_tokens > 1 else [self.cls_token]
        return torch.cat([*(t.expand(x.shape[0], -1, -1) for t in prefix), x], dim=1), grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings [1,gh*gw,D], resized bicubically from the stored square grid."""
        if grid == (self.pos_grid, self.pos_grid):
            return self.pos_embed
        pos = self.pos_embed.float().unflatten(1, (self.pos_grid, self.pos_grid)).permute(0, 3, 1, 2)
        pos = F.interpolate(pos, size=grid, mode="bicubic", align_corners=False, antialias=self.antialias)
        return pos.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)

    def forward(self, pixels: Tensor,
                taps: tuple[int, ...] = ()) -> tuple[Tensor, tuple[int, int], list[Tensor]]:
        """Tokens after the last block [B,P+N,D] (not normed), the grid, tokens after each tapped block."""
        x, grid = self.embed(pixels)
        tapped = {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in taps:
                tapped[i] = x
        return x, grid, [tapped[i] for i in taps]
