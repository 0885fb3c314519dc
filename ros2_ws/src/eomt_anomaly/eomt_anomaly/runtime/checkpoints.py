# SPDX-License-Identifier: MIT
"""Opens a checkpoint for the engine: the model, who it is, and how its score was calibrated."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..model import EomtExt, EomtExtConfig
from ..model.backbone_store import tensor_digest
from ..model.calibration import read_calibration
from ..model.checkpoint import WEIGHTS, from_pretrained, read_config

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
