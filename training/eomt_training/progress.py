# SPDX-License-Identifier: MIT
"""A progress bar over the whole run, whose remaining time holds after a resume too."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import convert_inf


class RunProgress(TQDMProgressBar):
    """Batches done of all that `max_steps` takes. Lightning's own counts from the resumed step up to what is
    left, and takes steps for batches where gradients are accumulated."""

    @property
    def total_train_batches(self) -> int | float:
        trainer = self.trainer
        if trainer.max_epochs == -1 and trainer.max_steps > 0:
            return min(trainer.num_training_batches, trainer.max_steps * trainer.accumulate_grad_batches)
        return super().total_train_batches

    def on_train_start(self, trainer: Any, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self._show_done(trainer)  # a run that goes on within an epoch starts none

    def on_train_epoch_start(self, trainer: Any, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._show_done(trainer)

    def _show_done(self, trainer: Any) -> None:
        bar = self.train_progress_bar
        bar.total = convert_inf(self.total_train_batches)
        bar.initial = bar.n = trainer.fit_loop.epoch_loop.batch_progress.current.ready
