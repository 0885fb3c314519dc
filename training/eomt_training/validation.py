# SPDX-License-Identifier: MIT
"""Validation that every trained network shares: mIoU on clean frames, AuPRC and FPR95 on unseen objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from .metrics.anomaly import PixelMetrics
from .metrics.semantic import ConfusionMatrix
from .targets import IGNORE, OUTLIER


class ValidatedModule(L.LightningModule):
    """A LightningModule whose ``net`` has a ``config`` with ``num_classes``; logs ``val/...`` in %.

    ``val_scores`` are the anomaly scores to measure; the first is shown in the progress bar.
    """

    net: Any
    val_scores: tuple[str, ...]

    def predict_scores(self, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """pixels [B,3,H,W] as the data module gives them -> semantic map [B,C,h,w] and scores [B,h,w]."""
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        self.confusion = ConfusionMatrix(self.net.config.num_classes)
        self.pixels = {name: PixelMetrics() for name in self.val_scores}

    def validation_step(self, batch: dict[str, Any], index: int, dataloader_idx: int = 0) -> None:
        """Loader 0: clean images, for mIoU. Loader 1: unseen pasted objects, for AuPRC and FPR95."""
        labels = batch["labels"]
        names = () if dataloader_idx == 0 else self.val_scores
        semantic, found = self.predict_scores(batch["pixels"], names)
        resize = {"size": labels.shape[-2:], "mode": "bilinear", "align_corners": False}
        if dataloader_idx == 0:
            classes = nn.functional.interpolate(semantic, **resize).argmax(1)
            self.confusion.update(classes.cpu().numpy(), labels.cpu().numpy())
            return
        truth = torch.where(labels == OUTLIER, 1, torch.where(labels == IGNORE, IGNORE, 0)).cpu().numpy()
        for name, score in found.items():
            full = nn.functional.interpolate(score[:, None], **resize)[:, 0]
            self.pixels[name].update(full.cpu().numpy(), truth)

    def on_validation_epoch_end(self) -> None:
        self.log("val/miou", 100 * self.confusion.compute()["miou"], prog_bar=True)
        for name, metric in self.pixels.items():
            if metric.has_both_classes:
                result = metric.compute()
                self.log(f"val/auprc_{name}", 100 * result["auprc"], prog_bar=name == self.val_scores[0])
                self.log(f"val/fpr95_{name}", 100 * result["fpr95"])
