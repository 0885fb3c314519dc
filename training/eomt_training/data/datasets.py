# SPDX-License-Identifier: MIT
"""The labelled data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .ade20k import ade20k
from .cityscapes import cityscapes
from .coco import coco, coco_stuff
from .folders import SegmentationFolder, camvid
from .pairs import ImagePairs

DATASETS: dict[str, Callable[[str | Path, str], SegmentationFolder | ImagePairs]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "coco": coco,
    "coco_stuff": coco_stuff,
}


def open_dataset(name: str, root: str | Path, split: str) -> SegmentationFolder | ImagePairs:
    """Labelled frames; ``name`` is also the key of their classes in `labels.LABELS`.

    Raises ValueError for an unknown name or split, FileNotFoundError with the remedy where files are missing.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name](root, split)
