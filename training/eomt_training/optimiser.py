# SPDX-License-Identifier: MIT
"""AdamW with a warm-up + poly schedule of its own for each group of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from .schedule import warmup_poly


class Group(NamedTuple):
    """Named parameters, their peak learning rate, and the steps before their warm-up and of it."""

    named: Iterable[tuple[str, nn.Parameter]]
    lr: float
    start: int
    warmup: int


def block_groups(blocks: nn.ModuleList, lr: float, decay: float, start: int, warmup: int) -> list[Group]:
    """Layer-wise decay: lr * decay^(L-1-i) for block i of L; these are the last ones of the ViT."""
    last = len(blocks) - 1
    return [
        Group(block.named_parameters(), lr * decay ** (last - i), start, warmup)
        for i, block in enumerate(blocks)
    ]


def adamw_warmup_poly(groups: list[Group], weight_decay: float, total: int) -> dict[str, Any]:
    """What `configure_optimizers` returns; vectors and queries are not decayed, frozen parameters left out.

    total: optimiser steps of the whole run; the schedule is `schedule.warmup_poly`.
    """
    chosen: list[dict[str, Any]] = []
    waits: list[tuple[int, int]] = []
    for group in groups:
        named = [(n, p) for n, p in group.named if p.requires_grad]
        for decay in (True, False):
            params = [p for n, p in named if (p.ndim > 1 and "query" not in n) == decay]
            if params:
                chosen.append({"params": params, "lr": group.lr, "weight_decay": weight_decay * decay})
                waits.append((group.start, group.warmup))
    optimizer = torch.optim.AdamW(chosen)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [_factor(total, *wait) for wait in waits])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _factor(total: int, start: int, warmup: int) -> Callable[[int], float]:
    return lambda step: warmup_poly(step, total, start, warmup)
