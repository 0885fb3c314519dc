# SPDX-License-Identifier: MIT
"""Which parts of EoMT-EXT are never trained."""

from __future__ import annotations

from enum import Enum

from torch import nn

from eomt_anomaly.model import Decoder, EomtExt


class Freeze(str, Enum):
    """What keeps every bit of its weights, beside the ViT blocks before the decoder, which always do.

    ``backbone``: nothing else. ``all_blocks``: also the pretrained blocks of a joint decoder and their norm,
    so that the whole ViT stays as it was. ``all_but_anomaly_head``: everything but the anomaly head, to add
    it to a network whose classes must not change. ``all_but_dense_head``: everything but the dense head, to
    add that (``dense_anomaly`` of the model).
    """

    backbone = "backbone"
    all_blocks = "all_blocks"
    all_but_anomaly_head = "all_but_anomaly_head"
    all_but_dense_head = "all_but_dense_head"

    def apply(self, net: EomtExt) -> None:
        """Stop the gradient of what is frozen.

        Raises ValueError: ``all_blocks`` of a cross_attention decoder, whose blocks start at random;
        ``all_but_dense_head`` of a network without one.
        """
        if self is Freeze.all_but_anomaly_head:
            net.requires_grad_(False)
            net.anomaly_head.requires_grad_(True)
        elif self is Freeze.all_but_dense_head:
            if net.dense_head is None:
                raise ValueError("freeze = all_but_dense_head: give model.options.dense_anomaly = true")
            net.requires_grad_(False)
            net.dense_head.requires_grad_(True)
        elif self is Freeze.all_blocks:
            if net.config.decoder is not Decoder.JOINT:
                raise ValueError(
                    "freeze = all_blocks: a cross_attention decoder has no pretrained blocks, and its ViT is "
                    "frozen already: give freeze = backbone"
                )
            parts: tuple[nn.Module, ...] = (net.decoder.blocks, net.decoder.norm)
            for part in parts:
                part.requires_grad_(False)
