# SPDX-License-Identifier: MIT
"""Anomaly scores of per-pixel classifiers; higher means more anomalous.

Each takes logits of the C known classes [B,C,h,w] and returns float32 [B,h,w]. Logits of other outputs (void,
anomaly) are left out before, so that a score says what the known classes alone say.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor


def msp(logits: Tensor) -> Tensor:
    """1 - max_c softmax(logits)_c, in [0, 1 - 1/C] (Hendrycks and Gimpel, 2017)."""
    return 1 - logits.float().softmax(1).amax(1)


def max_logit(logits: Tensor) -> Tensor:
    """-max_c logits_c, unbounded (Hendrycks et al., 2022)."""
    return -logits.float().amax(1)


def max_entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, divided by log C: in [0, 1] (Chan et al., 2021)."""
    log_p = logits.float().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])


def energy(logits: Tensor) -> Tensor:
    """-log sum_c exp(logits_c), unbounded (Liu et al., 2020)."""
    return -logits.float().logsumexp(1)


PIXEL_SCORES: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (msp, max_logit, max_entropy, energy)
}
