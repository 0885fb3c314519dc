#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Download a DINOv2 backbone from the Hugging Face hub, and keep it where training and the node look for it.

  python training/hub_backbone.py facebook/dinov2-base             # or -small, -large, -with-registers-base
  python training/hub_backbone.py facebook/dinov2-base --from DIR  # a copy on disk, no network

Only safetensors are read. Prints the digest that checkpoints trained on it will name. Its own licence holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.model.adapters import from_hf_dinov2  # noqa: E402
from eomt_anomaly.model.backbone_store import backbone_filename, cache_dir, tensor_digest  # noqa: E402
from eomt_anomaly.model.fetch_backbone import write_atomically  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="the model's id on the hub, owner/name")
    parser.add_argument("--from", dest="folder", type=Path, help="read this folder instead of the hub")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--output", type=Path, help="default: $EOMT_BACKBONE_DIR or ~/.cache/eomt_anomaly")
    args = parser.parse_args(argv)
    try:
        target = (args.output or cache_dir()).expanduser() / backbone_filename(args.source)
        state = from_hf_dinov2(hub_model(args.source, args.folder, args.revision)).state_dict()
    except (OSError, ValueError) as error:
        print(f"hub_backbone: {args.source}: {error}", file=sys.stderr)
        return 1
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    write_atomically(target, state)
    print(f"wrote {target} ({target.stat().st_size / 1e6:.0f} MB), digest {tensor_digest(state)}")
    return 0


def hub_model(source: str, folder: Path | None, revision: str | None):
    """transformers' Dinov2Model or Dinov2WithRegistersModel. OSError if it cannot be had."""
    from transformers import AutoModel

    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist")
    return AutoModel.from_pretrained(folder or source, revision=revision, use_safetensors=True)


if __name__ == "__main__":
    sys.exit(main())
