# SPDX-License-Identifier: MIT
"""Training and validation of EoMT-EXT with Lightning: which parts learn, how fast, and on which losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from eomt_anomaly.model import Decoder, EomtExt, EomtExtConfig
from eomt_anomaly.model.backbone_store import load_backbone, reference
from eomt_anomaly.model.checkpoint import read_config
from eomt_anomaly.model.heads import DenseAnomalyHead

from .baselines.predictor import mask_scores
from .freeze import Freeze
from .labels import LABELS
from .losses import LossConfig, dense_loss, prediction_losses
from .optimiser import Group, adamw_warmup_poly, block_groups
from .points import generators
from .schedule import mask_probability
from .targets import IGNORE, OUTLIER, Targets, targets_of
from .validation import ValidatedModule

Outliers = Literal["anomaly", "no_object", "ignore"]
USES = ("score", "image_size")  # of a configuration: how weights are used, not what they are


class EomtExtModule(ValidatedModule):
    """A frozen backbone, a trained decoder and heads.

    Args:
        size: preset of `EomtExtConfig`; None: the architecture of ``init``, its backbone included.
        labels: which data set's classes to learn, a key of `labels.LABELS`.
        options: further fields of `EomtExtConfig`.
        backbone: `dinov2_s14_derived`, or a hub id that training/hub_backbone.py has brought here; None
            starts from random weights (tests).
        backbone_dir: folder that holds it, when it is in none of the usual places.
        init: checkpoint folder to start from (fine-tuning, next stage), of the same architecture and labels.
        lr: peak learning rate of heads and queries.
        block_lr: peak learning rate of the last decoder block; earlier ones get ``block_decay`` of the next.
        warmup: steps over which heads warm up.
        block_wait, block_warmup: steps that decoder blocks wait, and then warm up over (None: as heads).
        freeze: what is not trained. class_lr: peak learning rate of the class head (None: ``lr``; 0: frozen).
        deep_supervision: also predict, and take losses, before every decoder block.
        masked_attention: mask the queries' attention, annealed away over training (needs deep supervision).
        outliers: what pasted outliers teach. ``anomaly``: the anomaly head. The others train plain EoMT,
            without that head: ``no_object``, that no query's mask covers them; ``ignore``, nothing.
    """

    def __init__(
        self,
        size: str | None = "small",
        labels: str = "camvid",
        options: dict[str, Any] | None = None,
        backbone: str | None = "dinov2_s14_derived",
        backbone_dir: str | None = None,
        init: str | None = None,
        lr: float = 5e-4,
        block_lr: float = 1e-4,
        block_decay: float = 0.8,
        weight_decay: float = 0.05,
        warmup: int = 100,
        block_wait: int = 0,
        block_warmup: int | None = None,
        freeze: Freeze = Freeze.backbone,
        class_lr: float | None = None,
        deep_supervision: bool = True,
        masked_attention: bool = False,
        outliers: Outliers = "anomaly",
        loss: LossConfig = LossConfig(),  # noqa: B008 (immutable)
    ):
        super().__init__()
        if masked_attention and not deep_supervision:
            raise ValueError(
                "masked_attention needs deep_supervision: each block looks where the last prediction points"
            )
        self.save_hyperparameters()
        plain = outliers != "anomaly"
        self.loss = replace(loss, anomaly=0.0) if plain else loss
        self.val_scores = ("rba", "max_entropy") if plain else ("eomt_ext", "rba")
        options = {"labels": LABELS[labels], "score": "rba" if plain else "eomt_ext", **(options or {})}
        if size is None:
            self.net = EomtExt(replace(_config_of(init), **options))
        else:
            search = [backbone_dir] if backbone_dir else []
            source = reference(backbone, search) if backbone else None
            self.net = EomtExt(EomtExtConfig.preset(size, backbone=source, **options))
            if source:
                self.net.load_backbone(load_backbone(**source, search=search))
        if init:
            self._start_from(init, backbone_dir)
        config = self.net.config
        channels = (config.upscale_channels or (config.hidden_size,))[-1]
        # Auxiliary, no part of the model; with dense_anomaly the model has its own.
        self.dense_head = None if config.dense_anomaly else DenseAnomalyHead(channels, config.num_classes)
        self._freeze(freeze, class_lr)

    def _freeze(self, freeze: Freeze, class_lr: float | None) -> None:
        freeze.apply(self.net)
        if class_lr == 0:
            self.net.class_head.requires_grad_(False)
        if freeze is Freeze.all_but_anomaly_head:
            if not self.loss.anomaly:
                raise ValueError(
                    f"freeze = {freeze.value}, outliers = {self.hparams.outliers!r} leave nothing to train: "
                    "give outliers = anomaly and loss.anomaly above 0"
                )
            if self.dense_head is not None:
                self.dense_head.requires_grad_(False)
        if freeze is Freeze.all_but_dense_head and not self.loss.dense:
            raise ValueError(f"freeze = {freeze.value} leaves nothing to train: give loss.dense above 0")

    def _start_from(self, folder: str, backbone_dir: str | None) -> None:
        """Take over another checkpoint's weights, all of them or none."""
        other = EomtExt.from_pretrained(folder, **({"backbone": backbone_dir} if backbone_dir else {}))
        ours, theirs = self.net.config.to_dict(), other.config.to_dict()
        may_differ = {*USES, "dense_anomaly"} if self.net.config.dense_anomaly else USES  # may be added
        if differing := sorted(k for k in ours if ours[k] != theirs[k] and k not in may_differ):
            raise ValueError(
                f"init = {folder}: its config differs in {', '.join(differing)}; set model.options alike"
            )
        own = {k: v for k, v in self.net.state_dict().items() if k.startswith("dense_head.")}
        self.net.load_state_dict({**own, **other.state_dict()})

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        images = generators(batch["seed"].tolist(), self.device)
        output = self.net(batch["pixels"], self._mask_probs(images))
        labels, targets = self._targets(batch["labels"])
        weights = {
            "mask": self.loss.mask,
            "dice": self.loss.dice,
            "classes": self.loss.classes,
            "anomaly": self.loss.anomaly,
        }
        predictions = [*output.auxiliary, output.queries(self.net.config.num_queries)]
        losses = [prediction_losses(p, targets, self.loss, images) for p in predictions]
        total = sum(weights[k] * v for one in losses for k, v in one.items()) / len(predictions)
        dense_logits = output.dense_logits if self.dense_head is None else self.dense_head(output.features)
        dense = dense_loss(dense_logits, labels)
        total = total + self.loss.dense * dense
        parts = {**losses[-1], "dense": dense}
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, sync_dist=True)
        self.log("train/loss", total, prog_bar=True, sync_dist=True)
        return total

    def _targets(self, labels: Tensor) -> tuple[Tensor, list[Targets]]:
        """Label images [B,H,W] and mask sets, with outliers as ``outliers`` says."""
        if self.hparams.outliers == "ignore":
            labels = labels.masked_fill(labels == OUTLIER, IGNORE)
        targets = targets_of(labels)
        if self.hparams.outliers == "no_object":  # their pixels stay, as negatives of every mask
            targets = [Targets(t.labels, t.ids[t.ids != OUTLIER]) for t in targets]
        return labels, targets

    def _mask_probs(self, images: Sequence[torch.Generator]) -> list[float | Tensor] | None:
        """For each decoder block: 0 or 1, or, while it anneals, which queries [B,Q] are masked."""
        if not self.hparams.deep_supervision:
            return None
        blocks = self.net.config.decoder_blocks
        if not self.hparams.masked_attention:
            return [0.0] * blocks
        step, total = self.global_step, self.total_steps()
        return [self._drawn(mask_probability(step, total, i, blocks), images) for i in range(blocks)]

    def _drawn(self, probability: float, images: Sequence[torch.Generator]) -> float | Tensor:
        if probability in (0.0, 1.0):
            return probability
        queries, device = self.net.config.num_queries, self.device
        draws = [torch.rand(queries, device=device, generator=image) for image in images]
        return (torch.stack(draws) < probability).float()

    def predict_scores(self, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        return mask_scores(self.net(pixels), names, self.net.config.num_queries)

    def configure_optimizers(self) -> Any:
        """AdamW; heads warm up at once, decoder blocks after ``block_wait`` and with layer-wise decay."""
        h, joint = self.hparams, self.net.config.decoder is Decoder.JOINT
        pretrained = ("decoder.blocks.",) if h.backbone and joint else ()
        apart = (*pretrained, *(("class_head.",) if h.class_lr is not None else ()))
        heads = [(n, p) for n, p in self.net.named_parameters() if not n.startswith(apart)]
        auxiliary = [] if self.dense_head is None else self.dense_head.named_parameters()
        groups = [Group([*heads, *auxiliary], h.lr, 0, h.warmup)]
        if h.class_lr is not None:
            groups += [Group(self.net.class_head.named_parameters(), h.class_lr, 0, h.warmup)]
        if pretrained:
            wait = (h.block_wait, h.warmup if h.block_warmup is None else h.block_warmup)
            groups += block_groups(self.net.decoder.blocks, h.block_lr, h.block_decay, *wait)
        return adamw_warmup_poly(groups, h.weight_decay, self.total_steps())


def _config_of(init: str | None) -> EomtExtConfig:
    if init is None:
        raise ValueError("model.size = null takes the architecture of model.init: give one of them")
    return read_config(init)[0]
