# SPDX-License-Identifier: MIT
"""Mask, class and anomaly losses of one prediction, on matched pairs.

BCE and dice on sampled points, CE over classes with a down-weighted no-object, and CE over
Normal / Anomaly / Void for the anomaly head. An outlier's class target is no-object; its mask loss counts.
Unlabelled pixels take no part anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_anomaly.model import ANOMALY, NORMAL, VOID, EomtExtOutput

from .matcher import match
from .points import sample, uncertain
from .targets import IGNORE, OUTLIER, Targets


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


def prediction_losses(output: EomtExtOutput, targets: list[Targets], config: LossConfig) -> dict[str, Tensor]:
    """Unweighted losses ``mask``, ``dice``, ``classes``, ``anomaly`` of one prediction, each a scalar."""
    pairs = match(output, targets, config.num_points, config.mask, config.dice, config.classes)
    num_masks = max(sum(len(query) for query, _ in pairs), 1)
    batch, n_query, n_class = output.class_logits.shape
    device = output.class_logits.device

    class_target = torch.full((batch, n_query), n_class - 1, device=device)  # no-object
    anomaly_target = torch.full((batch, n_query), VOID, device=device)
    bce, dice = output.mask_logits.sum() * 0.0, output.mask_logits.sum() * 0.0
    for i, ((query, index), target) in enumerate(zip(pairs, targets)):
        ids = target.ids[index]
        known = ids != OUTLIER
        class_target[i, query[known]] = ids[known]
        anomaly_target[i, query] = torch.where(known, NORMAL, ANOMALY)
        if len(query):
            image_bce, image_dice = _mask_losses(output.mask_logits[i, query], target, index, config)
            bce, dice = bce + image_bce, dice + image_dice

    class_weight = torch.ones(n_class, device=device)
    class_weight[-1] = config.no_object
    anomaly_weight = torch.tensor(config.anomaly_weights, device=device)
    return {
        "mask": bce / num_masks,
        "dice": dice / num_masks,
        "classes": F.cross_entropy(
            output.class_logits.float().flatten(0, 1), class_target.flatten(), class_weight
        ),
        "anomaly": F.cross_entropy(
            output.anomaly_logits.float().flatten(0, 1), anomaly_target.flatten(), anomaly_weight
        ),
    }


def _mask_losses(logits: Tensor, target: Targets, index: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """BCE and dice, summed over the matched masks [M,h,w] of one image."""
    points = uncertain(logits, config.num_points, config.oversample, config.importance)  # [M,P,2]
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
    small = torch.where(small == OUTLIER, n_class, small)
    if (small != IGNORE).sum() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(logits.float(), small, ignore_index=IGNORE)
