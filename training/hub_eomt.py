#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bring a trained EoMT from the Hugging Face hub, as a checkpoint folder that training and the node load.

  H="python training/hub_eomt.py tue-mps/cityscapes_semantic_eomt_large_1024 --labels cityscapes --output DIR"
  $H                      # from the hub
  $H --from COPY          # a folder that was downloaded elsewhere
  $H --from weights.bin   # a state dict that tue-mps/eomt's own training wrote

Its anomaly head is random until it is trained (docs/cityscapes.md), so it scores by `max_entropy`. Its own
licence holds. From the hub only safetensors are read; a state dict is unpickled with torch's `weights_only`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.model import EomtExt, Label, adapters  # noqa: E402
from eomt_anomaly.model.checkpoint import CARD  # noqa: E402
from eomt_training.baselines.files import read_state  # noqa: E402
from eomt_training.labels import LABELS  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="the model's id on the hub, owner/name")
    parser.add_argument("--labels", choices=LABELS, required=True, help="the data set whose classes it knows")
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--from", dest="copy", type=Path, help="read this folder or state dict, not the hub")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--decoder-blocks", type=int, help="of a state dict without attn_mask_probs")
    parser.add_argument(
        "--same-order", action="store_true", help="its class names are other words for ours, in our order"
    )
    args = parser.parse_args(argv)
    try:
        if args.copy is not None and args.copy.is_file():
            state = read_state(args.copy)
            model = adapters.from_tue_eomt(state, LABELS[args.labels], args.decoder_blocks)
        else:
            model = hub_model(args.source, args.copy, args.revision, LABELS[args.labels], args.same_order)
        model.save_pretrained(args.output)
    except (OSError, ValueError) as error:
        print(f"hub_eomt: {args.source}: {error}", file=sys.stderr)
        return 1
    with (args.output / CARD).open("a", encoding="utf-8") as card:
        revision = f", revision {args.revision}" if args.revision else ""
        card.write(f"\nWeights: {args.source}{revision}. Their own licence holds. "
                   "The anomaly head has not been trained.\n")  # fmt: skip
    print(f"wrote {args.output}: {model.coverage}")
    return 0


def hub_model(
    source: str, folder: Path | None, revision: str | None, labels: Sequence[Label], same_order: bool
) -> EomtExt:
    """transformers' EomtForUniversalSegmentation of the hub or of a folder, with our labels.

    Raises OSError if it cannot be had, ValueError if it does not fit or its classes are others.
    """
    from transformers import EomtForUniversalSegmentation

    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist")
    theirs = EomtForUniversalSegmentation.from_pretrained(
        folder or source, revision=revision, use_safetensors=True
    )
    if not same_order:
        check_names([str(theirs.config.id2label[i]) for i in range(theirs.config.num_labels)], labels)
    return adapters.from_hf_eomt(theirs, labels)


def check_names(theirs: Sequence[str], labels: Sequence[Label]) -> None:
    """Raise ValueError if a class has another name there than here; numbered ones (LABEL_3) say nothing."""

    def plain(name: str) -> str:
        return re.sub("[^a-z]", "", name.lower())

    other = [f"{label.id}: {name!r}, ours {label.name!r}" for name, label in zip(theirs, labels)
             if plain(name) not in ("label", plain(label.name))]  # fmt: skip
    if other:
        raise ValueError(f"{len(other)} of its classes have other names than ours ({'; '.join(other[:5])}): "
                         "give other --labels, or --same-order if only the words differ")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
