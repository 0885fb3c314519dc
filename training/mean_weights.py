#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The uniform mean of checkpoints' weights as a new checkpoint ("model soup", Wortsman et al., 2022).

  python training/mean_weights.py --output DIR CHECKPOINT CHECKPOINT [...]

All must be runs from the same start, with the same configuration: the mean of networks that were trained
apart is no network. A frozen backbone stays out of the file where it is out of all of theirs. made_with.json
names the sources and their hashes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from torch import Tensor  # noqa: E402

from eomt_anomaly.model import EomtExt  # noqa: E402
from eomt_anomaly.model.checkpoint import CALIBRATION, PREFIX, WEIGHTS, read_config  # noqa: E402
from eomt_training.evaluation.provenance import git_commit  # noqa: E402
from eomt_training.evaluation.subjects import name_of  # noqa: E402
from eomt_training.evaluation.unseen import MADE_WITH, trained_with  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--backbone", help="file or folder of the frozen backbone, if in no usual place")
    args = parser.parse_args(argv)
    try:
        write_mean(args.checkpoints, args.output, args.backbone)
    except (OSError, ValueError) as error:
        print(f"mean_weights: {error}", file=sys.stderr)
        return 1
    print(
        f"written: {args.output}, the mean of {len(args.checkpoints)} checkpoints. It has no {CALIBRATION}: "
        "a threshold belongs to the weights it was chosen for. Run `python training/evaluate.py calibrate "
        f"--checkpoint {args.output} ...`"
    )
    return 0


def write_mean(checkpoints: Sequence[Path], output: Path, backbone: str | None = None) -> None:
    """Write the mean of checkpoint folders, and what it was made of, to the folder ``output``.

    Raises ValueError: fewer than two, the same weights twice, configurations that differ, buffers that
    differ, or an output that holds something already; else as `EomtExt.from_pretrained`.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output} holds something already: name a new folder")
    hashes = same_config(checkpoints)
    models = [EomtExt.from_pretrained(folder, backbone=backbone) for folder in checkpoints]
    states = [model.state_dict() for model in models]
    models[0].load_state_dict(mean(states, checkpoints))
    stored = any(holds_backbone(folder) for folder in checkpoints)
    models[0].save_pretrained(output, include_backbone=stored, backbone=backbone)
    sources = [
        {"checkpoint": name_of(folder), "weights_sha256": sha256}
        for folder, sha256 in zip(checkpoints, hashes)
    ]
    outliers = set[str]().union(*map(trained_with, checkpoints))  # evaluate.py pastes none of these kinds
    made = {"command": "mean_weights.py", "commit": git_commit(), "sources": sources}
    made["outliers"] = sorted(outliers)
    (output / MADE_WITH).write_text(json.dumps(made, indent=2) + "\n")


def same_config(checkpoints: Sequence[Path]) -> list[str]:
    """SHA-256 of each one's weights, as its config.json has it. Raises ValueError as `write_mean`."""
    if len(checkpoints) < 2:
        raise ValueError("a mean needs two checkpoints or more")
    hashes: dict[str, Path] = {}
    first, _ = read_config(checkpoints[0])
    for folder in checkpoints:
        config, sha256 = read_config(folder)
        if config != first:
            differing = difference("config", first.to_dict(), config.to_dict())
            raise ValueError(f"{folder} is not of the kind of {checkpoints[0]}: its {differing}")
        if sha256 in hashes:
            raise ValueError(f"{folder} has the same weights as {hashes[sha256]}: name each once")
        hashes[sha256] = folder
    return list(hashes)


def mean(states: Sequence[Mapping[str, Tensor]], names: Sequence[object]) -> dict[str, Tensor]:
    """The mean of each tensor of states with the same keys, in float32; what is equal in all stays as it is.

    Raises ValueError for a tensor that is not floating point and differs; it names the key and the state.
    """
    found = {}
    for key, first in states[0].items():
        tensors = [state[key] for state in states]
        if differing := [n for n, tensor in zip(names, tensors) if not torch.equal(tensor, first)]:
            if not first.is_floating_point():
                raise ValueError(f"{key} is {first.dtype}, which has no mean, and {differing[0]} has another")
            found[key] = torch.stack([tensor.float() for tensor in tensors]).mean(0)
        else:
            found[key] = first
    return found


def holds_backbone(folder: Path) -> bool:
    """Whether the frozen backbone is in a checkpoint's file."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        return any(name.startswith(PREFIX) for name in file.keys())


def difference(name: str, ours: Any, theirs: Any) -> str:
    """Where two unequal JSON values differ first: "config.labels[2].name is 'tree', not 'sky'"."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        places = [(f"{name}.{key}", ours[key], theirs[key]) for key in ours]
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        places = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(ours, theirs))]
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return f"{name} has {len(theirs)} entries, not {len(ours)}"
    else:
        return f"{name} is {theirs!r}, not {ours!r}"
    return difference(*next(place for place in places if place[1] != place[2]))


if __name__ == "__main__":
    sys.exit(main())
