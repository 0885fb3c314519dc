# SPDX-License-Identifier: MIT
"""Cityscapes, finely annotated: 19 classes, 1024x2048 px, extracted or in its official zip archives.

``leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png``.
"""

from __future__ import annotations

from pathlib import Path

from ..targets import IGNORE
from .files import Files, label_table
from .pairs import ImagePairs, by_stem, pair_up

ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
HELP = (
    "Cityscapes: the folders leftImg8bit/ and gtFine/, or the archives "
    f"{' and '.join(ARCHIVES)} as they are (www.cityscapes-dataset.com/downloads)"
)
# gtFine label ids (0 to 33) of the 19 evaluated classes, in the order of their train ids; the rest is void.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TABLE = label_table(dict.fromkeys(range(34), IGNORE) | {on_disk: i for i, on_disk in enumerate(LABEL_IDS)})


def cityscapes(root: str | Path, split: str) -> ImagePairs:
    """``train`` (2975 frames) or ``val`` (500). FileNotFoundError names what is missing and the remedy."""
    if split not in ("train", "val"):
        raise ValueError(f"unknown Cityscapes split {split!r}: train or val (test labels are not public)")
    files = Files(root, ARCHIVES)
    where = f"leftImg8bit/{split}", f"gtFine/{split}"
    images = by_stem(files.under(where[0], ("_leftimg8bit.png",)), "_leftImg8bit")
    labels = by_stem(files.under(where[1], ("_gtfine_labelids.png",)), "_gtFine_labelIds")
    return ImagePairs(files, pair_up(files, images, labels, where, HELP), TABLE)
