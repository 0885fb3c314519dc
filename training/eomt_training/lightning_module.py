# SPDX-License-Identifier: MIT
"""Training and validation of EoMT-EXT with Lightning: which parts learn, how fast, and on which losses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from eomt_anomaly.model import EomtExt, EomtExtConfig, scores
from eomt_anomaly.model.backbone_store import KNOWN_BACKBONES, load_backbone

from .labels import LABELS
from .losses import LossConfig, dense_loss, prediction_losses
from .metrics.anomaly import PixelMetrics
from .metrics.semantic import ConfusionMatrix
from .schedule import mask_probability, warmup_poly
from .targets import IGNORE, OUTLIER, targets_of


class EomtExtModule(L.LightningModule):
    """A frozen backbone, a trained decoder and heads.

    Args:
        size: preset of `EomtExtConfig`.
        labels: which data set's classes to learn, a key of `labels.LABELS`.
        options: further fields of `EomtExtConfig`.
        backbone: a name in `backbone_store.KNOWN_BACKBONES`; None starts from random weights (tests).
        backbone_dir: folder that holds it, when it is in none of the usual places.
        init: checkpoint folder of the same architecture and labels to start from (fine-tuning, next stage).
        lr: peak learning rate of heads and queries.
        block_lr: peak learning rate of the last decoder block; earlier ones get ``block_decay`` of the next.
        warmup: steps over which heads warm up; blocks wait ``block_wait`` steps and warm up over as many.
        deep_supervision: also predict, and take losses, before every decoder block.
        masked_attention: mask the queries' attention, annealed away over training (needs deep supervision).
    """

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
        deep_supervision: bool = True,
        masked_attention: bool = False,
        loss: LossConfig = LossConfig(),  # noqa: B008 (immutable)
    ):
        super().__init__()
        if masked_attention and not deep_supervision:
            raise ValueError(
                "masked_attention needs deep_supervision: each block looks where the last prediction points"
            )
        self.save_hyperparameters()
        self.loss = loss
        source = {"source": backbone, "sha256": KNOWN_BACKBONES[backbone].digest} if backbone else None
        self.net = EomtExt(
            EomtExtConfig.preset(size, labels=LABELS[labels], backbone=source, **(options or {}))
        )
        if source:
            self.net.load_backbone(load_backbone(**source, search=[backbone_dir] if backbone_dir else []))
        if init:
            self._start_from(init, backbone_dir)
        config = self.net.config
        channels = (config.upscale_channels or (config.hidden_size,))[-1]
        self.dense_head = nn.Conv2d(channels, config.num_classes + 1, 1)  # auxiliary, not part of the model

    def _start_from(self, folder: str, backbone_dir: str | None) -> None:
        """Take over another checkpoint's weights, all of them or none."""
        other = EomtExt.from_pretrained(folder, **({"backbone": backbone_dir} if backbone_dir else {}))
        ours, theirs = self.net.config.to_dict(), other.config.to_dict()
        if differing := sorted(k for k in ours if ours[k] != theirs[k]):
            raise ValueError(
                f"init = {folder}: its config differs in {', '.join(differing)}; set model.options alike"
            )
        self.net.load_state_dict(other.state_dict())

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        output = self.net(batch["pixels"], self._mask_probs())
        targets = targets_of(batch["labels"])
        weights = {
            "mask": self.loss.mask,
            "dice": self.loss.dice,
            "classes": self.loss.classes,
            "anomaly": self.loss.anomaly,
        }
        predictions = [*output.auxiliary, output]
        losses = [prediction_losses(p, targets, self.loss) for p in predictions]
        total = sum(weights[k] * v for one in losses for k, v in one.items()) / len(predictions)
        dense = dense_loss(self.dense_head(output.features), batch["labels"])
        total = total + self.loss.dense * dense
        self.log_dict({f"train/{k}": v for k, v in losses[-1].items()})
        self.log_dict({"train/dense": dense})
        self.log("train/loss", total, prog_bar=True)
        return total

    def _mask_probs(self) -> list[float] | None:
        if not self.hparams.deep_supervision:
            return None
        blocks = self.net.config.decoder_blocks
        if not self.hparams.masked_attention:
            return [0.0] * blocks
        return [mask_probability(self.global_step, self._total_steps(), i, blocks) for i in range(blocks)]

    def _total_steps(self) -> int:
        return int(self.trainer.estimated_stepping_batches)

    def on_validation_epoch_start(self) -> None:
        self.confusion = ConfusionMatrix(self.net.config.num_classes)
        self.pixels = {name: PixelMetrics() for name in ("eomt_ext", "rba")}

    def validation_step(self, batch: dict[str, Any], index: int, dataloader_idx: int = 0) -> None:
        """Loader 0: clean images, for mIoU. Loader 1: unseen pasted objects, for AuPRC and FPR95."""
        output = self.net(batch["pixels"])
        labels = batch["labels"]
        logits = (output.mask_logits.float(), output.class_logits.float(), output.anomaly_logits.float())
        resize = {"size": labels.shape[-2:], "mode": "bilinear", "align_corners": False}
        if dataloader_idx == 0:
            semantic = nn.functional.interpolate(scores.semantic_map(*logits[:2]), **resize)
            self.confusion.update(semantic.argmax(1).cpu().numpy(), labels.cpu().numpy())
            return
        truth = torch.where(labels == OUTLIER, 1, torch.where(labels == IGNORE, IGNORE, 0)).cpu().numpy()
        for name, metric in self.pixels.items():
            score = scores.SCORES[name](*logits)
            metric.update(nn.functional.interpolate(score[:, None], **resize)[:, 0].cpu().numpy(), truth)

    def on_validation_epoch_end(self) -> None:
        self.log("val/miou", 100 * self.confusion.compute()["miou"], prog_bar=True)
        for name, metric in self.pixels.items():
            if metric.has_both_classes:
                result = metric.compute()
                self.log(f"val/auprc_{name}", 100 * result["auprc"], prog_bar=name == "eomt_ext")
                self.log(f"val/fpr95_{name}", 100 * result["fpr95"])

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; heads warm up at once, decoder blocks after ``block_wait`` and with layer-wise decay."""
        groups: list[dict[str, Any]] = []
        schedules: list[tuple[int, int]] = []

        def add(named: Iterable[tuple[str, nn.Parameter]], lr: float, start: int) -> None:
            named = [(n, p) for n, p in named if p.requires_grad]
            for decay in (True, False):
                chosen = [p for n, p in named if (p.ndim > 1 and "query" not in n) == decay]
                if chosen:
                    groups.append(
                        {"params": chosen, "lr": lr, "weight_decay": self.hparams.weight_decay * decay}
                    )
                    schedules.append((start, self.hparams.warmup))

        pretrained = (
            "decoder.blocks." if self.hparams.backbone and self.net.config.decoder.value == "joint" else None
        )
        heads = [
            (n, p) for n, p in self.net.named_parameters() if not (pretrained and n.startswith(pretrained))
        ]
        add([*heads, *self.dense_head.named_parameters()], self.hparams.lr, 0)
        if pretrained:
            last = self.net.config.decoder_blocks - 1
            for i, block in enumerate(self.net.decoder.blocks):
                add(
                    block.named_parameters(),
                    self.hparams.block_lr * self.hparams.block_decay ** (last - i),
                    self.hparams.block_wait,
                )
        optimizer = torch.optim.AdamW(groups)
        total = self._total_steps()
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            [
                lambda step, start=start, warmup=warmup: warmup_poly(step, total, start, warmup)
                for start, warmup in schedules
            ],
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
