# SPDX-License-Identifier: MIT
"""Samples of every validation as pictures: image, labels, prediction and anomaly, side by side."""

from __future__ import annotations

from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from eomt_anomaly.model import EomtExtConfig
from eomt_anomaly.model.scores import bounded
from eomt_anomaly.report.pictures import colored_heatmap

from .evaluation import class_colors
from .targets import OUTLIER

_DATA = EomtExtConfig()  # how the data modules normalise
_OUTLIER_COLOR = (255, 0, 255)


class SampleOverlays(Callback):
    """Logs the first ``frames`` frames of each validation set to TensorBoard and Weights & Biases; 0: none.

    ``val_samples/clean/i`` are frames as they are, ``val_samples/outliers/i`` such with unseen objects.
    """

    def __init__(self, frames: int = 4):
        if frames < 0:
            raise ValueError(f"frames = {frames}: give 0 or more")
        self.frames = frames

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if (
            outputs is None
            or batch_idx >= self.frames
            or trainer.sanity_checking
            or not trainer.is_global_zero
        ):
            return
        module: Any = pl_module
        score = outputs["score"][0]
        picture = overlay(
            batch["pixels"][0],
            batch["labels"][0],
            outputs["classes"][0],
            bounded(score) if module.val_scores[0] == "eomt_ext" else _unit(score),
            module.net.config.labels,
        )
        tag = f"val_samples/{('clean', 'outliers')[dataloader_idx]}/{batch_idx}"
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image(tag, [picture], trainer.global_step)


def overlay(
    pixels: Tensor, labels: Tensor, classes: Tensor, score: Tensor, known: tuple[Any, ...], width: int = 480
) -> np.ndarray:
    """Image, labels (outliers magenta), prediction and anomaly side by side, uint8 RGB [h,4w,3].

    pixels: float [3,H,W] normalised; labels, classes: ids [H,W]; score: float [H,W] in [0,1]; ``width``: the
    most px that each part gets.
    """
    mean, std = (
        torch.tensor(x, device=pixels.device)[:, None, None] for x in (_DATA.pixel_mean, _DATA.pixel_std)
    )
    image = ((pixels * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    truth = class_colors(labels.cpu().numpy(), known)
    truth[labels.cpu().numpy() == OUTLIER] = _OUTLIER_COLOR
    prediction = class_colors(classes.cpu().numpy(), known)
    parts = [image, truth, prediction, colored_heatmap(score.float().cpu().numpy())]
    scale = min(1.0, width / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.hstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts])


def _unit(score: Tensor) -> Tensor:
    """A score of no fixed range, from its lowest to its highest value in this frame."""
    low, high = score.min(), score.max()
    return (score - low) / (high - low).clamp(min=1e-12)
