# SPDX-License-Identifier: MIT
"""One process of `runtime.scaling`: an engine with random weights that runs its images when told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np
import torch

from ..model import EomtExt, EomtExtConfig
from .engine import Engine
from .host import peak_mb


@dataclass(frozen=True)
class Load:
    """An engine and the images that it gets at once.

    model: preset of `EomtExtConfig`. image: height and width of each image, px. side: short side of the
    network's input, px. images: how many in one call. threads: of torch and OpenCV; None: their choice.
    options: further fields of `EomtExtConfig`.
    """

    model: str
    image: tuple[int, int]
    side: int
    queries: int
    images: int = 1
    threads: int | None = None
    device: str = "cpu"
    precision: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def config(self) -> EomtExtConfig:
        own = {"num_queries": self.queries, "image_size": self.side, **self.options}
        return EomtExtConfig.preset(self.model, **own)


class Worker:
    """A process that has built and warmed up its engine; a context manager that ends it."""

    def __init__(self, load: Load):
        context = get_context("spawn")   # forked processes must not use CUDA or OpenMP
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(load, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.precision: str = self.answer()["precision"]

    def go(self) -> None:
        """Begin one call of `Engine.infer`."""
        self._pipe.send(True)

    def answer(self) -> dict[str, Any]:
        """Wait for the end of the call; see `serve`. Raises RuntimeError where the process has failed."""
        try:
            found = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a process ended with status {self._process.exitcode} (-9: out of memory?): "
                               "give fewer or smaller values") from None
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._pipe.send(False)
        except BrokenPipeError:      # it has ended by itself
            pass
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(load: Load, pipe: Connection) -> None:
    """Say the precision in force; then for every True received one call, and what it took."""
    try:
        torch.manual_seed(0)
        if load.threads:
            cv2.setNumThreads(load.threads)
        with Engine(EomtExt(load.config()), load.device, load.precision, threads=load.threads) as engine:
            random = np.random.default_rng(0)
            images = [random.integers(0, 256, (*load.image, 3), np.uint8) for _ in range(load.images)]
            engine.infer(images)
            pipe.send({"precision": engine.precision})
            while pipe.recv():
                pipe.send(_call(engine, images))
    except Exception as error:
        pipe.send({"error": f"{type(error).__name__}: {error}"})


def _call(engine: Engine, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """CPU ms of all threads, mean ms an image of each stage, peak MiB of the process and of its tensors on
    the GPU (None on a CPU)."""
    cuda = engine.device.startswith("cuda")
    start = time.process_time()
    predictions = engine.infer(images)
    cpu_ms = 1e3 * (time.process_time() - start)
    stages = {name: sum(p.timings_ms[name] for p in predictions) / len(predictions)
              for name in predictions[0].timings_ms}
    return {"cpu_ms": cpu_ms, "stages_ms": stages, "peak_mb": peak_mb(),
            "gpu_peak_mb": torch.cuda.max_memory_allocated(engine.device) / 2**20 if cuda else None}
