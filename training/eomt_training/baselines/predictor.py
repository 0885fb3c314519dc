# SPDX-License-Identifier: MIT
"""What every network that can be evaluated offers, and EoMT-EXT behind the same interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eomt_anomaly.model import EomtExt, EomtExtConfig, EomtExtOutput, scores


class AnomalyPredictor(Protocol):
    """A network with anomaly scores.

    ``config`` has ``labels``, ``num_classes``, ``pixel_mean``, ``pixel_std`` (how pixels come in),
    ``patch_size`` (both image sides must be multiples of it) and ``image_size`` (short side, px, as trained).
    """

    score_names: tuple[str, ...]

    @property
    def config(self) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def predict_scores(
        self, pixels: Tensor, names: Sequence[str] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """pixels float [B,3,H,W], normalised -> semantic [B,C,h,w] and the named scores (None: all), [B,h,w].

        ``semantic`` is float32, its argmax the class map: probabilities, for mask models the map U of
        `scores.semantic_map`, which is not normalised. h and w may be smaller than H and W.
        """
        ...


class EomtExtPredictor(nn.Module):
    """EoMT-EXT, or plain EoMT, with all mask-based scores.

    A checkpoint that names another score than ``eomt_ext`` in its configuration has no trained anomaly head:
    it offers the heuristics only.
    """

    def __init__(self, net: EomtExt):
        super().__init__()
        self.net = net
        self.score_names = mask_score_names(net.config)

    @property
    def config(self) -> EomtExtConfig:
        return self.net.config

    @torch.no_grad()
    def predict_scores(
        self, pixels: Tensor, names: Sequence[str] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `AnomalyPredictor.predict_scores`; ``eomt_ext`` is the unbounded AnomalyMap."""
        names = self.score_names if names is None else names
        return mask_scores(self.net(pixels), names, self.config.num_queries)

    def save_pretrained(self, folder: str, **options: Any) -> None:
        self.net.save_pretrained(folder, **options)


def mask_score_names(config: EomtExtConfig) -> tuple[str, ...]:
    """Scores that a checkpoint's weights were trained for."""
    return tuple(name for name in scores.SCORES if name != "eomt_ext" or config.score == "eomt_ext")


def mask_scores(
    output: EomtExtOutput, names: Sequence[str], queries: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Semantic map U [B,C,h,w] and the named scores [B,h,w] of one forward pass, in float32.

    Only ``eomt_ext`` hears the dense head, where there is one: the others read the ``queries`` alone.
    """
    alone = output.queries(queries)

    def score(name: str) -> Tensor:
        o = output if name == "eomt_ext" else alone
        return scores.SCORES[name](o.mask_logits.float(), o.class_logits.float(), o.anomaly_logits.float())

    semantic = scores.semantic_map(alone.mask_logits.float(), alone.class_logits.float())
    return semantic, {name: score(name) for name in names}
