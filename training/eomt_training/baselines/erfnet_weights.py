# SPDX-License-Identifier: MIT
"""Users' own ERFNet weights in the layout of the public PyTorch implementation, loaded strictly.

  python -m eomt_training.baselines.erfnet_weights WEIGHTS FOLDER --labels cityscapes

makes a checkpoint folder that `open_predictor` takes. WEIGHTS is .safetensors, or a .pth that holds nothing
but tensors. None are shipped here: the public ones are for non-commercial use only, and their void output was
not trained.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from eomt_anomaly.model import Label
from eomt_anomaly.model.config import numbered_labels
from eomt_anomaly.model.states import check_state

from ..labels import LABELS
from .erfnet import ErfNet, ErfNetConfig
from .files import read_state

# Names of ours -> names of theirs; their initial block is our encoder's first layer.
_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^encoder\.0\.", "encoder.initial_block."),
    (r"^encoder\.(\d+)\.", lambda m: f"encoder.layers.{int(m[1]) - 1}."),
    (r"^decoder\.(\d+)\.", r"decoder.layers.\1."),
    (r"^head\.", "decoder.output_conv."),
    (r"\.conv([12])_v\.", r".conv3x1_\1."),
    (r"\.conv([12])_h\.", r".conv1x3_\1."),
    (r"\.norm([12]?)\.", r".bn\1."),
]
# No part of the forward pass: the head of the encoder's own pre-training, and a counter of newer torch.
_NEEDLESS = re.compile(r"encoder\.output_conv\.(weight|bias)|.*\.num_batches_tracked")


def from_public_erfnet(state: Mapping[str, Tensor], labels: tuple[Label, ...] | None = None) -> ErfNet:
    """A public-layout state dict (names with or without ``module.``) -> `ErfNet` in eval mode.

    labels: the known classes, in the order of the outputs; the last output is void. None: numbered.

    Raises ValueError that names every key that is missing, unknown or of another shape.
    """
    theirs = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    theirs = {name: tensor for name, tensor in theirs.items() if not _NEEDLESS.fullmatch(name)}
    if "decoder.output_conv.bias" not in theirs:
        raise ValueError("the weights lack decoder.output_conv.bias: they are no ERFNet with its decoder")
    outputs = len(theirs["decoder.output_conv.bias"])
    labels = labels or numbered_labels(outputs - 1)
    if len(labels) != outputs - 1:
        raise ValueError(f"the weights have {outputs} outputs, one of them void, but {len(labels)} labels")
    net = ErfNet(ErfNetConfig(tuple(labels)))
    ours = net.state_dict()
    names = {public_name(name): name for name in ours if not _NEEDLESS.fullmatch(name)}
    check_state({name: ours[names[name]] for name in names}, theirs, "ERFNet weights")
    net.load_state_dict({**ours, **{names[name]: tensor for name, tensor in theirs.items()}})
    return net.eval()


def public_name(name: str) -> str:
    """Our name of a tensor -> theirs, without ``module.``."""
    for pattern, new in _RULES:
        name = re.sub(pattern, new, name)
    return name


def main(argv: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path, help="checkpoint folder to write")
    parser.add_argument("--labels", choices=LABELS, help="class names; default: numbered")
    parser.add_argument("--image-size", type=int, default=512, help="short side, px, it was trained at")
    parser.add_argument("--void", action="store_true", help="its void output was trained, and is a score")
    args = parser.parse_args(argv)
    try:
        net = from_public_erfnet(read_state(args.weights), LABELS[args.labels] if args.labels else None)
        net.config.image_size, net.config.void = args.image_size, args.void
        net.save_pretrained(args.folder)
    except (FileNotFoundError, ValueError) as error:
        print(f"erfnet_weights: {error}", file=sys.stderr)
        return 1
    print(f"{args.folder}: ERFNet with {net.config.num_classes} classes and void, every tensor in its place")
    return 0


if __name__ == "__main__":
    sys.exit(main())
