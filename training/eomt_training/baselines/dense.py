# SPDX-License-Identifier: MIT
"""A dense outlier-exposure head: EoMT-EXT's backbone and upscaling with a per-pixel head instead of queries.

What it is for: with the same features, outliers and training steps it tells what the queries are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from eomt_anomaly.model import Decoder, EomtExtConfig
from eomt_anomaly.model.backbone_store import load_backbone
from eomt_anomaly.model.heads import DenseAnomalyHead, Upscale
from eomt_anomaly.model.states import check_state
from eomt_anomaly.model.vit import Block, DinoVit

from . import files
from .pixel_scores import PIXEL_SCORES

KIND = "dense"
FROZEN = "backbone."


@dataclass
class DenseConfig(EomtExtConfig):
    """EoMT-EXT's configuration; what concerns queries is not used.

    trained_blocks: 0: every ViT block is frozen, and the head reads ``lateral_layers``. More: the last blocks
    are trainable copies, as in EoMT-EXT's joint decoder, and the head reads their normed output.
    """

    decoder: Decoder = Decoder.CROSS_ATTENTION
    trained_blocks: int = 0

    def _check(self) -> None:
        if not 0 <= self.trained_blocks < self.num_layers:
            raise ValueError(
                f"DenseConfig.trained_blocks = {self.trained_blocks}: must be in [0, {self.num_layers})"
            )
        super()._check()

    @property
    def frozen_layers(self) -> int:
        return self.num_layers - self.trained_blocks


class DenseNet(nn.Module):
    """pixels [B,3,H,W] -> logits float32 [B,C+1,h,w], the last the anomaly's; h = H/patch * 2^upscale_blocks.

    The logits are a float32 product under autocast too, as the mask logits of EoMT-EXT are.
    """

    score_names: tuple[str, ...] = ("anomaly", *PIXEL_SCORES)

    def __init__(self, config: DenseConfig):
        super().__init__()
        self.config = config
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.backbone = DinoVit(config, config.frozen_layers)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, eps) for _ in range(config.trained_blocks)
        )
        if config.trained_blocks:
            self.norm = nn.LayerNorm(dim, eps=eps)
        self.taps = () if config.trained_blocks else config.lateral_layers
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim, eps=eps), nn.Linear(dim, dim)) for _ in self.taps
        )
        self.upscale = Upscale(config)
        channels = (config.upscale_channels or (dim,))[-1]
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            DenseAnomalyHead(channels, config.num_classes),
        )
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> DenseNet:
        """Training mode for the head; the backbone stays frozen and in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: float [B,3,H,W], ImageNet-normalised, sides multiples of the patch (ValueError)."""
        detail = () if self.config.detail_layer is None else (self.config.detail_layer,)
        prefix = self.backbone.num_prefix_tokens
        with torch.no_grad():
            tokens, grid, tapped = self.backbone(pixels, (*self.taps, *detail))  # each [B,P+N,D]
        laterals = [x[:, prefix:] for x in tapped]  # each [B,N,D]
        tap = laterals.pop() if detail else None
        if self.config.trained_blocks:
            for block in self.blocks:
                tokens = block(tokens)
            patches = self.norm(tokens)[:, prefix:]
        else:
            patches = sum(layer(x) for layer, x in zip(self.lateral, laterals))
        features = self.upscale(patches.transpose(1, 2).unflatten(2, grid), pixels, tap)  # [B,C',h,w]
        return self.head(features)

    @torch.no_grad()
    def predict_scores(
        self, pixels: Tensor, names: Sequence[str] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `AnomalyPredictor.predict_scores`; ``anomaly`` is the logit, the others are of the classes."""
        logits = self(pixels)
        known = logits[:, :-1]
        make = {"anomaly": lambda _: logits[:, -1], **PIXEL_SCORES}
        names = self.score_names if names is None else names
        return known.softmax(1), {name: make[name](known) for name in names}

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Put a whole DINOv2 ViT's weights where they belong: frozen blocks, and the trained ones' start.

        Raises ValueError, naming the key, unless `state` is a `DinoVit` state of all blocks and the norm.
        """
        with torch.device("meta"):  # shapes only
            whole = DinoVit(self.config)
        check_state(whole.state_dict(), state, "backbone weights")
        self.backbone.load_state_dict({k: v for k, v in state.items() if k in self.backbone.state_dict()})
        for i, block in enumerate(self.blocks):
            name = f"blocks.{self.config.frozen_layers + i}."
            block.load_state_dict({k: state[name + k] for k in block.state_dict()})
        if self.config.trained_blocks:
            self.norm.load_state_dict({k: state[f"norm.{k}"] for k in ("weight", "bias")})

    def save_pretrained(self, folder: str | Path, backbone: str | Path | None = None) -> None:
        """Write config.json and model.safetensors; a frozen backbone that the config names is left out.

        backbone: where it lies, if in no usual place. ValueError if ours differs from it.
        """
        state = self.state_dict()
        if reference := self.config.backbone:
            named = self._named_backbone(reference, backbone, folder)
            if differing := [k for k in named if not torch.equal(state[k].cpu(), named[k].float())]:
                raise ValueError(f"{differing[0]} differs from the backbone {reference['source']!r}")
            state = {k: v for k, v in state.items() if not k.startswith(FROZEN)}
        files.write(folder, KIND, self.config.to_dict(), state)

    @classmethod
    def from_pretrained(cls, folder: str | Path, backbone: str | Path | None = None) -> DenseNet:
        """The network of a checkpoint folder, in eval mode. ValueError names what does not fit."""
        values, state = files.read(folder, KIND)
        config = DenseConfig.from_dict(values)
        net = cls(config)
        if reference := config.backbone:
            state.update(net._named_backbone(reference, backbone, folder))
        check_state(net.state_dict(), state, f"weights of {folder}")
        net.load_state_dict(state)
        return net.eval()

    def _named_backbone(
        self, reference: dict[str, str], backbone: str | Path | None, folder: str | Path
    ) -> dict[str, Tensor]:
        """Our frozen part of the backbone that the config names (`reference`), from its own file."""
        search = [] if backbone is None else [backbone]
        whole = load_backbone(**reference, search=search, beside=folder)
        return {FROZEN + name: whole[name] for name in self.backbone.state_dict()}
