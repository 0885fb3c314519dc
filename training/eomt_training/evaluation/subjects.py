# SPDX-License-Identifier: MIT
"""What a command of evaluate.py measures: the models and the frames that its options name."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from eomt_anomaly.model.calibration import for_size, read_calibration
from eomt_anomaly.model.checkpoint import CALIBRATION, WEIGHTS, file_sha256

from ..baselines import open_predictor
from ..data.generic_anomaly import generic_anomaly
from ..data.left_out import LeftOut
from ..labels import require_classes
from ..targets import OUTLIER
from . import labelled
from .frames import Frames, degraded, every
from .labelled import CLASSES  # generic_anomaly has none
from .predictor import Predictor, Predicts
from .provenance import git_commit

DATA: dict[str, Callable[..., Frames]] = {**labelled.DATA, "generic_anomaly": generic_anomaly}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def open_model(args: argparse.Namespace, folder: Path) -> Predictor:
    """The network of a checkpoint folder, with the wanted scores. Raises as `open_predictor`."""
    network = open_predictor(folder, args.backbone)
    predictor = Predictor(network, args.short_side, DTYPES[args.precision], args.device, args.temperature)
    if args.scores:
        if unknown := sorted(set(args.scores) - set(predictor.scores)):
            raise ValueError(
                f"--scores {' '.join(unknown)}: {name_of(folder)} has {', '.join(predictor.scores)}"
            )
        predictor.scores = tuple(args.scores)
    return predictor


def labelled_frames(args: argparse.Namespace) -> Frames:
    """Every n-th frame of the data set; the classes that --left-out names are outliers."""
    frames: Frames = every(DATA[args.data](args.root, args.split), args.every)
    if args.left_out:
        frames = LeftOut(frames, args.left_out, CLASSES.get(args.data, ()), OUTLIER)
    return frames


def provenance(args: argparse.Namespace, predict: Predicts) -> dict[str, Any]:
    """What a result says of its making; no path of this machine."""
    return {
        "command": args.command,
        "data": args.data,
        "dataset": " without ".join([args.data, *args.left_out]),
        "split": args.split,
        "every": args.every,
        "short_side": predict.short_side,
        "precision": args.precision,
        "device": args.device,
        "checkpoint": name_of(args.checkpoint),
        "weights_sha256": file_sha256(args.checkpoint / WEIGHTS),
        "commit": git_commit(),
        "date": datetime.date.today().isoformat(),
    }


def models(args: argparse.Namespace, predict: Predicts) -> Iterator[tuple[str, Predicts]]:
    """The checkpoint (named "") and the baselines."""
    yield "", predict
    seen = {name_of(args.checkpoint)}
    for text in args.baseline:
        name, folder = named_folder(text)
        if name in seen:
            raise ValueError(f"two models are called {name!r}: give --baseline NAME={folder}")
        seen.add(name)
        yield name, open_model(args, folder)


def named_folder(text: str) -> tuple[str, Path]:
    """[NAME=]DIR; where DIR itself has an equals sign and no name is given, it must be there."""
    name, sign, folder = text.partition("=")
    if sign and not Path(text).is_dir():
        return name, Path(folder)
    return name_of(Path(text)), Path(text)


def name_of(folder: Path) -> str:
    """A checkpoint folder's name; of a run's RUN/version_N/checkpoint, the run's."""
    folder = folder.resolve()
    return folder.parent.parent.name if folder.name == "checkpoint" else folder.name


def conditions(args: argparse.Namespace, frames: Frames) -> Iterator[tuple[str, Frames]]:
    """The frames as they are, and degraded."""
    yield "clean", frames
    for kind in args.degraded:
        yield kind, degraded(frames, kind, args.severity, args.seed)


def over_all(
    args: argparse.Namespace,
    predict: Predicts,
    frames: Frames,
    measure: Callable[[str, Predicts, str, Frames], dict[str, Any]],
) -> dict[str, Any]:
    """``measure`` of each model in each condition, nested as in the JSON.

    All are opened first: a mistake in the last option must not cost the measurements before it.
    """
    result: dict[str, Any] = {}
    opened, views = list(models(args, predict)), list(conditions(args, frames))
    if args.command == "semantic":
        for _, predictor in opened:
            require_classes(predictor.labels, CLASSES.get(args.data, ()), args.data)
    for model, predictor in opened:
        of_model: dict[str, Any] = {}
        for condition, seen in views:
            measured = measure(model, predictor, condition, seen)
            if condition == "clean":
                of_model = measured
            else:
                of_model.setdefault("degraded", {})[condition] = measured
        if model:
            result.setdefault("baselines", {})[model] = of_model
        else:
            result = of_model
    return result | ({"degraded_severity": args.severity} if args.degraded else {})


def calibrated(checkpoint: Path, short_side: int) -> dict[str, float]:
    """{score: threshold} of a checkpoint that was calibrated, for this size if it was for this size.

    Raises ValueError for a calibration of other weights.
    """
    if not (checkpoint / CALIBRATION).is_file():
        return {}
    values = for_size(read_calibration(checkpoint, file_sha256(checkpoint / WEIGHTS)), short_side)
    return {values["score"]: values["threshold"]}


def progress(items: Any) -> Any:
    """Items with a bar that vanishes."""
    return tqdm(items, unit="frame", leave=False)
