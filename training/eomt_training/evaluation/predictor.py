# SPDX-License-Identifier: MIT
"""A network on whole frames: class map and scores at the frame's own size."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_anomaly.model import EomtExt, Label, patches
from eomt_anomaly.model.scores import bounded

from ..baselines import AnomalyPredictor, EomtExtPredictor
from ..data.folders import Sample
from ..data.transforms import fit_short_side, to_tensors


def usable_device(text: str) -> str:
    """The name of a device, for argparse. Raises ArgumentTypeError for one that torch cannot use here."""
    try:
        torch.zeros(1, device=text)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used here ({reason}): try cpu") from None
    return text


class Predicts(Protocol):
    """What the measurements ask of a predictor."""

    labels: tuple[Label, ...]
    scores: tuple[str, ...]
    short_side: int

    def __call__(self, sample: Sample, names: Sequence[str] = ()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Class map uint8 [H,W] and the named scores, float32 [H,W], higher = more anomalous."""


class Predictor:
    """Runs a network on whole frames and returns maps at the frame's own size.

    Args:
        network: an `EomtExt`, or whatever `baselines.open_predictor` opens.
        short_side: px to which a frame's short side is scaled; None: as the network was trained.
        dtype: autocast type; scores are always float32.
        temperature: T > 0 of the softmax in msp and max_entropy; see `tempered`.
    """

    def __init__(
        self,
        network: EomtExt | AnomalyPredictor,
        short_side: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        temperature: float = 1.0,
    ):
        if not temperature > 0:
            raise ValueError(f"temperature {temperature}: must be above 0")
        if short_side is not None and short_side < 1:
            raise ValueError(f"short side {short_side} px: give 1 or more")
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # else its convolutions round to 10 bits
        opened: Any = EomtExtPredictor(network) if isinstance(network, EomtExt) else network
        self.network = opened.eval().to(device)
        self.dtype, self.device, self.temperature = dtype, device, temperature
        self.labels: tuple[Label, ...] = tuple(opened.config.labels)
        self.scores = tuple(opened.score_names)
        self.short_side = short_side or opened.config.image_size
        self.grid = patches(self.short_side, opened.config.patch_size)  # patches along the short side

    @torch.inference_mode()
    def __call__(self, sample: Sample, names: Sequence[str] = ()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Class map uint8 [H,W] and the named scores, float32 [H,W]; ``eomt_ext`` is bounded to [0,1)."""
        semantic, found = self.small_maps(sample, names)
        shape = sample.labels.shape
        classes = upsampled(semantic, shape).argmax(0).byte().cpu().numpy()
        maps = {name: published(name, value, shape) for name, value in found.items()}
        return classes, {name: value.cpu().numpy() for name, value in maps.items()}

    @torch.inference_mode()
    def small_maps(self, sample: Sample, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Semantic map [1,C,h,w] and the named raw scores, float32 [1,h,w], on the network's grid."""
        config = self.network.config
        fitted = fit_short_side(sample, self.short_side, config.patch_size)
        tensors = to_tensors(fitted, config.pixel_mean, config.pixel_std)
        pixels = torch.as_tensor(tensors["pixels"], device=self.device)[None]  # [1,3,h,w]
        with torch.autocast(self.device.split(":")[0], self.dtype, enabled=self.dtype != torch.float32):
            semantic, found = self.network.predict_scores(pixels, tuple(names))
        if self.temperature != 1:
            logits = (
                semantic if isinstance(self.network, EomtExtPredictor) else semantic.clamp_min(1e-30).log()
            )
            found |= {k: v for k, v in tempered(logits, self.temperature).items() if k in found}
        return semantic, {name: value.float() for name, value in found.items()}


def upsampled(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """[1,K,h,w] -> [K,H,W], bilinear."""
    return F.interpolate(maps, size=shape, mode="bilinear", align_corners=False)[0]


def published(name: str, small: Tensor, shape: tuple[int, int]) -> Tensor:
    """A score of `small_maps`, [1,h,w], at ``shape`` [H,W]; ``eomt_ext`` is bounded to [0,1)."""
    full = upsampled(small.float()[:, None], shape)[0]
    return bounded(full) if name == "eomt_ext" else full


def tempered(logits: Tensor, temperature: float) -> dict[str, Tensor]:
    """msp and max_entropy [B,h,w] of softmax(logits / T), logits float32 [B,C,h,w] (Liang et al., 2018).

    The logits of a mask network are its semantic map U; those of a per-pixel classifier, log p.
    """
    log_p = (logits / temperature).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])
    return {"msp": 1 - log_p.exp().amax(1), "max_entropy": entropy}
