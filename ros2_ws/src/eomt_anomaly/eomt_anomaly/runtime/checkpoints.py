# SPDX-License-Identifier: MIT
"""Opens a checkpoint for the engine: the model, who it is, and how its score was calibrated."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..model import EomtExt, EomtExtConfig
from ..model.backbone_store import tensor_digest
from ..model.checkpoint import CALIBRATION, WEIGHTS, from_pretrained, read_config, read_json
from ..model.scores import SCORES

EXPORT = "export.json"   # marks a folder written by training/export.py
EXPORT_COMMAND = "python training/export.py --output DIR --height H --width W"


@dataclass(frozen=True)
class Opened:
    """An fp32 model on the CPU, the SHA-256 of its weights, a short name, calibration.json ({} if none).

    size, score: None, because only an exported graph fixes them (see `exported.Exported`).
    """

    model: EomtExt
    sha256: str
    model_id: str
    calibration: dict[str, Any] = field(default_factory=dict)
    size: None = None
    score: None = None

    @property
    def config(self) -> EomtExtConfig:
        return self.model.config


def default_checkpoint() -> Path:
    """The folder of the checkpoint inside the package."""
    return Path(str(resources.files("eomt_anomaly") / "checkpoints" / "default"))


def open_checkpoint(checkpoint: str | Path | EomtExt | None, backbone: str | Path | None = None) -> Opened:
    """Open a folder, the embedded default ("" or None), or a model that is already in memory.

    Raises what `EomtExt.from_pretrained` raises; ValueError for a calibration.json that is not valid, and
    for an exported folder without the weights it was made from.
    """
    if isinstance(checkpoint, EomtExt):
        digest = tensor_digest(checkpoint.state_dict())
        return Opened(checkpoint, digest, f"memory-{digest[:8]}")
    folder = Path(checkpoint) if checkpoint else default_checkpoint()
    if (folder / EXPORT).is_file() and not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} is an exported graph: give backend='onnxruntime' or 'openvino', or the "
                         "checkpoint that it was made from")
    model = from_pretrained(folder, backbone=backbone)
    sha256 = read_config(folder)[1]
    return Opened(model, sha256, f"{folder.resolve().name}-{sha256[:8]}", read_calibration(folder, sha256))


def read_calibration(folder: Path, sha256: str) -> dict[str, Any]:
    """calibration.json of a folder: `score` (in SCORES), `threshold` in (0,1), more; {} if no file.

    `other_sizes`, a list of the same for other short sides, may be among it: see
    `model.checkpoint.for_size`. One whose `weights_sha256` is not `sha256` is refused: its threshold says
    nothing about these weights.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
        _check_calibration(values, sha256)
        others = values.get("other_sizes", [])
        if not isinstance(others, list):
            raise ValueError("other_sizes must be a list")
        for other in others:
            _check_calibration(other, sha256)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a valid calibration: {error}; "
                         "write it anew with training/evaluate.py calibrate") from error
    return values


def _check_calibration(values: Any, sha256: str) -> None:
    if not isinstance(values, dict) or values.get("score") not in list(SCORES):   # it may be unhashable
        raise ValueError(f"score must be one of {', '.join(SCORES)}")
    threshold = values.get("threshold")
    if not isinstance(threshold, float) or not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold is {threshold!r}, but must lie between 0 and 1")
    if (calibrated := values.get("weights_sha256", sha256)) != sha256:
        raise ValueError(f"it was made for weights {str(calibrated)[:8]}, but these are {sha256[:8]}")
