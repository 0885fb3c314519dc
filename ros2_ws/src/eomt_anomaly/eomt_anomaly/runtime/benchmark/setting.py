# SPDX-License-Identifier: MIT
"""What one comparison holds fixed: weights, image, geometry, device, threads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ...model import ANOMALY, EomtExt, EomtExtConfig, patches
from ..checkpoints import open_checkpoint
from ..preprocess import Plan, plan

REGISTERS = 4  # as the published EoMT weights have them


class Skipped(Exception):
    """A contestant cannot take part here; the text says why and, where there is one, the remedy."""


@dataclass(frozen=True)
class Setting:
    """One comparison; every process that builds it gets the same weights and the same image.

    preset: size of a network with random weights, patches of `patch` px; unused with a `checkpoint` folder.
    size: height and width of the image, px. side: of the square windows that the network sees, px; every
    contestant gets the same ones, because transformers' EoMT takes squares of one size only.
    """

    preset: str = "small"
    checkpoint: str | None = None
    backbone: str | None = None
    size: tuple[int, int] = (1024, 2048)
    side: int = 512
    patch: int = 16
    queries: int = 100
    cameras: int = 1
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0

    def model(self) -> EomtExt:
        """The network in fp32 on the CPU. Raises ValueError where the side is not whole patches."""
        if self.checkpoint:
            model = open_checkpoint(self.checkpoint, self.backbone).model.eval()
        else:
            config = EomtExtConfig.preset(
                self.preset,
                patch_size=self.patch,
                pos_grid=max(1, self.side // self.patch),
                num_register_tokens=REGISTERS,
                num_queries=self.queries,
                image_size=self.side,
            )
            model = randomise(EomtExt(config), self.seed)
        patch = model.config.patch_size
        if self.side % patch or self.side < patch:
            raise ValueError(
                f"side {self.side} is not a positive multiple of the patch size {patch}: "
                f"give {patches(self.side, patch) * patch}"
            )
        return model.requires_grad_(False)

    def images(self) -> list[np.ndarray]:
        """One smooth picture for each camera, uint8 [H,W,3] RGB."""
        random, (height, width) = np.random.default_rng(self.seed), self.size
        small = random.integers(
            0, 256, (self.cameras, max(2, height // 32), max(2, width // 32), 3), np.uint8
        )
        return [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in small]

    def plan(self, patch: int) -> Plan:
        """How the image is cut into windows."""
        return plan(*self.size, self.side, patch, "windows")

    def set_threads(self) -> None:
        """Hold torch and OpenCV of this process to `threads`."""
        if self.threads:
            torch.set_num_threads(self.threads)
            cv2.setNumThreads(self.threads)


def randomise(model: EomtExt, seed: int) -> EomtExt:
    """Weights that all matter: normal with variance 1 / inputs, biases 0.3 wide, norms around 1.

    The heads come out somewhat as trained ones do, so that the maps have several classes and a range of
    anomaly: mask logits a few units wide (far wider ones are steps, not masks), queries that differ, each of
    them sure of its class, and an anomaly for few of them.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if p.ndim == 1 else max(p[0].numel(), 1) ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * scale)
            if p.ndim == 1 and "norm" in name and name.endswith("weight"):
                p.add_(1.0)
        for p in model.mask_head.fc3.parameters():
            p.mul_(3 * model.config.hidden_size**-0.5)
        model.decoder.query.weight.mul_(4 * model.config.hidden_size**0.5)
        model.class_head.weight.mul_(4)
        model.class_head.bias.zero_()
        model.anomaly_head.fc2.bias[ANOMALY] -= math.log(model.config.num_queries / 4)
    return model.eval()
