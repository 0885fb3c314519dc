# SPDX-License-Identifier: MIT
"""COCO 2017, things and stuff: the panoptic task's 133 classes, or COCO-Stuff's 171.

``{train,val}2017/NAME.jpg`` with ``annotations/panoptic_{train,val}2017.json`` and the folder of segment
images ``panoptic_{train,val}2017/`` (in ``annotations/`` or beside it), or with COCO-Stuff's
``stuffthingmaps/{train,val}2017/NAME.png``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..targets import IGNORE
from .coco_classes import PANOPTIC, STUFF, THINGS
from .files import Files, decode_image, label_table
from .pairs import ImagePairs, by_stem, pair_up

HELP = (
    "COCO 2017 with {train,val}2017/ and, extracted, panoptic_annotations_trainval2017.zip "
    "(cocodataset.org/#download) with the archives it holds"
)
STUFF_HELP = (
    "COCO 2017 with {train,val}2017/ and, extracted, stuffthingmaps/{train,val}2017/ "
    "(calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip)"
)
_CLASS_OF = {category: i for i, category in enumerate(PANOPTIC)}
# Maps of COCO-Stuff hold category ids less one.
STUFF_TABLE = label_table({255: IGNORE} | {category - 1: i for i, category in enumerate(THINGS | STUFF)})


class PanopticPairs(ImagePairs):
    """Labels as segment numbers, R + 256 G + 65536 B, whose categories ``segments`` holds for each name."""

    segments: dict[str, dict[int, int]]

    def labels_of(self, name: str, path: str) -> np.ndarray:
        colour = decode_image(self.files.read(path), str(self.files.root / path)).astype(np.uint32)
        numbers, inverse = np.unique(colour @ np.array([1, 256, 65536], np.uint32), return_inverse=True)
        known = {0: IGNORE} | self.segments[name]
        if unknown := [int(n) for n in numbers if int(n) not in known]:
            raise ValueError(
                f"{self.files.root / path} holds segment {unknown[0]}, which the JSON does not list"
            )
        return np.array([known[int(n)] for n in numbers], np.uint8)[inverse].reshape(colour.shape[:2])


def coco(root: str | Path, split: str) -> PanopticPairs:
    """133 classes; ``train`` (118287 images) or ``val`` (5000). FileNotFoundError names what is missing."""
    year = _checked(split)
    files, listing = Files(root), Path(root) / f"annotations/panoptic_{year}.json"
    if not listing.is_file():
        raise FileNotFoundError(f"{listing} is missing. Expected: {HELP}")
    segments = {
        Path(one["file_name"]).stem: {
            s["id"]: _class_of(s["category_id"], listing) for s in one["segments_info"]
        }
        for one in json.loads(listing.read_text())["annotations"]
    }
    folder = f"annotations/panoptic_{year}"
    if not (files.root / folder).is_dir() and (files.root / f"panoptic_{year}").is_dir():
        folder = f"panoptic_{year}"
    images, labels = by_stem(files.under(year, (".jpg",))), by_stem(files.under(folder, (".png",)))
    images = {name: path for name, path in images.items() if name in segments}
    pairs = PanopticPairs(files, pair_up(files, images, labels, (year, folder), HELP), STUFF_TABLE)
    pairs.segments = segments
    return pairs


def coco_stuff(root: str | Path, split: str) -> ImagePairs:
    """171 classes; ``train`` or ``val``. FileNotFoundError names what is missing and the remedy."""
    year = _checked(split)
    files, folder = Files(root), f"stuffthingmaps/{year}"
    images, labels = by_stem(files.under(year, (".jpg",))), by_stem(files.under(folder, (".png",)))
    return ImagePairs(files, pair_up(files, images, labels, (year, folder), STUFF_HELP), STUFF_TABLE)


def _checked(split: str) -> str:
    if split not in ("train", "val"):
        raise ValueError(f"unknown COCO split {split!r}: train or val")
    return f"{split}2017"


def _class_of(category: int, listing: Path) -> int:
    if category not in _CLASS_OF:
        raise ValueError(f"{listing} holds category {category}, which is none of COCO's {len(PANOPTIC)}")
    return _CLASS_OF[category]
