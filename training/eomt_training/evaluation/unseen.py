# SPDX-License-Identifier: MIT
"""Objects to paste in evaluation, of kinds that no measured network was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.outliers import load_outliers

SOURCES = ("stamps", "coco")


def trained_with(checkpoint: Path) -> set[str]:
    """Which of `SOURCES` the run that left ``checkpoint`` took outliers from, and the runs it started from.

    Read from the run's config.yaml, which lies beside its ``checkpoint/``; nothing where there is none.
    """
    file = checkpoint.resolve().parent / "config.yaml"
    if not file.is_file():
        return set()
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    data, init = config.get("data", {}), config.get("model", {}).get("init")
    found = {name for name in SOURCES if data.get(f"{name}_root")} if data.get("paste_probability") else set()
    return found | (trained_with(Path(init)) if init else set())


def unseen_objects(
    checkpoints: Iterable[Path], stamps: Path | None, coco: Path | None, known: Iterable[str]
) -> list[Sequence[np.ndarray]]:
    """The evaluation objects of each folder given, as validation has them: see `load_outliers`.

    known: names of the classes that were learned. Raises ValueError where a network was trained with a source
    that is not given (kinds of it could then be among the objects of the other), or where nothing is left.
    """
    given = {"stamps": stamps, "coco": coco}
    for checkpoint in checkpoints:
        for name in SOURCES:
            if given[name] is None and name in trained_with(checkpoint):
                raise ValueError(
                    f"the outliers that {checkpoint} was trained with came from {name}: add --{name} DIR, so "
                    "that kinds of object it has seen are left out"
                )
    found = load_outliers(str(stamps) if stamps else None, str(coco) if coco else None, "eval", known)
    if len(found) < sum(folder is not None for folder in given.values()):
        raise ValueError(f"every evaluation object of {stamps} resembles one that training has from {coco}")
    return found
