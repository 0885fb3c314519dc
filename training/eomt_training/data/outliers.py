# SPDX-License-Identifier: MIT
"""What is pasted as unknown: cut-outs and COCO's objects, with no kind of object on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .coco_objects import CocoObjects
from .cutouts import category_words, load_cutouts, words


def load_outliers(
    stamps_root: str | None, coco_root: str | None, split: str, known: Iterable[str] = ()
) -> list[Sequence[np.ndarray]]:
    """The sources that are there, each a sequence of RGBA cut-outs: stamps first, then COCO.

    split: ``train`` or ``eval``. known: names of the classes, which COCO's categories must not resemble.
    Evaluation objects of one source that share a word with a training object of the other are left out.
    """
    stamps = load_cutouts(stamps_root, split) if stamps_root else {}
    trained: set[str] = set()
    if coco_root and stamps_root and split == "eval":
        trained = trained.union(*(words(Path(p)) for p in load_cutouts(stamps_root, "train")))
        categories = set(CocoObjects(coco_root, "train", known).categories)
        seen = set[str]().union(*map(category_words, categories))
        stamps = {path: rgba for path, rgba in stamps.items() if not words(Path(path)) & seen}
    sources: list[Sequence[np.ndarray]] = [list(stamps.values())] if stamps else []
    return sources + ([CocoObjects(coco_root, split, known, trained)] if coco_root else [])
