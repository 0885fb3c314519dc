# SPDX-License-Identifier: MIT
"""How fast a recipe trains: steps with the frozen backbone computed, and with its features cached.

Steps are Lightning's own (forward, losses, backward, clipping, optimiser) on one synthetic batch, without
data loading, callbacks and validation.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor
from torch.utils.data import DataLoader

from eomt_anomaly.model import Decoder, EomtExt
from eomt_anomaly.runtime.host import peak_mb

from ..data.datamodule import RoadDataModule
from ..lightning_module import EomtExtModule
from ..recipe_files import RecipeCLI
from ..targets import OUTLIER

CELLS = 4  # a synthetic label image is CELLS x CELLS squares of random classes, one of them an outlier
HEAD = ("batch", "frozen backbone", "ms a step", "images/s", "ratio", "peak MB", "GPU peak MB")


@dataclass(frozen=True)
class Case:
    batch_size: int
    cached: bool


@dataclass(frozen=True)
class Run:
    """What one process measured.

    ms: of each case its steps. peak_mb: MiB of the process; gpu_peak_mb: of its tensors on the GPU, None on a
    CPU. size: height and width of the crops, px. feature_bytes: see `feature_bytes`.
    """

    ms: list[list[float]]
    peak_mb: float
    gpu_peak_mb: float | None
    device: str
    precision: str
    size: tuple[int, int]
    feature_bytes: int


class Recipe(RecipeCLI):
    """The module, data module and trainer options of a recipe, from arguments as fit.py's."""

    def __init__(self, arguments: Sequence[str]):
        super().__init__(
            EomtExtModule,
            RoadDataModule,
            run=False,
            args=list(arguments),
            save_config_callback=None,
            parser_kwargs={"default_env": False},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--network", choices=["eomt_ext"], default="eomt_ext", help="what to train")


class CachedFeatures:
    """In place of a backbone's ``forward``: what it gave for the first batch, ever after."""

    def __init__(self, forward: Callable[..., Any]):
        self.forward, self.features = forward, None

    def __call__(self, pixels: Tensor, taps: tuple[int, ...]) -> Any:
        if self.features is None:
            self.features = self.forward(pixels, taps)
        return self.features


class Steps(L.Callback):
    """Gives each step the backbone of its case, cases in turns, and takes the steps' times, ms."""

    def __init__(self, cases: Sequence[Case], net: EomtExt):
        self.backbone: Any = net.backbone  # its forward is replaced at every step
        self.ms: list[list[float]] = [[] for _ in cases]
        computed: Callable[..., Any] = net.backbone.forward
        self.forwards = [CachedFeatures(computed) if case.cached else computed for case in cases]

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        self.backbone.forward = self.forwards[index % len(self.ms)]
        self.start = _now(module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self.ms[index % len(self.ms)].append(1e3 * (_now(module.device) - self.start))


def run(arguments: Sequence[str], cases: Sequence[Case], rounds: int) -> Run:
    """Train: every round has a step of each case; one round more comes first and does not count.

    arguments: as for fit.py, without its subcommand.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # barebones explains itself at length
    warnings.filterwarnings("ignore", module=r"lightning\.")
    recipe = Recipe(arguments)
    module, size, options = recipe.model, recipe.datamodule.crop, recipe.config.trainer
    batches = {case.batch_size: synthetic_batch(module.net, case.batch_size, size) for case in cases}
    steps = Steps(cases, module.net)
    torch.set_float32_matmul_precision("high")  # as fit.py
    trainer = L.Trainer(
        barebones=True,
        max_epochs=1,
        accelerator=options.accelerator,
        devices=1,
        precision=options.precision,
        gradient_clip_val=options.gradient_clip_val,
        callbacks=[steps],
    )
    turns = [batches[case.batch_size] for _ in range(rounds + 1) for case in cases]
    # torch takes any sequence; its annotation names Dataset alone.
    trainer.fit(module, DataLoader(turns, batch_size=None))  # type: ignore[arg-type]
    device = trainer.strategy.root_device
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    ms = [counted for _, *counted in steps.ms]
    needs = feature_bytes(module.net, size)
    return Run(ms, peak_mb(), gpu, str(device), str(options.precision), size, needs)


def run_alone(arguments: Sequence[str], cases: Sequence[Case], rounds: int) -> Run:
    """`run` in a process of its own. Raises RuntimeError where it is killed, for want of memory say."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # forked processes must not use CUDA or OpenMP
        return pool.submit(run, arguments, cases, rounds).result()


def synthetic_batch(net: EomtExt, count: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Noise with labels in large squares: ``pixels`` [B,3,H,W], ``labels`` [B,H,W], ``seed`` [B]."""
    random = torch.Generator().manual_seed(0)
    cells = torch.randint(net.config.num_classes, (count, 1, CELLS, CELLS), generator=random).float()
    cells[..., 0, 0] = OUTLIER
    return {
        "pixels": torch.randn(count, 3, *size, generator=random),
        "labels": F.interpolate(cells, size)[:, 0].long(),
        "seed": torch.arange(count),
    }


def feature_bytes(net: EomtExt, size: tuple[int, int]) -> int:
    """Bytes of what the decoder reads of the frozen blocks for one image of `size` px, in bfloat16."""
    patches = size[0] * size[1] // net.config.patch_size**2
    tokens = len(net.taps) * patches
    if net.config.decoder is Decoder.JOINT:
        tokens += net.backbone.num_prefix_tokens + patches
    return 2 * net.config.hidden_size * tokens


def rows(cases: Sequence[Case], timed: Run, weighed: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a case: medians over rounds. weighed: of each case the run that had it alone.

    ratio: images/s to those of the same batch with the backbone computed, which must be among the cases.
    """
    ms = {case: median(values) for case, values in zip(cases, timed.ms)}
    found = []
    for case, values, alone in zip(cases, timed.ms, weighed):
        found.append(
            {
                "batch_size": case.batch_size,
                "frozen_backbone": "cached" if case.cached else "computed",
                "ms": ms[case],
                "ms_low": min(values),
                "ms_high": max(values),
                "images_per_s": 1e3 * case.batch_size / ms[case],
                "ratio": ms[Case(case.batch_size, False)] / ms[case],
                "peak_mb": alone.peak_mb,
                "gpu_peak_mb": alone.gpu_peak_mb,
            }
        )
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in found:
        gpu = row["gpu_peak_mb"]
        lines.append(
            (
                str(row["batch_size"]),
                row["frozen_backbone"],
                f"{row['ms']:.0f}",
                f"{row['images_per_s']:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['peak_mb']:.0f}",
                "" if gpu is None else f"{gpu:.0f}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
