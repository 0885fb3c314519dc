# SPDX-License-Identifier: MIT
"""Validation that every trained network shares: mIoU on clean frames, AuPRC and FPR95 on unseen objects.

Several processes share the frames; what they found is put together before anything is computed, so that the
numbers are those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import AttributeDict
from torch import Tensor, nn

from .distributed import from_process, gathered, processes, rank, summed
from .metrics.anomaly import PixelMetrics
from .metrics.semantic import ConfusionMatrix
from .targets import IGNORE, OUTLIER


class ValidatedModule(L.LightningModule):
    """A LightningModule whose ``net`` has a ``config`` with ``num_classes``; logs ``val/``, ``test/`` in %.

    ``val_scores`` are the anomaly scores to measure; the first is shown in the progress bar.
    """

    net: Any
    val_scores: tuple[str, ...]

    @property
    def hparams(self) -> AttributeDict:
        """The arguments that `save_hyperparameters` kept, as attributes too."""
        kept = super().hparams
        assert isinstance(kept, AttributeDict)  # Lightning makes no other of a module's arguments
        return kept

    def total_steps(self) -> int:
        """Optimiser steps of the whole run, which schedules span. Raises ValueError for a run without end."""
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            raise ValueError(
                "trainer.max_steps = -1: learning rates fall until the last step of a run, so it needs one. "
                "Give the most steps that it may take (early_stop.yaml may end it before)"
            )
        return int(total)

    def predict_scores(self, pixels: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """pixels [B,3,H,W] as the data module gives them -> semantic map [B,C,h,w] and scores [B,h,w]."""
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        self.confusion = ConfusionMatrix(self.net.config.num_classes)
        self.pixels = {name: PixelMetrics() for name in self.val_scores}

    def validation_step(
        self, batch: dict[str, Any], index: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor] | None:
        """Loader 0: clean images, for mIoU. Loader 1: unseen pasted objects, for AuPRC and FPR95.

        Returns ``classes`` long and ``score`` float (the first of ``val_scores``), both [B,H,W]; None for a
        frame that only fills up the last batch of several processes.
        """
        labels = batch["labels"]
        names = self.val_scores[:1] if dataloader_idx == 0 else self.val_scores
        semantic, found = self.predict_scores(batch["pixels"], names)
        if not self._is_mine(index, dataloader_idx):
            return None
        resize = {"size": labels.shape[-2:], "mode": "bilinear", "align_corners": False}
        classes = nn.functional.interpolate(semantic, **resize).argmax(1)
        full = {k: nn.functional.interpolate(v[:, None], **resize)[:, 0] for k, v in found.items()}
        if dataloader_idx == 0:
            self.confusion.update(classes.cpu().numpy(), labels.cpu().numpy())
        else:
            truth = torch.where(labels == OUTLIER, 1, torch.where(labels == IGNORE, IGNORE, 0)).cpu().numpy()
            for name, score in full.items():
                self.pixels[name].update(score.cpu().numpy(), truth)
        return {"classes": classes, "score": full[self.val_scores[0]]}

    def _is_mine(self, index: int, loader: int) -> bool:
        """Whether this process's batch ``index`` (of one frame) is no repetition of an earlier frame."""
        trainer: Any = self.trainer
        loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        return processes() == 1 or index * processes() + rank() < len(loaders[loader].dataset)

    def on_validation_epoch_end(self) -> None:
        self._log_quality("val")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(
        self, batch: dict[str, Any], index: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor] | None:
        """As `validation_step`."""
        return self.validation_step(batch, index, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self._log_quality("test")

    def _log_quality(self, stage: str) -> None:
        self.confusion.table = summed(self.confusion.table, self.device)
        # sync_dist: every process logs the same number, and their mean is it.
        self.log(f"{stage}/miou", 100 * self.confusion.compute()["miou"], prog_bar=True, sync_dist=True)
        for name, part in self.pixels.items():
            metric = gathered(part)
            result = metric.compute() if rank() == 0 and metric.has_both_classes else None
            if result := from_process(0, result):
                shown = name == self.val_scores[0]
                self.log(f"{stage}/auprc_{name}", 100 * result["auprc"], prog_bar=shown, sync_dist=True)
                self.log(f"{stage}/fpr95_{name}", 100 * result["fpr95"], sync_dist=True)
