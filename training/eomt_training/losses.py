# SPDX-License-Identifier: MIT
"""Mask, class and anomaly losses of one prediction, on matched pairs.

BCE and dice on sampled points, CE over classes with a down-weighted no-object, and CE over
Normal / Anomaly / Void for the anomaly head. An outlier's class target is no-object; its mask loss counts.
What is ordinary has a mask and is Normal, and its query may have any class. Unlabelled pixels take no part
anywhere. Every mean is over the images of all processes (`mean_count`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_anomaly.model import ANOMALY, NORMAL, VOID, EomtExtOutput

from .distributed import mean_count
from .matcher import match
from .points import sample, uncertain
from .targets import IGNORE, ORDINARY, OUTLIER, Targets


@dataclass(frozen=True)
class LossConfig:
    """Weights (dimensionless) and sampling; the defaults are EoMT's, anomaly weights are ours."""

    mask: float = 5.0
    dice: float = 5.0
    classes: float = 2.0
    anomaly: float = 2.0
    dense: float = 1.0  # auxiliary per-pixel CE, training only
    no_object: float = 0.1
    anomaly_weights: tuple[float, float, float] = (1.0, 2.0, 0.1)  # Normal, Anomaly, Void
    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75


def prediction_losses(
    output: EomtExtOutput,
    targets: list[Targets],
    config: LossConfig,
    generators: Sequence[torch.Generator | None] | None = None,
) -> dict[str, Tensor]:
    """Unweighted losses ``mask``, ``dice``, ``classes``, ``anomaly`` of one prediction, each a scalar.

    generators: one for each image, from which its points come; None is torch's own.
    """
    generators = generators or [None] * len(targets)
    costs = config.mask, config.dice, config.classes, config.anomaly
    pairs = match(output, targets, config.num_points, *costs, generators)
    num_masks = sum(len(query) for query, _ in pairs)
    batch, n_query, n_class = output.class_logits.shape
    device = output.class_logits.device

    class_target = torch.full((batch, n_query), n_class - 1, device=device)  # no-object
    anomaly_target = torch.full((batch, n_query), VOID, device=device)
    bce, dice = output.mask_logits.sum() * 0.0, output.mask_logits.sum() * 0.0
    logits = output.mask_logits.unbind()  # indexed by image, each gradient would have the whole batch's size
    for i, ((query, index), target, generator) in enumerate(zip(pairs, targets, generators)):
        ids = target.ids[index]
        seen = ids != OUTLIER
        class_target[i, query[seen]] = ids[seen].masked_fill(ids[seen] == ORDINARY, IGNORE)
        anomaly_target[i, query] = torch.where(seen, NORMAL, ANOMALY)
        if len(query):
            masks = logits[i][query]
            image_bce, image_dice = _mask_losses(masks, target, index, config, generator)
            bce, dice = bce + image_bce, dice + image_dice

    class_weight = torch.ones(n_class, device=device)
    class_weight[-1] = config.no_object
    anomaly_weight = torch.tensor(config.anomaly_weights, device=device)
    classed = class_target[class_target != IGNORE]
    weights = [class_weight[classed].sum(), anomaly_weight[anomaly_target].sum()]
    counts = mean_count(torch.stack([torch.tensor(float(num_masks), device=device), *weights]))
    classes = _summed_ce(output.class_logits, class_target, class_weight)
    anomaly = _summed_ce(output.anomaly_logits, anomaly_target, anomaly_weight)
    return {
        "mask": bce / counts[0],
        "dice": dice / counts[0],
        "classes": classes / counts[1],
        "anomaly": anomaly / counts[2],
    }


def _summed_ce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """logits [B,Q,C], target [B,Q] -> the sum of the weighted CE of all queries but those of IGNORE."""
    return F.cross_entropy(
        logits.float().flatten(0, 1), target.flatten(), weight, ignore_index=IGNORE, reduction="sum"
    )


def _mask_losses(
    logits: Tensor,
    target: Targets,
    index: Tensor,
    config: LossConfig,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """BCE and dice, summed over the matched masks [M,h,w] of one image."""
    points = uncertain(logits, config.num_points, config.oversample, config.importance, generator)  # [M,P,2]
    labels = target.labels_at(points)  # [M,P]
    truth, valid = (labels == target.ids[index, None]).float(), (labels != IGNORE).float()
    x = sample(logits, points)  # [M,P]
    bce = (F.binary_cross_entropy_with_logits(x, truth, reduction="none") * valid).sum(1) / valid.sum(
        1
    ).clamp(min=1)
    soft = x.sigmoid() * valid
    dice = 1 - (2 * (soft * truth).sum(1) + 1) / (soft.sum(1) + truth.sum(1) + 1)
    return bce.sum(), dice.sum()


def dense_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Auxiliary per-pixel CE: logits [B,C+1,h,w], the last channel the outlier; labels [B,H,W]."""
    n_class = logits.shape[1] - 1
    small = F.interpolate(labels[:, None].float(), size=logits.shape[-2:], mode="nearest-exact")[:, 0].long()
    small = torch.where(small == OUTLIER, n_class, torch.where(small == ORDINARY, IGNORE, small))
    total = F.cross_entropy(logits.float(), small, ignore_index=IGNORE, reduction="sum")
    return total / mean_count((small != IGNORE).sum().float())
