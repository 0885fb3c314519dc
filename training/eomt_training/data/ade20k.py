# SPDX-License-Identifier: MIT
"""ADE20K in its scene-parsing form (ADEChallengeData2016): 150 classes.

``images/{training,validation}/NAME.jpg`` and ``annotations/{training,validation}/NAME.png``; 0 is void.
"""

from __future__ import annotations

from pathlib import Path

from ..targets import IGNORE
from .files import Files, label_table
from .pairs import ImagePairs, by_stem, pair_up

HELP = (
    "the extracted folder ADEChallengeData2016, with images/ and annotations/ "
    "(data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip)"
)
FOLDERS = {"train": "training", "val": "validation"}
TABLE = label_table({0: IGNORE} | {i + 1: i for i in range(150)})


def ade20k(root: str | Path, split: str) -> ImagePairs:
    """``train`` (20210 images) or ``val`` (2000). FileNotFoundError names what is missing and the remedy."""
    if split not in FOLDERS:
        raise ValueError(f"unknown ADE20K split {split!r}: train or val")
    files, where = Files(root), (f"images/{FOLDERS[split]}", f"annotations/{FOLDERS[split]}")
    images, labels = by_stem(files.under(where[0], (".jpg",))), by_stem(files.under(where[1], (".png",)))
    return ImagePairs(files, pair_up(files, images, labels, where, HELP), TABLE)
