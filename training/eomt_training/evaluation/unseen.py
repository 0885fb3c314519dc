# SPDX-License-Identifier: MIT
"""Objects to paste in evaluation, of kinds that no measured network was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.coco_objects import CocoObjects
from ..data.cutouts import category_words, load_cutouts, load_folder, words
from ..data.outliers import load_outliers
from ..data.synthetic.train_objects import TRAIN_KINDS
from ..json_files import read_object

SOURCES = ("stamps", "coco")
MADE_WITH = "made_with.json"  # of a mean of checkpoints


def trained_with(checkpoint: Path) -> set[str]:
    """Which of `SOURCES` the run that left ``checkpoint`` took outliers from, and the runs it started from.

    Read from the run's config.yaml, which lies beside its ``checkpoint/``, or from what mean_weights.py left
    in the checkpoint; nothing where there is neither.
    """
    if (checkpoint / MADE_WITH).is_file():
        return set(read_object(checkpoint / MADE_WITH).get("outliers", ()))
    config = _config(checkpoint)
    data, init = config.get("data", {}), config.get("model", {}).get("init")
    found = {name for name in SOURCES if data.get(f"{name}_root")} if data.get("paste_probability") else set()
    return found | (trained_with(Path(init)) if init else set())


def without_record(checkpoint: Path) -> Path | None:
    """The checkpoint, or one that it started from, of which nothing tells what it was trained with."""
    if (checkpoint / MADE_WITH).is_file():
        return None
    config = _config(checkpoint)
    init = config.get("model", {}).get("init")
    return (without_record(Path(init)) if init else None) if config else checkpoint


def _config(checkpoint: Path) -> dict[str, Any]:
    """The config.yaml beside ``checkpoint/``; empty where there is none."""
    file = checkpoint.resolve().parent / "config.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}


def unseen_objects(
    checkpoints: Sequence[Path],
    stamps: Path | None,
    coco: Path | None,
    known: Sequence[str],
    cutouts: Path | None = None,
) -> list[Sequence[np.ndarray]]:
    """The evaluation objects of each folder given, as validation has them (see `load_outliers`); with
    ``cutouts`` only those of this folder (see `unseen_cutouts`).

    known: names of the classes that were learned. Raises ValueError where a network was trained with a source
    that is not given (kinds of it could then be among the objects of the other), or where nothing is left.
    """
    if cutouts:
        return [list(unseen_cutouts(checkpoints, cutouts, stamps, coco, known).values())]
    given = _given(checkpoints, stamps, coco)
    found = load_outliers(str(stamps) if stamps else None, str(coco) if coco else None, "eval", known)
    if len(found) < sum(folder is not None for folder in given.values()):
        raise ValueError(f"every evaluation object of {stamps} resembles one that training has from {coco}")
    return found


def unseen_cutouts(
    checkpoints: Sequence[Path], folder: Path, stamps: Path | None, coco: Path | None, known: Sequence[str]
) -> dict[str, np.ndarray]:
    """All cut-outs of a folder that no training took objects from, {path: RGBA}: see `load_folder`.

    stamps, coco: where the networks' outliers came from. Left out is what shares a word with their training
    objects, with a kind of the rendered training drives, or with a class in ``known``. Raises ValueError
    where it is not known what a network was trained with, or where the folder holds files of ``stamps``.
    """
    _given(checkpoints, stamps, coco)
    unknown = [origin for origin in map(without_record, checkpoints) if origin]
    if unknown and not (stamps or coco):
        raise ValueError(
            f"what {unknown[0]} was trained with is not known (no config.yaml beside it): add --stamps DIR "
            "or --coco DIR, so that kinds of object it has seen are left out; they are not pasted"
        )
    taken = set[str]().union(*map(category_words, (*known, *TRAIN_KINDS)))
    if stamps:
        theirs = {(p.name, p.stat().st_size) for p in stamps.rglob("*.png")}
        if same := [p for p in folder.rglob("*.png") if (p.name, p.stat().st_size) in theirs]:
            raise ValueError(
                f"--cutouts {folder} is from the collection that training took objects from: {same[0].name} "
                f"is in {stamps} too. Give objects of another source, or --stamps alone"
            )
        taken = taken.union(*(words(Path(p)) for p in load_cutouts(str(stamps), "train")))
    if coco:
        taken = taken.union(*map(category_words, CocoObjects(coco, "train", known).categories))
    return load_folder(folder, taken)


def _given(checkpoints: Iterable[Path], stamps: Path | None, coco: Path | None) -> dict[str, Path | None]:
    """The folders by source. Raises ValueError where a network was trained with one that is not given."""
    given = {"stamps": stamps, "coco": coco}
    for checkpoint in checkpoints:
        for name in SOURCES:
            if given[name] is None and name in trained_with(checkpoint):
                raise ValueError(
                    f"the outliers that {checkpoint} was trained with came from {name}: add --{name} DIR, so "
                    "that kinds of object it has seen are left out"
                )
    return given
