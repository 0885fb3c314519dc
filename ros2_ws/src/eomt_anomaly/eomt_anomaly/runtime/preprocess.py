# SPDX-License-Identifier: MIT
"""From a uint8 image of any size to the pixels of the network: geometry, resize, normalisation.

Two modes. ``rectangle``: the whole image in one pass, its short side scaled to the model's. ``windows``:
overlapping squares along the long side, for checkpoints trained on squares (EoMT, arXiv 2503.19108); their
maps are averaged. An exported graph takes one size only: windows of that size cover the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import patches
from .errors import InvalidImage

MODES = ("rectangle", "windows")
MOST_WINDOWS = 16   # of one image; they are one pass, and its memory grows with them
WIDEST = 4   # rectangle: longer images are shrunk to at most WIDEST * (patches of the short side)^2 patches


@dataclass(frozen=True)
class Plan:
    """How one image size is shown to the network; all sizes in px.

    The image is scaled to ``scaled`` and cut into squares or rectangles of ``window``, whose upper left
    corners lie at ``corners`` (row, column). They cover the scaled image.
    """

    image: tuple[int, int]
    scaled: tuple[int, int]
    window: tuple[int, int]
    corners: tuple[tuple[int, int], ...] = ((0, 0),)

    def crops(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each window in the scaled image."""
        for y, x in self.corners:
            yield slice(y, y + self.window[0]), slice(x, x + self.window[1])


def plan(height: int, width: int, side: int, patch: int, mode: str = "rectangle",
         max_tokens: int | None = None) -> Plan:
    """The plan of an image of `height` x `width` px.

    Args:
        side: short side of the network's input, px; rounded to a multiple of `patch`.
        max_tokens: most patches of one pass in rectangle mode; None: WIDEST squares of the short side.

    Raises InvalidImage where windows are asked for and the image needs more than MOST_WINDOWS.
    """
    grid = patches(side, patch)
    if mode == "windows":
        return cover(height, width, (grid * patch, grid * patch))
    limit = WIDEST * grid * grid if max_tokens is None else max_tokens
    scale = grid / min(height, width)                                   # patches a px of the image
    scale *= min(1.0, math.sqrt(limit / (height * width * scale * scale)))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = min(rows, max(1, limit // columns)), min(columns, max(1, limit // rows))
    size = (rows * patch, columns * patch)
    return Plan((height, width), size, size)


def cover(height: int, width: int, window: tuple[int, int], slack: int = 0) -> Plan:
    """As many windows of one size as an image needs, evenly spread along the side that is too long.

    slack: px; an image that is not longer than this beyond the window is squeezed into a single one.

    Raises InvalidImage for one that needs more than MOST_WINDOWS.
    """
    scale = max(window[0] / height, window[1] / width)
    scaled = (max(window[0], round(height * scale)), max(window[1], round(width * scale)))
    axis = 0 if scaled[0] > window[0] else 1
    longest, side = scaled[axis], window[axis]
    if longest - side <= slack:
        return Plan((height, width), window, window)
    count = math.ceil(longest / side)
    if count > MOST_WINDOWS:
        raise InvalidImage(f"image is {height}x{width} px and would need {count} windows of {window[0]}x"
                           f"{window[1]} px, more than {MOST_WINDOWS}: cut it, or give mode='rectangle' "
                           "and no export")
    overlap = (count * side - longest) / (count - 1) if count > 1 else 0.0
    starts = [int(j * (side - overlap)) for j in range(count)]
    starts[-1] = longest - side                                         # int() may leave a column uncovered
    corners = tuple((s, 0) if axis == 0 else (0, s) for s in starts)
    return Plan((height, width), scaled, window, corners)


class Normalizer:
    """uint8 [B,H,W,3] -> float [B,3,H,W], (x / 255 - mean) / std as one multiply-add."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype,
                 device: torch.device | str = "cpu"):
        std_ = torch.tensor(std, dtype=torch.float32)
        self.scale = (1 / (255 * std_)).view(1, 3, 1, 1).to(device)
        self.bias = (-torch.tensor(mean) / std_).view(1, 3, 1, 1).to(device)
        self.dtype = dtype

    def __call__(self, image: Tensor) -> Tensor:
        """image: [B,3,H,W], any real dtype, 0..255."""
        return torch.addcmul(self.bias, image.float(), self.scale).contiguous().to(self.dtype)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W,3] -> uint8 [*size,3]: area averages where it shrinks, else bilinear."""
    if image.shape[:2] == size:
        return image
    method = cv2.INTER_AREA if _shrinks(image.shape[:2], size) else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def resize_on_device(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize` in torch, for images that lie on a GPU: float [B,3,H,W] of whole numbers -> [B,3,*size]."""
    height, width = image.shape[2:]
    if (height, width) == size:
        return image
    if not _shrinks((height, width), size):
        return F.interpolate(image, size, mode="bilinear", align_corners=False).round()
    rows, columns = (_areas(*sides, image.device) for sides in ((height, size[0]), (width, size[1])))
    return (rows @ image @ columns.T).round()


def _shrinks(image: tuple[int, ...], size: tuple[int, int]) -> bool:
    return size[0] <= image[0] and size[1] <= image[1]


def _areas(inputs: int, outputs: int, device: torch.device) -> Tensor:
    """The share of each input pixel in each output pixel, which covers inputs / outputs of them: [out,in]."""
    start = torch.arange(inputs, dtype=torch.float64, device=device)
    edge = torch.arange(outputs + 1, dtype=torch.float64, device=device)[:, None] * (inputs / outputs)
    covered = torch.minimum(edge[1:], start + 1) - torch.maximum(edge[:-1], start)
    return (covered.clamp(min=0) * (outputs / inputs)).float()


def cut(image: np.ndarray, plan: Plan) -> np.ndarray:
    """uint8 [H,W,3] -> uint8 [n,h,w,3], contiguous: the scaled image's windows."""
    small = resize(image, plan.scaled)
    windows = [small[crop] for crop in plan.crops()]
    return np.ascontiguousarray(windows[0][None] if len(windows) == 1 else np.stack(windows))


def network_input(image: np.ndarray, plan: Plan, normalize: Normalizer) -> Tensor:
    """uint8 [H,W,3] -> normalised [n,3,h,w], one row for each window of the plan."""
    stacked = cut(image, plan)
    if not stacked.flags.writeable:                                    # torch warns of read-only arrays
        stacked = stacked.copy()
    return normalize(torch.from_numpy(stacked).permute(0, 3, 1, 2))
