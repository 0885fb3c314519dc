# SPDX-License-Identifier: MIT
"""EoMT-EXT: a frozen DINOv2 backbone, a query decoder, and mask, class and anomaly heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import Decoder, EomtExtConfig
from .decoders import CrossAttentionDecoder, JointDecoder
from .heads import AnomalyHead, DenseAnomalyHead, MaskHead, Upscale
from .states import Coverage, check_state
from .vit import DinoVit, LayerScale

NORMAL, ANOMALY, VOID = range(3)  # order of the anomaly head's logits
SURE = 20.0                       # logit against zeros: a probability of 1 - 1e-7 with 50 classes


@dataclass
class EomtExtOutput:
    """Logits of one prediction; ``auxiliary`` holds the earlier ones, first block first, in training."""

    mask_logits: Tensor      # [B,Q,h,w] float32, h = H/patch * 2^upscale_blocks; Q + 1 with dense_anomaly
    class_logits: Tensor     # [B,Q,C+1], the last is no-object
    anomaly_logits: Tensor   # [B,Q,3]: Normal, Anomaly, Void
    auxiliary: list[EomtExtOutput] = field(default_factory=list)
    features: Tensor | None = None       # [B,C',h,w] pixel features behind the masks
    dense_logits: Tensor | None = None   # [B,C+1,h,w] of the dense head, float32, the last the anomaly's

    def queries(self, count: int) -> EomtExtOutput:
        """The prediction of the first ``count`` queries: without the dense head's vote, which comes last."""
        return EomtExtOutput(
            self.mask_logits[:, :count], self.class_logits[:, :count], self.anomaly_logits[:, :count])


class EomtExt(nn.Module):
    """Open-set segmentation: what each pixel is, and whether the network has ever been taught it.

    >>> model = EomtExt(EomtExtConfig.preset("tiny"))
    >>> model(torch.zeros(1, 3, 28, 42)).mask_logits.shape
    torch.Size([1, 8, 8, 12])
    """

    coverage: Coverage   # only of one that an adapter made

    def __init__(self, config: EomtExtConfig):
        super().__init__()
        self.config = config
        joint = config.decoder is Decoder.JOINT
        self.backbone = DinoVit(config, config.frozen_layers)
        self.decoder = JointDecoder(config) if joint else CrossAttentionDecoder(config)
        self.taps = (() if joint else config.lateral_layers) + (
            () if config.detail_layer is None else (config.detail_layer,))
        channels = (config.upscale_channels or (config.hidden_size,))[-1]
        self.upscale = Upscale(config)
        self.mask_head = MaskHead(config.hidden_size, channels)
        self.class_head = nn.Linear(config.hidden_size, config.num_classes + 1)
        self.anomaly_head = AnomalyHead(config.hidden_size, config.anomaly_hidden)
        self.dense_head = DenseAnomalyHead(channels, config.num_classes) if config.dense_anomaly else None
        self.mask_scale = 1 / math.sqrt(channels) if config.scale_mask_logits else 1.0
        self.apply(_initialise)
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EomtExt:
        """Training mode for the decoder and heads; the backbone stays frozen and in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, pixels: Tensor, mask_probs: Sequence[float | Tensor] | None = None) -> EomtExtOutput:
        """Run the network.

        Args:
            pixels: float [B,3,H,W], ImageNet-normalised; H and W multiples of the patch size.
            mask_probs: probability of masked attention for each decoder block, with a prediction
                before each (training); None for a plain forward with one prediction.

        Raises:
            ValueError: an image side is not a multiple of the patch size.
        """
        with torch.no_grad():
            tokens, grid, tapped = self.backbone(pixels, self.taps)
        tapped = [t[:, self.backbone.num_prefix_tokens:] for t in tapped]                    # each [B,N,D]
        detail = tapped.pop() if self.config.detail_layer is not None else None

        def predict(queries: Tensor, patches: Tensor) -> EomtExtOutput:
            features = self.upscale(patches.transpose(1, 2).unflatten(2, grid), pixels, detail)  # [B,C',h,w]
            class_logits = self.class_head(queries)
            embedding = self.mask_head(queries) * self.mask_scale                            # [B,Q,C']
            masks = self.mask_product(embedding, features)                                   # [B,Q,h,w]
            anomaly_logits = self.anomaly_head(queries, class_logits)
            return EomtExtOutput(masks, class_logits, anomaly_logits, features=features)

        *auxiliary, output = self.decoder(tokens, tapped, grid, predict, mask_probs)
        if self.dense_head is not None:
            output = _with_dense_vote(output, self.dense_head(output.features))
        output.auxiliary = auxiliary
        return output

    @staticmethod
    def mask_product(embedding: Tensor, features: Tensor) -> Tensor:
        """Mask logits [B,Q,h,w] of [B,Q,C'] and [B,C',h,w], in float32: bfloat16 logits would tie."""
        with torch.autocast(features.device.type, enabled=False):
            return torch.einsum("bqc,bchw->bqhw", embedding.float(), features.float())

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Put a whole DINOv2 ViT's weights where they belong: frozen blocks, and the joint decoder's start.

        Args:
            state: a `DinoVit` state dict of all ``num_layers`` blocks and the final norm.

        Raises:
            ValueError: a key is missing or unknown, or a shape differs; the message names the key.
        """
        with torch.device("meta"):                      # shapes only
            whole = DinoVit(self.config)
        check_state(whole.state_dict(), state, "backbone weights")
        depth, joint = self.config.frozen_layers, self.config.decoder is Decoder.JOINT
        frozen, decoder = {}, {}
        for key, value in state.items():
            part, *rest = key.split(".", 2)
            if joint and part == "norm":
                decoder[key] = value
            elif part == "blocks" and int(rest[0]) >= depth:
                decoder[f"blocks.{int(rest[0]) - depth}.{rest[1]}"] = value
            else:
                frozen[key] = value
        self.backbone.load_state_dict(frozen)
        if joint:
            missing = self.decoder.load_state_dict(decoder, strict=False).missing_keys
            assert missing == ["query.weight"], missing

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, **options: Any) -> EomtExt:
        """Load a checkpoint folder (or, on explicit request, a hub id); see `checkpoint.from_pretrained`."""
        from .checkpoint import from_pretrained

        return from_pretrained(checkpoint, **options)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write config.json and model.safetensors; see `checkpoint.save_pretrained`."""
        from .checkpoint import save_pretrained

        save_pretrained(self, folder, **options)


def _with_dense_vote(output: EomtExtOutput, dense_logits: Tensor) -> EomtExtOutput:
    """The dense head as one more query: sure to be an anomaly, its mask P(anomaly | pixel).

    AnomalyMap = sum_q sigmoid(m_q) P(anomaly | q) gains P(anomaly | pixel), and nothing that reads queries
    need know of it. sigmoid(z_a - logsumexp(z_known)) = softmax(z)_a.
    """
    mask = dense_logits[:, -1:] - dense_logits[:, :-1].logsumexp(1, keepdim=True)            # [B,1,h,w]
    no_object, anomaly = (torch.zeros_like(x[:, :1]) for x in (output.class_logits, output.anomaly_logits))
    no_object[..., -1] = anomaly[..., ANOMALY] = SURE
    return EomtExtOutput(
        torch.cat([output.mask_logits, mask], 1), torch.cat([output.class_logits, no_object], 1),
        torch.cat([output.anomaly_logits, anomaly], 1), features=output.features, dense_logits=dense_logits)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=1.0)
    elif isinstance(module, DinoVit):
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
        nn.init.normal_(module.cls_token, std=0.02)
    elif isinstance(module, LayerScale):
        nn.init.ones_(module.gamma)
