# SPDX-License-Identifier: MIT
"""Random training samples: frames, ordinary segments and outliers pasted into them, augmented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from eomt_anomaly.model import EomtExtConfig

from .folders import Frames
from .paint import paint_road
from .paste import anomaly_mix, paste_control, paste_objects
from .transforms import augment, to_tensors

if TYPE_CHECKING:
    from .datamodule import RoadDataModule

_DEFAULTS = EomtExtConfig()
COPIED = (0.8, 1.5)  # heights of copied segments, in heights of the camera: a person's
COPIED_PIXELS = 120  # the smallest that is copied
EPOCH = 1_000_000  # samples, where no max_steps says how many a run takes


class TrainFrames(Dataset):
    """Random training samples without end, ``length`` an epoch; sample i depends on (seed, i) alone."""

    def __init__(
        self,
        real: Frames,
        rendered: Frames | None,
        outliers: Sequence[Sequence[np.ndarray]],
        module: RoadDataModule,
        length: int = EPOCH,
    ):
        self.real, self.rendered, self.outliers = real, rendered, outliers
        self.module, self.length = module, length
        self.step_samples = module.batch_size  # of all processes together

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        options = self.module
        rng = np.random.default_rng((options.seed, index))
        if self.rendered is not None and rng.random() < options.drives_fraction:
            sample = self.rendered[int(rng.integers(len(self.rendered)))]
        else:
            sample = self.real[int(rng.integers(len(self.real)))]
        if options.paint_probability and rng.random() < options.paint_probability:
            sample = paint_road(sample, rng, options.ground_ids)
        if rng.random() < options.control_probability:
            other = self.real[int(rng.integers(len(self.real)))]
            sample, _ = paste_control(sample, other, rng, options.control_ids, surface_ids=options.ground_ids)
        if options.copy_paste_probability and rng.random() < options.copy_paste_probability:
            for _ in range(int(rng.integers(1, 4))):
                other = self.real[int(rng.integers(len(self.real)))]
                sample, _ = paste_control(
                    sample, other, rng, options.copy_paste_ids, COPIED_PIXELS, options.ground_ids, COPIED
                )
        if (self.outliers or options.paste.mix) and rng.random() < options.paste_probability:
            if options.paste.mix and rng.random() < options.paste.mix:
                other = self.real[int(rng.integers(len(self.real)))]
                sample = anomaly_mix(sample, other, rng, options.paste)
            elif self.outliers:
                source = self.outliers[0]
                if len(self.outliers) > 1 and rng.random() < options.coco_fraction:
                    source = self.outliers[1]
                sample = paste_objects(sample, source, rng, options.ground_ids, options.paste)
        image_size, crop = options.sizes(index // self.step_samples)
        sample = augment(sample, image_size, crop, rng, options.augmentation)
        tensors = to_tensors(sample, _DEFAULTS.pixel_mean, _DEFAULTS.pixel_std)
        return {**tensors, "seed": int(rng.integers(2**63))}  # of the points that losses are taken at


class Onwards(DistributedSampler):
    """Samples in order, dealt out to the processes; new epochs and resumed runs go on where the last ended.

    (Lightning puts a sampler of its own, which shuffles, in the place of any but a DistributedSampler.)
    """

    def __init__(self, frames: TrainFrames, trainer: Any):
        super().__init__(frames, trainer.world_size, trainer.global_rank, shuffle=False)
        self.frames, self.progress = frames, trainer.fit_loop.epoch_loop.batch_progress

    def __iter__(self) -> Iterator[int]:
        first = self.progress.total.ready * self.frames.step_samples
        return iter(range(first + self.rank, first + self.total_size, self.num_replicas))
