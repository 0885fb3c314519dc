# SPDX-License-Identifier: MIT
"""Cut-outs of COCO's annotated instances: outliers for training, and others for evaluation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .cutouts import category_words, fit_cutout, split_of
from .files import decode_image

HELP = (
    "COCO 2017 with {train,val}2017/ and annotations/instances_{train,val}2017.json "
    "(cocodataset.org/#download: 2017 images, 2017 Train/Val annotations)"
)
# Part of ordinary streets, whatever the classes of the data set are called.
ROAD_USERS = {"person", "bicycle", "car", "motorcycle", "bus", "train", "truck"}
STREET_FURNITURE = "outdoor"  # COCO's supercategory of traffic lights, stop signs, hydrants, meters, benches


def split_of_category(name: str) -> str:
    """``train`` or ``eval``: whole categories, so that no kind of object is on both sides."""
    return split_of(f"coco/{name}")


class CocoObjects(Sequence[np.ndarray]):
    """RGBA cut-outs uint8 [h,w,4], colours premultiplied, longest side at most ``max_side``; read on access.

    Whole objects only: no crowds, nothing that touches the picture's border, at least ``min_area`` px. A
    category is left out if it is part of ordinary streets, or if it or its supercategory shares a word with
    a class in ``known`` or with ``excluded`` words.

    Args:
        root: folder with train2017/, val2017/ and annotations/.
        split: ``train`` (images of train2017) or ``eval`` (val2017); categories are disjoint too.
        per_category: at most as many objects of one category, evenly spread.

    Raises:
        FileNotFoundError: the annotations are missing, or no object is left.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        known: Iterable[str] = (),
        excluded: Iterable[str] = (),
        min_area: int = 64 * 64,
        per_category: int = 500,
        max_side: int = 320,
    ):
        if split not in ("train", "eval"):
            raise ValueError(f"unknown split {split!r}: train or eval")
        year = {"train": "train2017", "eval": "val2017"}[split]
        listing = Path(root) / f"annotations/instances_{year}.json"
        if not listing.is_file():
            raise FileNotFoundError(f"{listing} is missing. Expected: {HELP}")
        self.folder, self.max_side = Path(root) / year, max_side
        taboo = set(excluded).union(*map(category_words, known))
        content = json.loads(listing.read_text())
        names = {
            c["id"]: c["name"]
            for c in content["categories"]
            if split_of_category(c["name"]) == split
            and c["name"] not in ROAD_USERS
            and c["supercategory"] != STREET_FURNITURE
            and not (category_words(c["name"]) | category_words(c["supercategory"])) & taboo
        }
        images = {i["id"]: i for i in content["images"]}
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in content["annotations"]:
            image = images[one["image_id"]]
            if one["category_id"] in names and one["area"] >= min_area and _is_whole(one, image):
                found[names[one["category_id"]]].append(
                    {"file": image["file_name"], "box": one["bbox"], "polygons": one["segmentation"]}
                )
        self.objects: list[dict[str, Any]] = []
        self.categories: list[str] = []
        for name, objects in sorted(found.items()):
            chosen = np.linspace(0, len(objects) - 1, min(per_category, len(objects))).round().astype(int)
            self.objects += [objects[i] for i in chosen]
            self.categories += [name] * len(chosen)
        if not self.objects:
            raise FileNotFoundError(f"{listing} holds no usable object for {split}. Expected: {HELP}")

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        one = self.objects[index]
        path = self.folder / one["file"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing. Expected: {HELP}")
        image = decode_image(path.read_bytes(), str(path))
        mask = np.zeros(image.shape[:2], np.uint8)
        outlines = [np.asarray(p).reshape(-1, 1, 2).round().astype(np.int32) for p in one["polygons"]]
        cv2.fillPoly(mask, outlines, 255)
        alpha = cv2.erode(mask, np.ones((3, 3), np.uint8))  # people outline objects generously
        return fit_cutout(np.dstack([image, cv2.GaussianBlur(alpha, (3, 3), 0.8)]), self.max_side)


def _is_whole(annotation: dict[str, Any], image: dict[str, Any], margin: float = 2) -> bool:
    """Outlined by polygons, away from the picture's border, and not mostly hidden by others."""
    x, y, width, height = annotation["bbox"]
    return (
        not annotation["iscrowd"]
        and min(x, y) >= margin
        and x + width <= image["width"] - margin
        and y + height <= image["height"] - margin
        and annotation["area"] > 0.3 * width * height
        and len(annotation["segmentation"]) == 1
    )
