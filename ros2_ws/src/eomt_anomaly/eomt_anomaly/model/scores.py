# SPDX-License-Identifier: MIT
"""The anomaly scores of mask transformers on the same mask and class logits; higher means more anomalous.

Shapes: mask_logits [B,Q,h,w], class_logits [B,Q,C+1] (the last is no-object), anomaly_logits [B,Q,3].
Each score returns float32 [B,h,w]. Computed in fp32: bfloat16 makes ties, and ties ruin rankings.
U_c = sum_q softmax(class_q)[c] sigmoid(mask_q) is the semantic map (Mask2Former); it is not a probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

Score = Callable[..., Tensor]


def mix(weights: Tensor, mask_logits: Tensor) -> Tensor:
    """Weights [B,Q,K], mask logits [B,Q,h,w] -> sum_q weights[q,k] sigmoid(mask_q), [B,K,h,w]."""
    with torch.autocast(mask_logits.device.type, enabled=False):
        return torch.einsum("bqk,bqhw->bkhw", weights.float(), mask_logits.float().sigmoid())


def semantic_map(mask_logits: Tensor, class_logits: Tensor) -> Tensor:
    """U [B,C,h,w] in [0,Q]; its argmax over C is the class map."""
    return mix(class_logits.float().softmax(-1)[..., :-1], mask_logits)


def bounded(anomaly_map: Tensor) -> Tensor:
    """1 - exp(-AnomalyMap): from [0,Q] to [0,1), strictly monotone, so the ranking stays (fp32: up to 16)."""
    return (-torch.expm1(-anomaly_map)).clamp(max=1 - 2 ** -24)    # the largest fp32 below 1


def msp(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None,
        temperature: float = 1.0) -> Tensor:
    """1 - max_c softmax(U / T)_c (Hendrycks and Gimpel, 2017)."""
    return 1 - (semantic_map(mask_logits, class_logits) / temperature).softmax(1).amax(1)


def max_logit(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None) -> Tensor:
    """-max_c U_c (Hendrycks et al., 2022)."""
    return -semantic_map(mask_logits, class_logits).amax(1)


def max_entropy(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None) -> Tensor:
    """Entropy of softmax(U), divided by log C: in [0,1]."""
    log_p = semantic_map(mask_logits, class_logits).log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) / math.log(log_p.shape[1])


def rba(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None) -> Tensor:
    """Rejected by all: -sum_c tanh(U_c) (Nayal et al., 2023)."""
    return -semantic_map(mask_logits, class_logits).tanh().sum(1)


def mask2anomaly(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None,
                 thing_ids: Collection[int] | None = None, confident: float = 0.95) -> Tensor:
    """(1 - max_c U_c)(1 - R), R = the strongest confident mask: our variant of Rai et al. (2023).

    R is soft and of every class. The authors' code takes R of stuff other than road and sidewalk, weighs its
    masks by their confidence and binarises it at 0.5; it also averages with the mirrored picture.
    ``thing_ids`` limits R to some classes (None: all).
    """
    p, label = class_logits.float().softmax(-1)[..., :-1].max(-1)                           # [B,Q]
    trusted = p > confident
    if thing_ids is not None:
        trusted &= torch.isin(label, torch.tensor(sorted(thing_ids), device=label.device))
    masks = mask_logits.float().sigmoid() * trusted[..., None, None]
    return (1 - semantic_map(mask_logits, class_logits).amax(1)) * (1 - masks.amax(1))


def eam(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None) -> Tensor:
    """1 - sum_q max_c p_q(c) sigmoid(m_q) (Grcic et al., 2023)."""
    p = class_logits.float().softmax(-1)[..., :-1].amax(-1, keepdim=True)                   # [B,Q,1]
    return 1 - mix(p, mask_logits)[:, 0]


def uno(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor | None = None) -> Tensor:
    """-sum_q sigmoid(m_q) (max_c p_q(c) - p_q(no-object)), after Delic et al. (2024).

    Theirs takes the probability of a class of its own, taught with pasted outliers; here no-object is that
    class: what outliers are taught as, and what idle queries say too.
    """
    p = class_logits.float().softmax(-1)
    return -mix(p[..., :-1].amax(-1, keepdim=True) - p[..., -1:], mask_logits)[:, 0]


def eomt_ext(mask_logits: Tensor, class_logits: Tensor, anomaly_logits: Tensor) -> Tensor:
    """AnomalyMap = sum_q sigmoid(m_q) P(anomaly | q), unbounded; publish `bounded` of it."""
    return mix(anomaly_logits.float().softmax(-1)[..., 1:2], mask_logits)[:, 0]


SCORES: dict[str, Score] = {f.__name__: f for f in (
    msp, max_logit, max_entropy, rba, mask2anomaly, eam, uno, eomt_ext)}
