# SPDX-License-Identifier: MIT
"""Folders that training/export.py writes: what a graph of ONNX needs so that the engine can run it.

`model.onnx`, `config.json` and `calibration.json` (the checkpoint's own), and `export.json`: the size and
kind of the graph's input and output, and the SHA-256 of the other files and of the checkpoint's weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..model import EomtExt, EomtExtConfig
from ..model.calibration import read_calibration
from ..model.checkpoint import CONFIG, file_sha256, read_config, read_json
from ..model.scores import SCORES
from .checkpoints import EXPORT, EXPORT_COMMAND, default_checkpoint

GRAPH = "model.onnx"
FORMAT = "eomt_ext_onnx/1"
LARGEST_SIDE = 1 << 14   # px


@dataclass(frozen=True)
class Exported:
    """One exported graph, its files verified; sizes are (height, width) in px.

    sha256: of the weights it was made from. preprocess: it takes uint8 [B,h,w,3] and normalises itself; else
    float32 [B,3,h,w], normalised. output_size: of the class and anomaly maps it gives; None: it gives logits.
    score: of that anomaly map.
    """

    config: EomtExtConfig
    sha256: str
    model_id: str
    graph: Path
    size: tuple[int, int]
    preprocess: bool
    output_size: tuple[int, int] | None
    score: str | None
    calibration: dict[str, Any] = field(default_factory=dict)


def open_exported(checkpoint: str | Path | EomtExt | None) -> Exported:
    """Read an exported folder and verify every file.

    Raises FileNotFoundError for a missing folder or file; ValueError where it is no export, or where a file
    is damaged or belongs to another export: the message names it and the remedy.
    """
    if isinstance(checkpoint, EomtExt):
        raise ValueError(f"a model in memory is no exported graph: save it, then run `{EXPORT_COMMAND}`")
    folder = Path(checkpoint) if checkpoint else default_checkpoint()
    config, sha256 = read_config(folder)
    if not (folder / EXPORT).is_file():
        raise ValueError(f"{folder} is a checkpoint for backend='torch', not an exported graph (it has no "
                         f"{EXPORT}): run `{EXPORT_COMMAND} --checkpoint {folder}`")
    try:
        values = read_json(folder / EXPORT)
        size, output_size, score = _contents(values, config, sha256)
        for name in (GRAPH, CONFIG):
            if not (folder / name).is_file():
                raise ValueError(f"{name} is missing")
            if (actual := file_sha256(folder / name)) != values["files"][name]:
                raise ValueError(f"{name} has sha256 {actual}, but {EXPORT} says {values['files'][name]}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder} is not a whole export: {error!s}; export the checkpoint again") from error
    return Exported(config, sha256, f"{folder.resolve().name}-{sha256[:8]}", folder / GRAPH, size,
                    values["input"]["preprocess"], output_size, score, read_calibration(folder, sha256))


def _contents(values: dict[str, Any], config: EomtExtConfig,
              sha256: str) -> tuple[tuple[int, int], tuple[int, int] | None, str | None]:
    """Input size, and size and score of the maps inside; raises if a field is missing or does not fit."""
    if values["format"] != FORMAT or values["precision"] != "fp32":
        raise ValueError(f"it is {values['format']!r} in {values['precision']!r}, not {FORMAT!r} in 'fp32'")
    if values["weights_sha256"] != sha256:
        raise ValueError(f"it was made from weights {values['weights_sha256'][:8]}, "
                         f"but {CONFIG} is for {sha256[:8]}")
    size = _size(values["input"])
    if any(side % config.patch_size for side in size) or type(values["input"]["preprocess"]) is not bool:
        raise ValueError(f"input {values['input']} does not fit patches of {config.patch_size} px")
    inside = values["postprocess"]
    if inside is None:
        return size, None, None
    if inside["score"] not in SCORES:
        raise ValueError(f"score {inside['score']!r} is none of {', '.join(SCORES)}")
    return size, _size(inside), inside["score"]


def _size(values: dict[str, Any]) -> tuple[int, int]:
    height, width = values["height"], values["width"]
    if not all(type(side) is int and 0 < side <= LARGEST_SIDE for side in (height, width)):
        raise ValueError(f"size {height!r} x {width!r} is not two integers from 1 to {LARGEST_SIDE}")
    return height, width
