#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train EoMT-EXT: ``python training/fit.py fit --config training/configs/camvid/small_476.yaml``.

``network: erfnet`` or ``dense`` in a configuration trains a baseline instead. Without arguments the default
recipe runs. Every run leaves a folder with the resolved configuration, the environment, metrics (CSV;
TensorBoard, with samples of each validation) and, at its end, ``checkpoint/``: what the node and
`EomtExt.from_pretrained` (a baseline: `baselines.open_predictor`) load.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import lightning as L  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from lightning.pytorch.callbacks import ProgressBar  # noqa: E402
from lightning.pytorch.cli import LightningArgumentParser  # noqa: E402
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger  # noqa: E402

from eomt_training.baselines.dense_module import DenseModule  # noqa: E402
from eomt_training.baselines.erfnet_module import ErfNetModule  # noqa: E402
from eomt_training.data.datamodule import RoadDataModule  # noqa: E402
from eomt_training.lightning_module import EomtExtModule  # noqa: E402
from eomt_training.overlays import SampleOverlays  # noqa: E402
from eomt_training.progress import RunProgress  # noqa: E402
from eomt_training.recipe_files import RecipeCLI  # noqa: E402
from eomt_training.run_record import RunRecord  # noqa: E402

NETWORKS = {"eomt_ext": EomtExtModule, "erfnet": ErfNetModule, "dense": DenseModule}
DEFAULT_RECIPE = HERE / "configs/camvid/small_476.yaml"


class Cli(RecipeCLI):
    """Lightning's command line, plus what makes a run reproducible and its result usable."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--network", choices=NETWORKS, default="eomt_ext", help="what to train")
        parser.add_argument("--wandb", type=str, default="", help="also log to this Weights & Biases project")
        parser.add_lightning_class_args(SampleOverlays, "overlays")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Without a logger in the configuration: CSV and TensorBoard files in one numbered run folder."""
        config = self.config[self.subcommand]
        options = config["trainer"]
        root = Path(options.get("default_root_dir") or "runs")
        if options.get("logger") is None:
            csv = CSVLogger(root, name=None, flush_logs_every_n_steps=20)
            kwargs["logger"] = [csv, TensorBoardLogger(root, name=None, version=csv.version)]
            if config["wandb"]:
                kwargs["logger"].append(wandb_logger(config["wandb"], root))
        elif config["wandb"]:
            raise SystemExit("--wandb adds to the default loggers: leave it out, or leave trainer.logger out")
        self.trainer_defaults["callbacks"] = [RunRecord(config["seed_everything"])]
        own_bar = any(
            isinstance(x, ProgressBar) for x in self.config_init[self.subcommand].trainer.callbacks or []
        )
        if options.get("enable_progress_bar") is not False and not own_bar:
            self.trainer_defaults["callbacks"].append(RunProgress())
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        torch.set_float32_matmul_precision("high")


def wandb_logger(project: str, root: Path) -> WandbLogger:
    """Weights & Biases beside the other loggers; with WANDB_MODE=offline it stays on this machine."""
    try:
        return WandbLogger(project=project, save_dir=root)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"--wandb {project} needs the package wandb: pip install wandb. Without --wandb, metrics and "
            f"pictures go to CSV and TensorBoard alone ({error})"
        ) from None


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
    given = arguments or sys.argv[1:] or ["fit", "--config", str(DEFAULT_RECIPE)]
    Cli(
        NETWORKS[network_of(given)],
        RoadDataModule,
        args=None if given == sys.argv[1:] else given,  # Lightning warns where it has a command line too
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"default_env": False},
        trainer_defaults={"devices": 1},  # Lightning takes every GPU, and a recipe's batch for each of them
    )


if __name__ == "__main__":
    main()
