# SPDX-License-Identifier: MIT
"""Hungarian matching of queries with target masks (DETR; costs as in Mask2Former).

A known region is matched by mask cost and -P(class). What has no class is matched by mask cost and, an
outlier, -P(anomaly), or, what is ordinary, -P(normal); where no loss trains the anomaly head, by mask cost
alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from eomt_anomaly.model import ANOMALY, NORMAL, EomtExtOutput

from .points import sample
from .targets import IGNORE, ORDINARY, OUTLIER, Targets


@torch.no_grad()
def match(
    output: EomtExtOutput,
    targets: list[Targets],
    num_points: int = 12544,
    mask_cost: float = 5.0,
    dice_cost: float = 5.0,
    class_cost: float = 2.0,
    anomaly_cost: float = 2.0,
    generators: Sequence[torch.Generator | None] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """For each image, indices of matched queries and of their targets, each [min(Q,T)] long.

    anomaly_cost: weight of -P(anomaly) and -P(normal); 0 where the anomaly head is not trained.
    generators: one for each image, from which its points come; None is torch's own.
    """
    costs = mask_cost, dice_cost, class_cost, anomaly_cost
    return [
        _match_one(masks, classes, anomaly, target, num_points, costs, generator)
        for masks, classes, anomaly, target, generator in zip(
            output.mask_logits,
            output.class_logits.float().softmax(-1),
            output.anomaly_logits.float().softmax(-1),
            targets,
            generators or [None] * len(targets),
        )
    ]


def _match_one(
    mask_logits: Tensor,
    p_class: Tensor,
    p_anomaly: Tensor,
    target: Targets,
    num_points: int,
    costs: tuple[float, float, float, float],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    device = mask_logits.device
    points = torch.rand(num_points, 2, device=device, generator=generator)  # shared by all masks
    labels = target.labels_at(points)  # [P]
    points, labels = points[labels != IGNORE], labels[labels != IGNORE]
    if not len(target.ids) or not len(labels):
        return (torch.zeros(0, dtype=torch.long, device=device),) * 2
    truth = (labels == target.ids[:, None]).float()  # [T,P]
    logits = sample(mask_logits, points.expand(len(mask_logits), -1, -1))  # [Q,P]

    soft = logits.sigmoid()
    with torch.autocast(device.type, enabled=False):  # float16 overflows over so many points
        inside, overlap = logits @ truth.T, soft @ truth.T  # [Q,T] each
    # BCE of every pair: softplus(x) - x t, averaged over points.
    bce = (F.softplus(logits).sum(1, keepdim=True) - inside) / len(labels)  # [Q,T]
    dice = 1 - (2 * overlap + 1) / (soft.sum(1, keepdim=True) + truth.sum(1) + 1)

    mask_cost, dice_cost, class_cost, anomaly_cost = costs
    outlier, ordinary = target.ids == OUTLIER, target.ids == ORDINARY  # [T]
    wanted = class_cost * p_class[:, target.ids.masked_fill(outlier | ordinary, 0)]  # [Q,T]
    wanted = torch.where(outlier, anomaly_cost * p_anomaly[:, ANOMALY : ANOMALY + 1], wanted)
    wanted = torch.where(ordinary, anomaly_cost * p_anomaly[:, NORMAL : NORMAL + 1], wanted)
    cost = mask_cost * bce + dice_cost * dice - wanted
    if not torch.isfinite(cost).all():
        raise FloatingPointError("matching cost is not finite: the network diverged; lower the learning rate")
    query, index = linear_sum_assignment(cost.cpu().numpy())
    return (torch.as_tensor(query, device=device), torch.as_tensor(index, device=device))
