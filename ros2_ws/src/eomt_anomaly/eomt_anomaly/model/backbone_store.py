# SPDX-License-Identifier: MIT
"""Where frozen backbones live, and how one is found and verified.

A checkpoint may leave its frozen backbone out and name it instead: `{"source": name, "sha256": digest}`. The
digest is over the tensors (`tensor_digest`), not the file, so a file written by another version of
safetensors verifies too.

Search order: the directories or file given by the caller > `$EOMT_BACKBONE_DIR` > beside the checkpoint > the
user's cache (`~/.cache/eomt_anomaly`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

FETCH_COMMAND = "python3 -m eomt_anomaly.model.fetch_backbone"
HUB_COMMAND = "python training/hub_backbone.py"
SOURCE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class KnownBackbone:
    """A backbone this package can obtain by itself (`fetch_backbone`). Sizes as in `EomtExtConfig`."""

    digest: str
    width: int
    depth: int
    heads: int
    patch_size: int
    grid: int
    registers: int = 0


KNOWN_BACKBONES = {
    "dinov2_s14_derived": KnownBackbone(
        digest="2f470435bb1b638e6e326ec4df668f8e56f95f66c35803ff0b29a3c5145c6980",
        width=384,
        depth=12,
        heads=6,
        patch_size=14,
        grid=37,
    )
}


def tensor_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (64 hex digits) of a state: in the order of the names, each name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_dir() -> Path:
    """The directory `fetch_backbone` writes to: `$EOMT_BACKBONE_DIR` or `~/.cache/eomt_anomaly`."""
    return Path(os.environ.get("EOMT_BACKBONE_DIR") or "~/.cache/eomt_anomaly").expanduser()


def backbone_filename(source: str) -> str:
    """`facebook/dinov2-small` → `facebook--dinov2-small.safetensors`. ValueError if it is no plain name."""
    if not isinstance(source, str) or not SOURCE_PATTERN.fullmatch(source) or ".." in source:
        raise ValueError(
            f"backbone source {source!r} is not a plain name like 'dinov2_s14_derived' or 'owner/name'"
        )
    return source.replace("/", "--") + ".safetensors"


def find_backbone(source: str, search: Sequence[str | Path] = (), beside: str | Path | None = None) -> Path:
    """Path of the file that holds backbone `source`.

    search: existing files or directories the caller names, tried first. beside: the checkpoint's directory.
    Raises FileNotFoundError with the places looked in and the command that mends it; downloads nothing.
    """
    name = backbone_filename(source)
    places = [Path(p).expanduser() for p in search]
    if os.environ.get("EOMT_BACKBONE_DIR"):
        places.append(cache_dir())
    if beside is not None:
        places.append(Path(beside))
    places.append(Path("~/.cache/eomt_anomaly").expanduser())
    candidates = [place if place.suffix == ".safetensors" else place / name for place in places]
    for place in search:
        if not Path(place).expanduser().exists():
            raise FileNotFoundError(f"{place}, given as the place of backbone {source!r}, does not exist")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise FileNotFoundError(f"backbone {source!r} was not found; {_remedy(source)}. Looked for: {looked}")


def _remedy(source: str) -> str:
    if source in KNOWN_BACKBONES:
        return f"run `{FETCH_COMMAND}` once"
    if "/" in source:
        return f"run `{HUB_COMMAND} {source}` once, which downloads it"
    return "put the file that the checkpoint was made with in its place"


def reference(source: str, search: Sequence[str | Path] = ()) -> dict[str, str]:
    """`{"source", "sha256"}` of a backbone: the pinned digest, or else that of the file found.

    Raises as `find_backbone` and `read_safetensors`.
    """
    if source in KNOWN_BACKBONES:
        return {"source": source, "sha256": KNOWN_BACKBONES[source].digest}
    return {"source": source, "sha256": tensor_digest(read_safetensors(find_backbone(source, search)))}


def check_reference(reference: Mapping[str, str]) -> None:
    """ValueError unless `reference` is `{"source": plain name, "sha256": 64 hex digits}`."""
    if not isinstance(reference, Mapping) or set(reference) != {"source", "sha256"}:
        raise ValueError(f"backbone must be {{source, sha256}} or null, not {reference!r}")
    backbone_filename(reference["source"])
    if not isinstance(reference["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", reference["sha256"]):
        raise ValueError(f"backbone sha256 {reference['sha256']!r} is not 64 hex digits")


def load_backbone(
    source: str,
    sha256: str | None = None,
    search: Sequence[str | Path] = (),
    beside: str | Path | None = None,
) -> State:
    """The backbone's tensors under `vit.DinoVit`'s names, on the CPU, as stored (fp16 or fp32).

    sha256: the expected `tensor_digest`; None only for a source in KNOWN_BACKBONES, whose digest is pinned.
    Raises FileNotFoundError (see `find_backbone`), or ValueError when the file is corrupt or another
    backbone.
    """
    known = KNOWN_BACKBONES.get(source)
    expected = sha256 or (known.digest if known else None)
    if not expected:
        raise ValueError(f"backbone {source!r} has no known digest; give its sha256")
    path = find_backbone(source, search, beside)
    state = read_safetensors(path)
    actual = tensor_digest(state)
    if actual != expected:
        raise ValueError(
            f"{path} is not the backbone {source!r} that was asked for: content digest {actual}, "
            f"expected {expected}; delete it and {_remedy(source)}"
        )
    return state


def read_safetensors(path: str | Path) -> State:
    """All tensors of a safetensors file, on the CPU. ValueError if it is truncated or not safetensors."""
    try:
        return load_file(str(path), device="cpu")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file (truncated or corrupt): {error}") from error
