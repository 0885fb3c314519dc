# SPDX-License-Identifier: MIT
"""The CPU pipeline: one thread of its own does all the work, image by image, in the order of submission."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .pipeline import Picture, Prediction, Setup
from .postprocess import exact, finish, fuse, require_finite
from .preprocess import Normalizer, Plan, network_input
from .raw_pixels import raw_input
from .upsample import warm_up


class CpuPipeline:
    """Images one by one (a batch gains nothing on a CPU and costs memory); callers may be any threads.

    threads: of the network's arithmetic; None leaves torch's choice. The setting belongs to the pipeline's
        thread.
    """

    def __init__(self, setup: Setup, threads: int | None = None):
        self.setup = setup
        config = setup.network.config
        self._normalize = Normalizer(config.pixel_mean, config.pixel_std, setup.dtype)
        start = (torch.set_num_threads, (threads,)) if threads else (None, ())
        self._worker = ThreadPoolExecutor(1, "eomt-cpu", *start)
        self._worker.submit(self._warm_up)      # before the first image, while the caller goes on

    def submit(self, images: Sequence[Picture]) -> Future[list[Prediction]]:
        """Queue the images; the caller may reuse them only after the result is there."""
        return self._worker.submit(lambda: [self._one(image) for image in images])

    def result(self, handle: Future[list[Prediction]]) -> list[Prediction]:
        """Wait; see `Pipeline`."""
        return handle.result()

    def at(self, short_side: int) -> CpuPipeline:
        """On the same thread; see `Pipeline`."""
        other = copy.copy(self)
        other.setup = replace(self.setup, short_side=short_side)
        return other

    def close(self) -> None:
        """Finish what is queued, end the thread and drop the network."""
        self._worker.shutdown()
        del self.setup, self._normalize

    @torch.inference_mode()
    def _one(self, image: Picture) -> Prediction:
        if isinstance(image, torch.Tensor):     # decoded on a GPU whose memory then ran out
            image = image.numpy(force=True)
        clock = time.perf_counter
        t0 = clock()
        plan = self.setup.plan(*image.shape[:2])
        pixels = self._input(image, plan)
        t1 = clock()
        output = self._forward(pixels)
        t2 = clock()
        class_map, anomaly = self._maps(output, plan)
        t3 = clock()
        stages = {"preprocess": t1 - t0, "forward": t2 - t1, "postprocess": t3 - t2, "total": t3 - t0}
        return Prediction(class_map, anomaly, {name: 1e3 * s for name, s in stages.items()})

    def _warm_up(self) -> None:
        if not self.setup.exact:
            warm_up()

    def _input(self, image: np.ndarray, plan: Plan) -> Any:
        if self.setup.raw_pixels:
            return raw_input(image, plan)                                          # int8 [n,3,h,w]
        return network_input(image, plan, self._normalize)                         # [n,3,h,w]

    def _forward(self, pixels: Any) -> Any:
        output = self.setup.forward(pixels)
        require_finite(output)
        return output

    def _maps(self, output: Any, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        if self.setup.exact:
            class_map, anomaly = exact(output, plan, self.setup.score)
            return class_map.numpy(), anomaly.numpy()
        return finish(fuse(output, self.setup.score).numpy(), plan, self.setup.score)
