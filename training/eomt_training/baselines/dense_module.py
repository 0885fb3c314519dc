# SPDX-License-Identifier: MIT
"""Training of the dense outlier-exposure head: same data, outliers, optimiser and schedule as EoMT-EXT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_anomaly.model.backbone_store import load_backbone, reference

from ..distributed import mean_count
from ..labels import LABELS
from ..optimiser import Group, adamw_warmup_poly, block_groups
from ..targets import IGNORE, ORDINARY, OUTLIER
from ..validation import ValidatedModule
from .dense import DenseConfig, DenseNet


@dataclass(frozen=True)
class DenseLossConfig:
    """Weights, dimensionless."""

    classes: float = 1.0
    anomaly: float = 1.0
    outlier: float = 2.0  # weight of an outlier pixel against a normal one in the anomaly's BCE
    uniform: float = 0.5  # pulls the classes of outlier pixels to uniform (Hendrycks et al., 2019)


class DenseModule(ValidatedModule):
    """A frozen backbone and a per-pixel class and anomaly head.

    Args:
        size: preset of `DenseConfig`. options: further fields of it. labels: a key of `labels.LABELS`.
        backbone: as `EomtExtModule` takes it.
        backbone_dir: folder that holds it, when it is in none of the usual places.
        init: checkpoint folder of the same configuration to start from.
        lr: peak learning rate of the head; block_lr, block_decay, block_wait, warmup: as in `EomtExtModule`.
    """

    val_scores = ("anomaly", "max_entropy", "energy")

    def __init__(
        self,
        size: str = "small",
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
        loss: DenseLossConfig = DenseLossConfig(),  # noqa: B008 (immutable)
    ):
        super().__init__()
        self.save_hyperparameters()
        self.loss = loss
        search = [backbone_dir] if backbone_dir else []
        source = reference(backbone, search) if backbone else None
        self.net = DenseNet(
            DenseConfig.preset(size, labels=LABELS[labels], backbone=source, **(options or {}))
        )
        if source:
            self.net.load_backbone(load_backbone(**source, search=[backbone_dir] if backbone_dir else []))
        if init:
            other = DenseNet.from_pretrained(init, backbone_dir)
            ours, theirs = self.net.config.to_dict(), other.config.to_dict()
            if differing := sorted(k for k in ours if ours[k] != theirs[k]):
                raise ValueError(f"init = {init}: its config differs in {', '.join(differing)}")
            self.net.load_state_dict(other.state_dict())

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        losses = dense_losses(self.net(batch["pixels"]), batch["labels"], self.loss.outlier)
        total = sum(getattr(self.loss, name) * value for name, value in losses.items())
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, sync_dist=True)
        self.log("train/loss", total, prog_bar=True, sync_dist=True)
        return total

    def predict_scores(self, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.net.predict_scores(pixels, names)

    def configure_optimizers(self) -> Any:
        """AdamW as EoMT-EXT: the head warms up at once, trained blocks with layer-wise decay."""
        h, pretrained = self.hparams, ("blocks.",) if self.hparams.backbone else ()
        head = [(n, p) for n, p in self.net.named_parameters() if not n.startswith(pretrained)]
        groups = [Group(head, h.lr, 0, h.warmup)]
        if pretrained:
            groups += block_groups(self.net.blocks, h.block_lr, h.block_decay, h.block_wait, h.warmup)
        return adamw_warmup_poly(groups, h.weight_decay, self.total_steps())


def dense_losses(logits: Tensor, labels: Tensor, outlier_weight: float) -> dict[str, Tensor]:
    """``classes``, ``anomaly`` and ``uniform``, each the mean over its pixels of all processes, 0 without.

    logits [B,C+1,h,w], the last the anomaly's, scaled up to labels [B,H,W]; unlabelled pixels count nowhere.
    classes: CE of known pixels. anomaly: BCE, outliers against known and ordinary pixels. uniform:
    -mean_c log p_c of outliers.
    """
    logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    outlier, ordinary = labels == OUTLIER, labels == ORDINARY
    known = (labels != IGNORE) & ~outlier & ~ordinary
    log_p = logits[:, :-1].log_softmax(1)  # [B,C,H,W]
    classes = F.nll_loss(log_p, labels.where(known, IGNORE), ignore_index=IGNORE, reduction="sum")
    bce = F.binary_cross_entropy_with_logits(logits[:, -1], outlier.float(), reduction="none")
    weight = (known | ordinary) + outlier_weight * outlier
    counts = mean_count(torch.stack([known.sum().float(), weight.sum().float(), outlier.sum().float()]))
    return {
        "classes": classes / counts[0],
        "anomaly": (bce * weight).sum() / counts[1],
        "uniform": -(log_p.mean(1) * outlier).sum() / counts[2],
    }
