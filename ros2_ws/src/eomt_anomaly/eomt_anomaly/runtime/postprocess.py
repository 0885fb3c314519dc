# SPDX-License-Identifier: MIT
"""From the network's logits to a class map and an anomaly map of the image's size.

Fast path: sum_q weights[q,k] sigmoid(mask_q) at mask resolution as one matrix product, its rows the C known
classes and P(anomaly | q); then each of these few maps (not each of the Q masks) is upsampled, while the
best class so far is kept. Naively the Q masks are upsampled first; `exact` does that. The
two differ where a mask's sigmoid is sharp, because sigmoid and interpolation do not commute.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import ANOMALY, EomtExtOutput
from ..model.scores import SCORES, semantic_map
from .errors import NonFiniteOutput
from .preprocess import Plan
from .upsample import enlarge

NON_NEGATIVE = ("eomt_ext", "msp", "max_entropy")   # scores whose published value is 1 - exp(-x)


def publish(score: str, x: Tensor) -> Tensor:
    """A score's raw values on the published scale [0,1), ranking kept; overwrites x to save memory.

    1 - exp(-x) for scores that cannot be negative (`model.scores.bounded`), 1 / (1 + exp(-x)) for the others.
    """
    x = x.neg_().expm1_().neg_() if score in NON_NEGATIVE else x.sigmoid_()
    return x.clamp_(max=1 - 2 ** -24)    # the largest fp32 below 1


def fuse(output: EomtExtOutput, score: str) -> Tensor:
    """The C semantic maps and the anomaly score at mask resolution, float32 [B,C+1,h,w].

    Overwrites `output.mask_logits` (with their sigmoid) to save memory.
    """
    class_p = output.class_logits.float().softmax(-1)[..., :-1]                            # [B,Q,C]
    if score != "eomt_ext":
        anomaly = SCORES[score](output.mask_logits, output.class_logits, output.anomaly_logits)
        maps = semantic_map(output.mask_logits, output.class_logits)
        return torch.cat([maps, anomaly[:, None]], 1)
    anomaly_p = output.anomaly_logits.float().softmax(-1)[..., ANOMALY, None]              # [B,Q,1]
    weights = torch.cat([class_p, anomaly_p], -1).transpose(1, 2)                          # [B,C+1,Q]
    masks = output.mask_logits.float().sigmoid_()                                          # [B,Q,h,w]
    return torch.bmm(weights, masks.flatten(2)).unflatten(2, masks.shape[2:])


def require_finite(output: EomtExtOutput) -> None:
    """Raise `NonFiniteOutput` if any logit is NaN or infinite."""
    if not finite(output):
        raise NonFiniteOutput


def finite(output: EomtExtOutput) -> Tensor:
    """Whether every logit is finite: a bool tensor, still on its device."""
    return torch.stack([x.float().sum() for x in (
        output.mask_logits, output.class_logits, output.anomaly_logits)]).isfinite().all()


def finish(maps: np.ndarray, plan: Plan, score: str) -> tuple[np.ndarray, np.ndarray]:
    """Low-resolution maps of each window -> class map uint8 [H,W] and published anomaly float32 [H,W].

    maps: float32 [n,C+1,h,w], n windows of the plan.
    """
    class_map, anomaly = enlarge(maps, plan)
    publish(score, torch.from_numpy(anomaly))
    return class_map, anomaly


def finish_on_device(maps: Tensor, plan: Plan, score: str) -> tuple[Tensor, Tensor]:
    """`finish` in torch, for maps that lie on a GPU: [n,C+1,h,w] -> uint8 [H,W], float32 [H,W]."""
    best, class_map = None, torch.zeros(plan.image, dtype=torch.uint8, device=maps.device)
    for c in range(maps.shape[1] - 1):
        value = join([maps[i, c, None, None] for i in range(len(maps))], plan)[0, 0]       # [H,W]
        if best is None:
            best = value
            continue
        class_map.masked_fill_(value > best, c)
        best = torch.maximum(best, value)
    return class_map, publish(score, join([m[None, -1:] for m in maps], plan)[0, 0])


def exact(output: EomtExtOutput, plan: Plan, score: str) -> tuple[Tensor, Tensor]:
    """The reference: every mask logit upsampled to its window, then sigmoid, then sums.

    Takes 2 Q float images of memory (1.7 GB: 100 masks of 1024x2048 px). Returns uint8 [H,W], float32 [H,W].
    """
    target = plan.image if plan.window == plan.scaled else plan.window
    semantic, anomaly = [], []
    for i in range(len(output.mask_logits)):
        masks = _interpolate(output.mask_logits[i:i + 1].float(), target)                  # [1,Q,*target]
        classes, anomalies = output.class_logits[i:i + 1], output.anomaly_logits[i:i + 1]
        semantic.append(semantic_map(masks, classes))                                      # [1,C,*target]
        anomaly.append(SCORES[score](masks, classes, anomalies)[:, None])
    class_map = join(semantic, plan).argmax(1)[0].to(torch.uint8)
    return class_map, publish(score, join(anomaly, plan)[0, 0])


def join(windows: Iterable[Tensor], plan: Plan) -> Tensor:
    """Maps of each window, each [1,K,h,w] -> [1,K,H,W]: each upsampled, averaged where they overlap."""
    windows = list(windows)
    if len(windows) == 1 and plan.window == plan.scaled:
        return _interpolate(windows[0], plan.image)
    total = windows[0].new_zeros(1, windows[0].shape[1], *plan.scaled)
    count = windows[0].new_zeros(plan.scaled)
    for window, (rows, columns) in zip(windows, plan.crops()):
        total[..., rows, columns] += _interpolate(window, plan.window)
        count[rows, columns] += 1
    return _interpolate(total / count, plan.image)


def _interpolate(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
