# SPDX-License-Identifier: MIT
"""The two query decoders: EoMT's joint blocks and a Mask2Former-style cross-attention decoder.

Both take ``predict(queries [B,Q,D], patches [B,N,D]) -> prediction`` with a ``mask_logits`` field, so that
each masked block can look where the prediction before it pointed. ``mask_probs`` (one value in [0,1]
for each block, or for each of its queries [B,Q]; None at inference) is the probability that a query's
attention is masked: EoMT anneals it to 0 in training, after which inference is a plain ViT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import EomtExtConfig
from .vit import Block, Mlp

Predict = Callable[[Tensor, Tensor], Any]


def foreground(mask_logits: Tensor, grid: tuple[int, int], probability: float | Tensor) -> Tensor:
    """Where each query may look: [B,Q,N] bool, its mask > 0 at grid size; some rows are freed at random."""
    allowed = F.interpolate(mask_logits.detach().float(), size=grid, mode="bilinear", align_corners=False)
    allowed = allowed.flatten(2) > 0                                                          # [B,Q,N]
    free = torch.rand(allowed.shape[:2], device=allowed.device) >= probability                # [B,Q]
    return allowed | free[..., None]


class JointDecoder(nn.Module):
    """The last blocks of the ViT, trainable, with queries in front of the tokens: [Q | prefix | patches]."""

    def __init__(self, config: EomtExtConfig):
        super().__init__()
        self.query = nn.Embedding(config.num_queries, config.hidden_size)
        self.prefix = 1 + config.num_register_tokens
        self.blocks = nn.ModuleList(
            Block(config.hidden_size, config.num_heads, config.mlp_ratio, config.layer_norm_eps)
            for _ in range(config.decoder_blocks))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, tokens: Tensor, laterals: list[Tensor], grid: tuple[int, int], predict: Predict,
                mask_probs: Sequence[float | Tensor] | None = None) -> list[Any]:
        """tokens [B,P+N,D] -> predictions, the last one after the last block."""
        n_query = self.query.num_embeddings
        queries = self.query.weight.to(tokens.dtype).expand(tokens.shape[0], -1, -1)     # [B,Q,D]
        x = torch.cat([queries, tokens], 1)                                          # [B,Q+P+N,D]
        predictions = []
        for i, block in enumerate(self.blocks):
            mask = None
            if mask_probs is not None:
                predictions.append(self._predict(x, predict))
                if torch.as_tensor(mask_probs[i]).any():
                    mask = x.new_ones(len(x), 1, x.shape[1], x.shape[1], dtype=torch.bool)
                    mask[:, 0, :n_query, n_query + self.prefix:] = foreground(
                        predictions[-1].mask_logits, grid, mask_probs[i])
            x = block(x, mask)
        return [*predictions, self._predict(x, predict)]

    def _predict(self, x: Tensor, predict: Predict) -> Any:
        x = self.norm(x)
        n_query = self.query.num_embeddings
        return predict(x[:, :n_query], x[:, n_query + self.prefix:])


class CrossAttentionBlock(nn.Module):
    """Masked cross-attention, self-attention, feed-forward (Mask2Former order), pre-norm."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, eps: float):
        super().__init__()
        self.heads = heads
        self.norm_cross, self.norm_self, self.norm_mlp = (nn.LayerNorm(dim, eps=eps) for _ in range(3))
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """x [B,Q,D] reads memory [B,N,D]; mask [B,1,Q,N], True where allowed."""
        b, q, d = x.shape
        query = self.q(self.norm_cross(x)).view(b, q, self.heads, -1).transpose(1, 2)            # [B,h,Q,D/h]
        key, value = self.kv(memory).view(b, -1, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.proj(attended.transpose(1, 2).reshape(b, q, d))
        y = self.norm_self(x)
        x = x + self.self_attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm_mlp(x))


class CrossAttentionDecoder(nn.Module):
    """Queries read the sum of normed, projected features of several frozen blocks."""

    def __init__(self, config: EomtExtConfig):
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.query = nn.Embedding(config.num_queries, dim)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim, eps=eps), nn.Linear(dim, dim)) for _ in config.lateral_layers)
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(dim, config.num_heads, config.mlp_ratio, eps)
            for _ in range(config.decoder_blocks))
        self.norm_memory, self.norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)

    def forward(self, tokens: Tensor, laterals: list[Tensor], grid: tuple[int, int], predict: Predict,
                mask_probs: Sequence[float | Tensor] | None = None) -> list[Any]:
        """laterals: one [B,N,D] for each lateral layer -> predictions, the last one after the last block."""
        memory = self.norm_memory(sum(f(x) for f, x in zip(self.lateral, laterals)))                # [B,N,D]
        x = self.query.weight.to(memory.dtype).expand(memory.shape[0], -1, -1)                     # [B,Q,D]
        predictions = []
        for i, block in enumerate(self.blocks):
            mask = None
            if mask_probs is not None:
                predictions.append(predict(self.norm(x), memory))
                if torch.as_tensor(mask_probs[i]).any():
                    mask = foreground(predictions[-1].mask_logits, grid, mask_probs[i])
                    mask = (mask | ~mask.any(-1, keepdim=True))[:, None]    # an empty mask looks everywhere
            x = block(x, memory, mask)
        return [*predictions, predict(self.norm(x), memory)]
