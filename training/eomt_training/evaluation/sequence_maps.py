# SPDX-License-Identifier: MIT
"""The network's maps of a sequence, kept in a folder: inference once, as many replays as tuning needs.

FOLDER/NAME/00000.npz holds the class map uint8 [H,W] and each raw score float16 [h,w] on the network's own
grid; upsampling them gives what the node sees, to float16's rounding. FOLDER/maps.json says what made them,
FOLDER/NAME/sequence.json which drive they show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.folders import Sample
from ..data.sequences import ABOUT as SEQUENCE
from ..data.sequences import Sequence
from ..json_files import read_object
from .predictor import Predictor, published, upsampled

ABOUT = "maps.json"


def open_maps(folder: Path, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """What made the maps of a folder; with `about` given, begin the folder or check that it goes on alike.

    Raises FileNotFoundError for a folder without maps, ValueError where another run made them.
    """
    path = folder / ABOUT
    if about is not None and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about, indent=1))
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `sequence_quality.py infer` first")
    found = read_object(path)
    changed = {k: v for k, v in (about or {}).items() if found.get(k) != v}
    if changed:
        kept = ", ".join(f"{k} {found.get(k)!r}, now {v!r}" for k, v in changed.items())
        raise ValueError(f"{folder} holds maps of another run ({kept}): name another folder")
    return found


def infer(predict: Predictor, sequence: Sequence, folder: Path, indices: Many[int]) -> int:
    """Write the maps of a sequence's frames that are not there yet; return how many. Raises as `Maps`."""
    home, done = Maps(folder, sequence).folder, 0
    home.mkdir(parents=True, exist_ok=True)
    (home / SEQUENCE).write_text(json.dumps(sequence.about))
    for i in indices:
        path = home / f"{i:05d}.npz"
        if path.exists():
            continue
        sample = Sample(sequence.image(i), sequence.labels(i), sequence.name)
        semantic, scores = predict.small_maps(sample, predict.scores)
        classes = upsampled(semantic, sample.labels.shape).argmax(0).byte().cpu().numpy()
        half = {name: value[0].cpu().numpy().astype(np.float16) for name, value in scores.items()}
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            # The stubs check every array against the type of allow_pickle.
            np.savez_compressed(file, classes=classes, **half)  # type: ignore[arg-type]
        part.replace(path)  # whole, or not there
        done += 1
    return done


class Maps:
    """The kept maps of one sequence. Raises ValueError where they are of another drive of its name."""

    def __init__(self, folder: Path, sequence: Sequence):
        self.folder = folder / sequence.name
        kept = self.folder / SEQUENCE
        if kept.is_file() and read_object(kept) != sequence.about:
            raise ValueError(
                f"{self.folder} holds maps of another drive than {sequence.folder}, which was rendered anew "
                "since: infer it into another folder"
            )

    def read(self, index: int, score: str) -> tuple[np.ndarray, np.ndarray]:
        """Class map uint8 [H,W] and a score float32 [H,W]; ``eomt_ext`` is bounded to [0,1).

        Raises FileNotFoundError for a frame that was not inferred, ValueError for a score that was not kept.
        """
        path = self.folder / f"{index:05d}.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: run `sequence_quality.py infer` to its end")
        with np.load(path) as kept:
            if score not in kept:
                known = ", ".join(name for name in kept if name != "classes")
                raise ValueError(f"{path} has no score {score!r}: one of {known}")
            classes, small = kept["classes"], torch.from_numpy(kept[score].astype(np.float32))
        return classes, published(score, small[None], classes.shape).numpy()
