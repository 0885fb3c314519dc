# SPDX-License-Identifier: MIT
"""Training of ERFNet as in its paper: Adam, poly schedule, weighted CE; and its void output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_anomaly.model import EomtExtConfig

from ..distributed import mean_count
from ..labels import LABELS
from ..schedule import warmup_poly
from ..targets import IGNORE, ORDINARY, OUTLIER
from ..validation import ValidatedModule
from .erfnet import ErfNet, ErfNetConfig

Void = Literal["outlier", "unlabelled", "both"]
_DATA = EomtExtConfig()  # how the data modules normalise


class ErfNetModule(ValidatedModule):
    """ERFNet with N + void outputs.

    Args:
        labels: which data set's classes to learn, a key of `labels.LABELS`.
        options: further fields of `ErfNetConfig`; ``image_size`` as in the data.
        init: ERFNet checkpoint folder of the same classes to start from.
        lr: initial learning rate. weight_decay: as in Adam (L2). power: of the poly schedule.
        weight_batches: training batches from which the class weights are counted; 0: all weights are 1.
        void_weight: weight of the void output in the loss; 0: it is not trained, and is no score.
        void: what void is taught with: pasted outliers, unlabelled pixels (a void classifier; the padding of
            crops counts as unlabelled), or both.
    """

    weights: Tensor  # [C+1], of the outputs in the loss

    def __init__(
        self,
        labels: str = "camvid",
        options: dict[str, Any] | None = None,
        init: str | None = None,
        lr: float = 5e-4,
        weight_decay: float = 1e-4,
        power: float = 0.9,
        weight_batches: int = 25,
        void_weight: float = 0.0,
        void: Void = "outlier",
    ):
        super().__init__()
        if void_weight < 0:
            raise ValueError(f"void_weight = {void_weight}: must be 0 or more")
        self.save_hyperparameters()
        self.net = ErfNet(ErfNetConfig(LABELS[labels], **{"void": void_weight > 0, **(options or {})}))
        self.val_scores = (
            ("max_logit", "max_entropy", "void") if void_weight else ("max_logit", "max_entropy")
        )
        if init:
            self._start_from(init)
        self.register_buffer("weights", torch.ones(self.net.config.num_classes + 1))
        self.weights[-1] = void_weight

    def _start_from(self, folder: str) -> None:
        other = ErfNet.from_pretrained(folder)
        ours, theirs = ([x.name for x in net.config.labels] for net in (self.net, other))
        if ours != theirs:
            raise ValueError(f"init = {folder}: it knows other classes: {', '.join(theirs)}")
        self.net.load_state_dict(other.state_dict())

    def on_train_start(self) -> None:
        count = self.hparams.weight_batches
        if count and self.global_step == 0:  # a resumed run has them in its checkpoint
            loader = self.trainer.train_dataloader
            assert loader is not None  # training has it by now
            batches = (batch["labels"] for batch in islice(loader, count))
            pixels = class_pixels(batches, self.net.config.num_classes).to(self.device)
            self.weights[:-1] = class_weights(self.trainer.strategy.reduce(pixels, reduce_op="sum"))

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        target = void_target(batch["labels"], self.net.config.num_classes, self.hparams.void)
        logits = self.net(self._as_paper(batch["pixels"])).float()
        loss = weighted_ce(logits, target, self.weights)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def predict_scores(self, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.net.predict_scores(self._as_paper(pixels), names)

    def _as_paper(self, pixels: Tensor) -> Tensor:
        """From the data module's ImageNet normalisation to the [0,1] of the paper."""
        mean, std = (
            torch.tensor(x, device=pixels.device)[:, None, None] for x in (_DATA.pixel_mean, _DATA.pixel_std)
        )  # each [3,1,1]
        return pixels * std + mean

    def configure_optimizers(self) -> Any:
        h, total = self.hparams, self.total_steps()
        optimizer = torch.optim.Adam(self.net.parameters(), h.lr, weight_decay=h.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_poly(step, total, warmup=0, power=h.power)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def void_target(labels: Tensor, num_classes: int, void: Void) -> Tensor:
    """labels [B,H,W] -> targets of the C+1 outputs; what does not teach void becomes IGNORE."""
    outlier = num_classes if void in ("outlier", "both") else IGNORE
    unlabelled = num_classes if void in ("unlabelled", "both") else IGNORE
    taught = labels.masked_fill(labels == IGNORE, unlabelled).masked_fill(labels == OUTLIER, outlier)
    return taught.masked_fill(labels == ORDINARY, IGNORE)  # it has no output of its own


def weighted_ce(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """CE over pixels, each weighted by its class and divided by the sum of the weights; 0 without any.

    Of several processes' pixels it is the share that averages to the mean over all of them.
    """
    counts = target != IGNORE
    loss = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
    return loss / mean_count(weights[target[counts]].sum())


def class_pixels(labels: Iterable[Tensor], num_classes: int) -> Tensor:
    """Pixels of each known class, float64 [C]."""
    total = torch.zeros(num_classes, dtype=torch.float64)
    for image in labels:
        total += torch.bincount(image[image < num_classes].flatten().cpu(), minlength=num_classes)
    return total


def class_weights(pixels: Tensor) -> Tensor:
    """1 / ln(1.10 + p_c), p_c a class's share of the pixels [C] (Romera et al., 2018, after ENet)."""
    return (1 / torch.log(1.10 + pixels / pixels.sum().clamp(min=1))).float()
