# SPDX-License-Identifier: MIT
"""Exponential moving average of the weights, exact for weights that never change."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class ExponentialAverage(WeightAveraging):
    """average += (1 - decay) (weight - average) after each step; validation and the final weights use it.

    Lightning's own EMA multiplies both sides, which rounds: frozen weights would drift away from the file
    whose hash the checkpoint names. Here a weight that equals its average stays bitwise the same.
    """

    def __init__(self, decay: float = 0.99):
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay}: must be in [0, 1)")

        def average(mean: Tensor, weight: Tensor, _: Tensor | int) -> Tensor:
            return mean + (1 - decay) * (weight - mean)

        super().__init__(avg_fn=average)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        # The module is still on the CPU now: left there, the average would cost a copy of all weights a step.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, *args, **kwargs)
