# SPDX-License-Identifier: MIT
"""Labelled frames with outliers in them, as a script's options name them: those of `evaluate.py anomaly`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eomt_anomaly.model import Label

from ..data.datasets import DATASETS
from ..data.folders import drives
from ..data.outliers import load_outliers
from ..labels import LABELS, ground_ids, require_classes
from .frames import Frames, every, pasted

DATA: dict[str, Callable[..., Frames]] = {**DATASETS, "drives": drives}
CLASSES = {**LABELS, "drives": LABELS["camvid"]}
OPTIONS = ("data", "split", "every", "seed")  # what of them a result repeats; no path of this machine


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `labelled_frames` reads."""
    add = parser.add_argument
    add("--data", choices=tuple(DATA), default="camvid")
    add("--root", type=Path, required=True, help="the data set's folder")
    add("--split", default="val")
    add("--stamps", type=Path, help="folder of RGBA cut-outs; its evaluation half is pasted")
    add("--every", type=int, default=1, help="use every n-th frame")
    add("--seed", type=int, default=0, help="of what is pasted where")


def labelled_frames(args: argparse.Namespace, labels: Sequence[Label]) -> Frames:
    """The frames of `evaluate.py anomaly` with the same options, for a network with these classes.

    Raises ValueError where the data has other classes, or no outliers.
    """
    require_classes(labels, CLASSES[args.data], args.data)
    if args.data != "drives" and not args.stamps:
        raise ValueError(f"{args.data} has no outliers: give --stamps DIR to paste unseen objects")
    frames: Frames = every(DATA[args.data](args.root, args.split), args.every)
    if args.stamps:
        sources = load_outliers(str(args.stamps), None, "eval", [label.name for label in labels])
        frames = pasted(frames, sources, args.seed, ground_ids(CLASSES[args.data]))
    return frames


def about_frames(args: argparse.Namespace, frames: Frames) -> dict[str, Any]:
    """What a result says of its frames."""
    return {
        "frames": len(frames),
        **{name: getattr(args, name) for name in OPTIONS},
        "pasted": args.stamps is not None,
    }
