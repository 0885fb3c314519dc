# SPDX-License-Identifier: MIT
"""Checkpoint folders: `config.json`, `model.safetensors`, `README.md` (the card), `calibration.json`.

`config.json` is `EomtExtConfig.to_dict()` plus `format` and `weights_sha256`, the hash of
`model.safetensors`, so that weights and configuration cannot drift apart and a damaged file is noticed. A
frozen backbone may be left out of the file and named in the configuration (see `backbone_store`). Nothing
here unpickles, and nothing goes to a network unless asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .backbone_store import State, check_reference, load_backbone, read_safetensors
from .config import EomtExtConfig
from .eomt_ext import EomtExt
from .states import check_state

FORMAT = "eomt_ext/1"
CONFIG, WEIGHTS, CARD, CALIBRATION = "config.json", "model.safetensors", "README.md", "calibration.json"
PREFIX = "backbone."
LARGEST_CONFIG = 1 << 20   # bytes; those of 250 classes take a tenth


def save_pretrained(
    model: EomtExt,
    folder: str | Path,
    include_backbone: bool | None = None,
    dtype: torch.dtype = torch.float16,
    backbone: str | Path | None = None,
) -> None:
    """Write `model` to `folder`; an existing card and calibration are left as they are.

    Args:
        include_backbone: store the frozen backbone too. None: only if the config names none.
        dtype: floating type on disk, fp16 or fp32.
        backbone: where the named backbone lies, if not in a usual place; it must equal the model's to be left
            out.

    Raises:
        ValueError: the backbone cannot be left out (none is named, or the model's differs from it), or a
            weight is not finite in `dtype`.
        FileNotFoundError: the named backbone is not there to compare with.
    """
    folder = Path(folder)
    reference = model.config.backbone
    include_backbone = reference is None if include_backbone is None else include_backbone
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if not include_backbone:
        _check_same_backbone(state, reference, backbone, folder)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    state = {name: (t.to(dtype) if t.is_floating_point() else t).contiguous() for name, t in state.items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{name} is not finite in {dtype}: the training diverged, or pass dtype=torch.float32"
            )

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        weights, config = Path(scratch, WEIGHTS), Path(scratch, CONFIG)
        save_file(state, weights, metadata={"format": "pt"})
        values = {"format": FORMAT, "weights_sha256": file_sha256(weights), **model.config.to_dict()}
        config.write_text(json.dumps(values, indent=2) + "\n")
        os.chmod(weights, 0o644)
        os.replace(weights, folder / WEIGHTS)
        os.replace(config, folder / CONFIG)
    if not (folder / CARD).exists():
        (folder / CARD).write_text(_card(model.config, None if include_backbone else model.config.backbone))


def from_pretrained(
    checkpoint: str | Path,
    backbone: str | Path | None = None,
    allow_download: bool = False,
    revision: str | None = None,
) -> EomtExt:
    """The model of a checkpoint folder, in fp32 on the CPU, in eval mode.

    Args:
        checkpoint: a folder; or, with `allow_download`, the id (`owner/name`) of a Hugging Face repository.
        backbone: file or folder of the frozen backbone, where the checkpoint leaves it out.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: the folder, one of its files or the backbone is missing.
        ValueError: anything in them is damaged, unknown, missing or of another shape; names the file and the
            key.
    """
    folder = (
        _download(str(checkpoint), revision)
        if allow_download and not Path(checkpoint).is_dir()
        else Path(checkpoint)
    )
    config, sha256 = read_config(folder)
    path = _existing(folder, WEIGHTS)
    actual = file_sha256(path)
    if actual != sha256:
        raise ValueError(
            f"{path} has sha256 {actual}, but {CONFIG} says {sha256}: "
            "the file is damaged or belongs to another configuration; get the checkpoint again"
        )
    state = read_safetensors(path)
    with torch.device("meta"):  # shapes only: every weight comes from the files
        model = EomtExt(config)
    if not any(name.startswith(PREFIX) for name in state):
        state.update(_frozen_part(config, backbone, folder))
    check_state(model.state_dict(), state, f"weights of {path}")
    model.load_state_dict(
        {name: t.float() if t.is_floating_point() else t for name, t in state.items()}, assign=True
    )
    return model.eval()


def read_config(folder: str | Path) -> tuple[EomtExtConfig, str]:
    """The configuration of a folder and the SHA-256 its weights must have. Raises as `from_pretrained`."""
    path = _existing(Path(folder), CONFIG)
    try:
        values: dict[str, Any] = read_json(path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(
                f"format is not {FORMAT!r}: not a checkpoint of this package, or of another version"
            )
        sha256 = values.pop("weights_sha256", None)
        if not isinstance(sha256, str) or len(sha256) != 64:
            raise ValueError("weights_sha256 is missing: write checkpoints with save_pretrained")
        values.pop("format")
        config = EomtExtConfig.from_dict(values)
        if config.backbone is not None:
            check_reference(config.backbone)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a valid configuration: {error}") from error
    return config, sha256


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises ValueError (too large, no JSON) or RecursionError (too deep)."""
    if (size := path.stat().st_size) > LARGEST_CONFIG:
        raise ValueError(f"it has {size} bytes, more than the {LARGEST_CONFIG} allowed")
    return json.loads(path.read_text())


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _existing(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"checkpoint folder {folder} does not exist (an id on the hub needs allow_download=True)"
        )
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder} is not a whole checkpoint: it has no {name}")
    return folder / name


def _frozen_part(config: EomtExtConfig, backbone: str | Path | None, folder: Path) -> State:
    """The named backbone's tensors that `EomtExt.backbone` holds; a joint decoder owns the last blocks."""
    if config.backbone is None:
        raise ValueError(
            f"{folder / WEIGHTS} holds no backbone and {CONFIG} names none: "
            "save it with include_backbone=True"
        )
    whole = load_backbone(
        config.backbone["source"],
        config.backbone["sha256"],
        [] if backbone is None else [backbone],
        beside=folder,
    )
    with torch.device("meta"):
        wanted = EomtExt(config).backbone.state_dict()
    return {PREFIX + name: tensor for name, tensor in whole.items() if name in wanted}


def _check_same_backbone(
    state: State, reference: dict[str, str] | None, backbone: str | Path | None, folder: Path
) -> None:
    """Refuse to leave out a backbone that could not be put back exactly."""
    if reference is None:
        raise ValueError(
            "the config names no backbone (config.backbone is None): save with include_backbone=True"
        )
    check_reference(reference)
    named = load_backbone(
        reference["source"], reference["sha256"], [] if backbone is None else [backbone], beside=folder
    )
    for name, tensor in state.items():
        if name.startswith(PREFIX):
            other = named.get(name.removeprefix(PREFIX))
            if other is None or not torch.equal(other.float(), tensor.float()):
                raise ValueError(
                    f"{name} differs from the backbone {reference['source']!r} that the config names: "
                    "save with include_backbone=True"
                )


def _download(repository: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"downloading {repository} needs the package huggingface_hub: "
            "run `python3 -m pip install huggingface_hub`"
        ) from error
    return Path(
        snapshot_download(repository, revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD, CALIBRATION])
    )


def _card(config: EomtExtConfig, named: dict[str, str] | None) -> str:
    """A first model card; whoever trains the model completes it. `named`: a backbone not in the file."""
    frozen = "in the file" if named is None else f"`{named['source']}`, not in the file"
    labels = ", ".join(label.name for label in config.labels)
    return (
        f"---\nlibrary_name: eomt_anomaly\npipeline_tag: image-segmentation\n---\n# EoMT-EXT\n\n"
        f"Open-set segmentation with a {config.decoder.value} decoder; frozen backbone: {frozen}.\n\n"
        f"Classes: {labels}.\n\nLoad it with `EomtExt.from_pretrained(folder)`. "
        "Training data, terms and measurements: not stated yet.\n"
    )
