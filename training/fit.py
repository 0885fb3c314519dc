#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train EoMT-EXT: ``python training/fit.py fit --config training/configs/camvid/small_476.yaml``.

``network: erfnet`` or ``dense`` in a configuration trains a baseline instead. Without arguments the default
recipe runs. Every run leaves a folder with the resolved configuration, the environment, metrics (CSV and
TensorBoard) and, at its end, ``checkpoint/``: what the node and `EomtExt.from_pretrained` (a baseline:
`baselines.open_predictor`) load.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import lightning as L  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: E402
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger  # noqa: E402

from eomt_training.baselines.dense_module import DenseModule  # noqa: E402
from eomt_training.baselines.erfnet_module import ErfNetModule  # noqa: E402
from eomt_training.data.datamodule import RoadDataModule  # noqa: E402
from eomt_training.lightning_module import EomtExtModule  # noqa: E402

NETWORKS = {"eomt_ext": EomtExtModule, "erfnet": ErfNetModule, "dense": DenseModule}
DEFAULT_RECIPE = HERE / "configs/camvid/small_476.yaml"


class Cli(LightningCLI):
    """Lightning's command line, plus what makes a run reproducible and its result usable."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--network", choices=NETWORKS, default="eomt_ext", help="what to train")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Without a logger in the configuration: CSV and TensorBoard files in one numbered run folder."""
        options = self.config[self.subcommand]["trainer"]
        if options.get("logger") is None:
            root = Path(options.get("default_root_dir") or "runs")
            csv = CSVLogger(root, name=None, flush_logs_every_n_steps=20)
            kwargs["logger"] = [csv, TensorBoardLogger(root, name=None, version=csv.version)]
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        self.started, self.commit = time.monotonic(), git_commit()
        torch.set_float32_matmul_precision("high")

    def after_fit(self) -> None:
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        if not self.trainer.is_global_zero:
            return
        minutes = (time.monotonic() - self.started) / 60
        (folder / "environment.json").write_text(
            json.dumps(
                environment(
                    self.trainer, minutes, self.commit, self.config[self.subcommand]["seed_everything"]
                ),
                indent=2,
            )
            + "\n"
        )
        place = self.model.hparams.get("backbone_dir")
        self.model.net.save_pretrained(folder / "checkpoint", **({"backbone": place} if place else {}))
        print(f"checkpoint: {folder / 'checkpoint'} ({minutes:.1f} minutes)")


def environment(trainer: L.Trainer, minutes: float, commit: str, seed: int) -> dict[str, object]:
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
        "threads": torch.get_num_threads(),
        "precision": str(trainer.precision),
        "steps": trainer.global_step,
        "minutes": round(minutes, 1),
        "command": " ".join(sys.argv),
    }


def git_commit() -> str:
    """The commit of the code, with ``+changes`` where the work tree differs; ``unknown`` outside git."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(HERE), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes"
            if git("status", "--porcelain", "--", ".", "../ros2_ws/src/eomt_anomaly/eomt_anomaly/model")
            else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def network_of(arguments: list[str]) -> str:
    """The network that --network or a configuration file names; the last one wins, as for every value."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--network")
    given, _ = parser.parse_known_args(arguments)
    files = [yaml.safe_load(Path(file).read_text()) for file in given.config if Path(file).is_file()]
    named = [values["network"] for values in files if isinstance(values, dict) and "network" in values]
    name = given.network or (named or ["eomt_ext"])[-1]
    if name not in NETWORKS:
        raise SystemExit(f"network {name!r} is unknown: choose one of {', '.join(NETWORKS)}")
    return name


def main(arguments: list[str] | None = None) -> None:
    arguments = arguments or sys.argv[1:] or ["fit", "--config", str(DEFAULT_RECIPE)]
    Cli(
        NETWORKS[network_of(arguments)],
        RoadDataModule,
        args=arguments,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"default_env": False},
    )


if __name__ == "__main__":
    main()
