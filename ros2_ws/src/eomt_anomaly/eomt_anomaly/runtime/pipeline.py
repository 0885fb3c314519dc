# SPDX-License-Identifier: MIT
"""The seam between the engine and what runs the network: images in, predictions out, possibly later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .preprocess import Plan, cover, plan

Picture = np.ndarray | Tensor     # uint8 [H,W,3] RGB; a tensor lies on the engine's GPU (jpeg.py)


@dataclass
class Prediction:
    """What the network says about one image.

    class_map: uint8 [H,W], class ids. anomaly: float32 [H,W] in [0,1), higher = more anomalous.
    timings_ms: milliseconds by stage of the image's own work, ``total`` their sum: what it waited for
        others, before a stage or between two, is left out. Of a batch on a GPU each image has an equal share.
    """

    class_map: np.ndarray
    anomaly: np.ndarray
    timings_ms: dict[str, float] = field(default_factory=dict)


class Pipeline(Protocol):
    """Upload, forward, download. A handle of `submit` is for `result` of the same pipeline."""

    def submit(self, images: Sequence[Picture]) -> Any:
        """Begin to work on valid images of any sizes; may return before anything is done."""

    def result(self, handle: Any) -> list[Prediction]:
        """Wait for a submission: one prediction for each image, in order. Raises what the work raised."""

    def at(self, short_side: int) -> Pipeline:
        """The same network on the same device for another short side, px. Close it before this one."""

    def close(self) -> None:
        """Wait for work under way and free what is held, the network too. Call it once."""


@dataclass(frozen=True)
class Setup:
    """What every pipeline needs to know."""

    network: Any           # an EomtExt (see network.prepare), or an exported graph (backends.Graph)
    dtype: torch.dtype
    exact: bool
    score: str
    short_side: int
    mode: str
    max_tokens: int | None
    size: tuple[int, int] | None = None   # height, width: the only input the network takes, if there is one
    raw_pixels: bool = False              # whether the network takes them (see network.prepare); CPU only

    def plan(self, height: int, width: int) -> Plan:
        """How an image of this size is shown to the network."""
        patch = self.network.config.patch_size
        if self.size:   # rectangle mode rounds the sides to whole patches: so much it may squeeze here too
            return cover(height, width, self.size, patch - 1 if self.mode == "rectangle" else 0)
        return plan(height, width, self.short_side, patch, self.mode, self.max_tokens)

    def forward(self, pixels: Any) -> Any:
        """Pixels [B,3,h,w] -> `EomtExtOutput`; an exported graph may do more (`backends.Graph`)."""
        return self.network(pixels)
