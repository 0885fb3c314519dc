# SPDX-License-Identifier: MIT
"""What a run leaves beside Lightning's files: the environment it ran in, and a usable checkpoint."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from .evaluation.provenance import git_commit


class RunRecord(Callback):
    """Writes ``environment.json`` when training starts and when it ends, and at its end ``checkpoint/``.

    A run that breaks off has steps and minutes 0 in its environment.json.
    """

    def __init__(self, seed: int | None):
        self.seed = seed

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started, self.commit = time.monotonic(), git_commit()
        self._write_environment(trainer, 0.0)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A last.ckpt is of the end also where training ends between two saves of its `ModelCheckpoint`."""
        for saver in trainer.checkpoint_callbacks:
            if isinstance(saver, ModelCheckpoint) and saver.save_last and saver.last_model_path:
                trainer.save_checkpoint(saver.last_model_path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        minutes = (time.monotonic() - self.started) / 60
        folder = self._write_environment(trainer, minutes)
        state = trainer.strategy.lightning_module_state_dict()  # of all processes, where they hold shards
        if not trainer.is_global_zero:
            return
        trained: Any = pl_module.net
        net = type(trained)(trained.config)
        net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
        place = pl_module.hparams.get("backbone_dir")
        net.save_pretrained(folder / "checkpoint", **({"backbone": place} if place else {}))
        print(f"checkpoint: {folder / 'checkpoint'} ({minutes:.1f} minutes)")

    def _write_environment(self, trainer: L.Trainer, minutes: float) -> Path:
        """Every process must come here: `log_dir` is asked of the first."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            found = environment(trainer, minutes, self.commit, self.seed)
            (folder / "environment.json").write_text(json.dumps(found, indent=2) + "\n")
        return folder


def environment(trainer: L.Trainer, minutes: float, commit: str, seed: int | None) -> dict[str, object]:
    """What a reader needs to judge a run: code, versions, device, time."""
    device = trainer.strategy.root_device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "git_commit": commit,
        "seed": seed,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": L.__version__,
        "device": f"{device.type}: {name}",
        "devices": trainer.num_devices,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
        "steps": trainer.global_step,
        "minutes": round(minutes, 1),
        "command": " ".join(sys.argv),
    }
