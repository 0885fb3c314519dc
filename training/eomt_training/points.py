# SPDX-License-Identifier: MIT
"""Point sampling (PointRend, arXiv 1912.08193; as used by Mask2Former, arXiv 2112.01527)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def generators(seeds: Iterable[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One for each image: what is drawn for it depends on its seed alone, not on its batch or process."""
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps [N,h,w] at points [N,P,2] (x, y in [0,1]) -> [N,P]."""
    return F.grid_sample(maps[:, None].float(), 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def uncertain(
    logits: Tensor,
    count: int,
    oversample: float = 3.0,
    importance: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``count`` points for each mask, mostly where |logit| is small, the rest uniform -> [N,count,2].

    generator: where the points come from; None is torch's own.
    """
    many, n_important = int(count * oversample), int(count * importance)
    points = torch.rand(len(logits), many, 2, device=logits.device, generator=generator)
    with torch.no_grad():
        doubt = -sample(logits, points).abs()
    best = doubt.topk(n_important, dim=1).indices  # [N,n_important]
    important = points.gather(1, best[..., None].expand(-1, -1, 2))
    uniform = torch.rand(len(logits), count - n_important, 2, device=logits.device, generator=generator)
    return torch.cat([important, uniform], 1)
