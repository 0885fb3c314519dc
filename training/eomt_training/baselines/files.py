# SPDX-License-Identifier: MIT
"""Checkpoint folders of baselines: `config.json` with ``kind`` and the weights' hash; `model.safetensors`.

And weights of others, as their training scripts leave them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from eomt_anomaly.model.backbone_store import read_safetensors
from eomt_anomaly.model.checkpoint import CONFIG, FORMAT, WEIGHTS, file_sha256

from ..json_files import read_object


def write(folder: str | Path, kind: str, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Write both files; ValueError if a weight is not finite."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite: the training diverged")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in state.items()}, folder / WEIGHTS)
    values = {"kind": kind, "weights_sha256": file_sha256(folder / WEIGHTS), **config}
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")


def read(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights. ValueError: of another kind, or damaged. FileNotFoundError: not there."""
    folder = Path(folder)
    values = _config(folder)
    if values.pop("kind", None) != kind:
        raise ValueError(f"{folder / CONFIG} is no checkpoint of kind {kind!r}")
    if file_sha256(folder / WEIGHTS) != values.pop("weights_sha256", None):
        raise ValueError(f"{folder / WEIGHTS} is damaged or belongs to another {CONFIG}: its sha256 differs")
    return values, read_safetensors(folder / WEIGHTS)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; nothing is unpickled but tensors and plain containers.

    A .pth may hold the state dict itself or, as training scripts leave it, a mapping with ``state_dict``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise ValueError(f"{path} is not a file of plain tensors: {error}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{path} holds no state dict: a mapping of names to tensors is needed")
    return dict(state)


def kind_of(folder: str | Path) -> str:
    """``kind`` of a checkpoint folder; `EomtExt` checkpoints, which have none, are ``eomt_ext``."""
    values = _config(Path(folder))
    return "eomt_ext" if values.get("format") == FORMAT else str(values.get("kind"))


def _config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not a checkpoint: it has no {name}")
    return read_object(folder / CONFIG)
