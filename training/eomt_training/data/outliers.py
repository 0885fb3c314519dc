# SPDX-License-Identifier: MIT
"""What is pasted as unknown: cut-outs and COCO's objects, with no kind of object on both sides.

Kinds are told by words of names. A stamp of a known class is not pasted, but still counts for what evaluation
may have: a class more takes objects out of the evaluation, and brings none into it.
"""

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

    split: ``train`` or ``eval``. known: names of the classes, none of which is an outlier: a stamp that has a
    word of one in its file's name or its folders is left out, and so is such a category of COCO.
    Evaluation objects of one source that share a word with a training object of the other are left out.
    Raises FileNotFoundError where a source has nothing, or nothing of an unknown kind.
    """
    stamps = _unknown(load_cutouts(stamps_root, split), known, stamps_root) if stamps_root else {}
    trained: set[str] = set()
    if coco_root and stamps_root and split == "eval":
        trained = trained.union(*(words(Path(p)) for p in load_cutouts(stamps_root, "train")))
        categories = set(CocoObjects(coco_root, "train", known).categories)
        seen = set[str]().union(*map(category_words, categories))
        stamps = {path: rgba for path, rgba in stamps.items() if not words(Path(path)) & seen}
    sources: list[Sequence[np.ndarray]] = [list(stamps.values())] if stamps else []
    return sources + ([CocoObjects(coco_root, split, known, trained)] if coco_root else [])


def _unknown(stamps: dict[str, np.ndarray], known: Iterable[str], root: str) -> dict[str, np.ndarray]:
    """The stamps {path: RGBA} without those of known classes."""
    taboo = _singular_too(set[str]().union(*map(category_words, known)))
    left = {
        path: rgba
        for path, rgba in stamps.items()
        if not _singular_too(category_words(path.removesuffix(".png"))) & taboo
    }
    if not left:
        raise FileNotFoundError(
            f"{root} holds only cut-outs of a class that the network learns, by the words of their names and "
            "folders: give a folder with cut-outs of other things, or none"
        )
    return left


def _singular_too(found: set[str]) -> set[str]:
    return {word.removesuffix(ending) for word in found for ending in ("", "s", "es")}
