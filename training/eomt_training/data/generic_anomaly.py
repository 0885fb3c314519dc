# SPDX-License-Identifier: MIT
"""Benchmarks of anomaly segmentation: SegmentMeIfYouCan, Fishyscapes, RoadAnomaly, Lost&Found.

Labels become 0 normal, OUTLIER anomaly, IGNORE void; no known classes. Folders tell the layout:

- ``images/`` + ``labels_masks/``: SMIYC RoadAnomaly21 and RoadObstacle21 as they come
  (``NAME_labels_semantic.png``), and the flat validation layout that others are passed on in (``NAME.png``):
  RoadAnomaly21, RoadObsticle21, FS_LostFound_full, fs_static, RoadAnomaly;
- ``original/`` + ``labels/``: Fishyscapes Static and others, as some repositories prepare them;
- ``frames/NAME.jpg`` + ``frames/NAME.labels/labels_semantic.png``: RoadAnomaly as it comes;
- ``leftImg8bit/SPLIT/`` + ``gtCoarse/SPLIT/``: Lost&Found as it comes;
- ``leftImg8bit/`` of Lost&Found + ``fishyscapes_lostandfound/NNNN_NAME_labels.png``: Fishyscapes Lost&Found.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..targets import IGNORE, OUTLIER
from .files import Files, decode_labels, label_table, translate
from .pairs import ImagePairs, by_stem, pair_up

HELP = (
    "one of images/ + labels_masks/ (SegmentMeIfYouCan, flat validation sets), original/ + labels/, "
    "frames/ (RoadAnomaly), leftImg8bit/ + gtCoarse/ (Lost&Found), "
    "leftImg8bit/ + fishyscapes_lostandfound/ (Fishyscapes Lost&Found)"
)
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
NORMAL = 0
BENCHMARK = label_table({0: NORMAL, 1: OUTLIER, 255: IGNORE})  # SMIYC, Fishyscapes
ROAD_ANOMALY = label_table({0: NORMAL, 1: NORMAL, 2: OUTLIER, 255: IGNORE})  # 1 is road, where it was marked
# Lost&Found: 1 free space, 2 to 43 objects; what is beside the road (0) is unlabelled, and so are the objects
# that its authors call no hazards (marker poles, posts, timber, a wheel cap).
_NO_HAZARD = (31, 33, 34, 36, 37, 38, 39)
_OBJECTS = {0: IGNORE, 1: NORMAL, 255: IGNORE} | dict.fromkeys(range(2, 44), OUTLIER)
LOST_AND_FOUND = label_table(_OBJECTS | dict.fromkeys(_NO_HAZARD, IGNORE))
# SegmentMeIfYouCan's LostAndFound-testNoKnown: every object is an anomaly, and sequences with children and
# bicycles are left out (so are frames without any label, of which no pixel counts here either).
NO_KNOWN = label_table(_OBJECTS)
_KNOWN = (
    "15_Rechbergstr_Deckenpfronn",
    "01_Hanns_Klemm_Str_45_000006",
    "01_Hanns_Klemm_Str_45_000007",
    "10_Schlossberg_9_000004",
)


class FlatPairs(ImagePairs):
    """Encoded like RoadAnomaly (every frame of which holds a 2), or else as the benchmarks are."""

    def labels_of(self, name: str, path: str) -> np.ndarray:
        where = str(self.files.root / path)
        labels = decode_labels(self.files.read(path), where)
        return translate(labels, ROAD_ANOMALY if (labels == 2).any() else BENCHMARK, where)


def generic_anomaly(root: str | Path, split: str = "test") -> ImagePairs:
    """The labelled frames below ``root``; ``split``: train, test or testNoKnown, for Lost&Found alone.

    Raises FileNotFoundError where no layout is recognised, with the layouts, or labels are missing;
    ValueError for a split that there is not, or two frames of one name.
    """
    files, root = Files(root), Path(root)

    def has(*folders: str) -> bool:
        return all((root / folder).is_dir() for folder in folders)

    for folders in (("images", "labels_masks"), ("original", "labels")):
        if has(*folders):
            return _flat(files, *folders)
    if has("frames"):
        return _road_anomaly(files)
    if has("leftImg8bit", "fishyscapes_lostandfound"):
        return _fishyscapes(files)
    if has("leftImg8bit", "gtCoarse"):
        return _lost_and_found(files, split)
    inside = sorted(p.parent.name for p in root.glob("*/images") if p.is_dir())
    hint = f"; it holds {', '.join(inside)}: give one of these" if inside else ""
    raise FileNotFoundError(f"{root} holds no anomaly data set known here{hint}. Expected: {HELP}")


def _flat(files: Files, images: str, labels: str) -> ImagePairs:
    """Pictures without labels (held-out test frames) are left out; labels without a picture are an error."""
    by_name = {
        name.removesuffix("_labels_semantic"): path
        for name, path in by_stem(files.under(labels, PICTURES)).items()
        if not name.endswith(("_color", "_colour", "_instances", "_instance"))
    }
    pictures = by_stem(files.under(images, PICTURES))
    matched = pair_up(files, by_name, pictures, (labels, images), HELP)
    return FlatPairs(files, {n: (picture, label) for n, (label, picture) in matched.items()}, BENCHMARK)


def _road_anomaly(files: Files) -> ImagePairs:
    ending = ".labels/labels_semantic.png"
    images = {p.removesuffix(".jpg"): p for p in files.under("frames", (".jpg",))}
    labels = {p.removesuffix(ending): p for p in files.under("frames", (ending,))}
    pairs = pair_up(files, images, labels, ("frames", "frames/*.labels"), HELP)
    return ImagePairs(files, {name.split("/")[-1]: pair for name, pair in pairs.items()}, ROAD_ANOMALY)


def _fishyscapes(files: Files) -> ImagePairs:
    """The labels choose few of Lost&Found's frames."""
    where = "fishyscapes_lostandfound", "leftImg8bit"
    labels = {
        re.sub(r"^\d+_", "", name): path
        for name, path in by_stem(files.under(where[0], ("_labels.png",)), "_labels").items()
    }
    images = by_stem(files.under(where[1], ("_leftimg8bit.png",)), "_leftImg8bit")
    chosen = pair_up(files, labels, images, where, HELP)
    return ImagePairs(files, {n: (image, label) for n, (label, image) in chosen.items()}, BENCHMARK)


def _lost_and_found(files: Files, split: str) -> ImagePairs:
    if split not in ("train", "test", "testNoKnown"):
        raise ValueError(f"unknown Lost&Found split {split!r}: train, test or testNoKnown (SMIYC's)")
    no_known, folder = split == "testNoKnown", split.removesuffix("NoKnown")
    where = f"leftImg8bit/{folder}", f"gtCoarse/{folder}"
    images = by_stem(files.under(where[0], ("_leftimg8bit.png",)), "_leftImg8bit")
    labels = by_stem(files.under(where[1], ("_gtcoarse_labelids.png",)), "_gtCoarse_labelIds")
    pairs = pair_up(files, images, labels, where, HELP)
    if no_known:
        pairs = {name: pair for name, pair in pairs.items() if not name.startswith(_KNOWN)}
    return ImagePairs(files, pairs, NO_KNOWN if no_known else LOST_AND_FOUND)
