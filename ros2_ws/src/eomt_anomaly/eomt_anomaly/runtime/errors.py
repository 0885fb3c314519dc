# SPDX-License-Identifier: MIT
"""What can be wrong with an image or with the network's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class InvalidImage(ValueError):
    """The picture handed in is not uint8 [H,W,3] with H, W > 0, or of a shape that cannot be shown."""


class NonFiniteOutput(RuntimeError):
    """The network gave NaN or infinity; the frame must not be judged."""

    def __init__(self) -> None:
        super().__init__("the network's output holds NaN or infinity: the frame cannot be judged; "
                         "try precision='fp32', and check the checkpoint if it happens again")


def check_image(image: Any) -> None:
    """Raise `InvalidImage` unless `image` is a uint8 array or tensor [H,W,3] with H, W > 0."""
    if not isinstance(image, (np.ndarray, torch.Tensor)):
        raise InvalidImage(f"image is a {type(image).__name__}: pass a numpy array, uint8 [H,W,3], RGB")
    if image.dtype not in (np.uint8, torch.uint8):
        raise InvalidImage(f"image has dtype {image.dtype}: convert it to uint8, 0..255")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InvalidImage(f"image has shape {tuple(image.shape)}: pass [H,W,3], RGB")
    if 0 in image.shape:
        raise InvalidImage(f"image has shape {tuple(image.shape)}: both sides must be at least 1 px")
