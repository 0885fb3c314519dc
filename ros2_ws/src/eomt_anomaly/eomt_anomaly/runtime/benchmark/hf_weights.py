# SPDX-License-Identifier: MIT
"""Our weights in transformers' EoMT: the inverse of `model.adapters.from_hf_eomt`."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ...model import EomtExt, EomtExtConfig
from ...model.config import Decoder
from .setting import Skipped

# Names of ours → names of theirs, after the packed qkv has been taken apart.
_RULES = [
    (r"backbone\.patch_embed\.(weight|bias)", r"embeddings.patch_embeddings.projection.\1"),
    (r"backbone\.(cls_token|register_tokens)", r"embeddings.\1"),
    (r"backbone\.blocks\.(\d+)\.(.*)", r"layers.\1.\2"),
    (r"decoder\.norm\.(weight|bias)", r"layernorm.\1"),
    (r"decoder\.query\.weight", "query.weight"),
    (r"upscale\.blocks\.(\d+)\.norm\.(weight|bias)", r"upscale_block.block.\1.layernorm2d.\2"),
    (r"upscale\.blocks\.(\d+)\.(conv[12]\.\w+)", r"upscale_block.block.\1.\2"),
    (r"(mask_head\..*)", r"\1"),
    (r"class_head\.(weight|bias)", r"class_predictor.\1"),
]
_BLOCK = [
    (r"attn\.([qkv])\.", r"attention.\1_proj."),
    (r"attn\.proj\.", "attention.out_proj."),
    (r"ls([12])\.gamma", r"layer_scale\1.lambda1"),
]


def to_hf(model: EomtExt, side: int, attention: str) -> Any:
    """An `EomtForUniversalSegmentation` in eval mode for squares of `side` px, every tensor of it ours.

    Raises Skipped where the network has parts that transformers' does not know.
    """
    from transformers import EomtConfig, EomtForUniversalSegmentation

    c = model.config
    _require_plain(c)
    network = EomtForUniversalSegmentation(
        EomtConfig(  # type: ignore[call-arg]
            hidden_size=c.hidden_size,
            num_hidden_layers=c.num_layers,
            num_attention_heads=c.num_heads,
            mlp_ratio=c.mlp_ratio,
            patch_size=c.patch_size,
            image_size=side,
            num_blocks=c.decoder_blocks,
            num_queries=c.num_queries,
            num_labels=c.num_classes,
            num_register_tokens=c.num_register_tokens,
            num_upscale_blocks=c.upscale_blocks,
            layer_norm_eps=c.layer_norm_eps,
            attn_implementation=attention,
        )
    )
    state = network.state_dict()
    theirs = {
        re.sub(r"^layers\.(\d+)\.(.*)", _block, name): tensor for name, tensor in _renamed(model).items()
    }
    cells = side // c.patch_size
    theirs["embeddings.position_embeddings.weight"] = model.backbone.positions((cells, cells))[0]
    theirs["attn_mask_probs"] = torch.zeros_like(state["attn_mask_probs"])  # as after training
    kept = {
        name: tensor
        for name, tensor in state.items()
        if name in ("embeddings.mask_token", "criterion.empty_weight") or not tensor.numel()
    }
    network.load_state_dict({**kept, **theirs}, strict=True)
    return network.eval().requires_grad_(False)


def _require_plain(c: EomtExtConfig) -> None:
    unknown = {
        "decoder": c.decoder is not Decoder.JOINT,
        "detail_layer": c.detail_layer is not None,
        "upscale_channels": c.upscale_channels is not None and set(c.upscale_channels) != {c.hidden_size},
        "scale_mask_logits": c.scale_mask_logits,
        "dense_anomaly": c.dense_anomaly,
    }
    found = [name for name, present in unknown.items() if present]
    if found:
        raise Skipped(
            "transformers' EoMT has no place for this checkpoint's "
            + ", ".join(f"{name}={getattr(c, name)!s}" for name in found)
            + "; compare with --model instead"
        )


def _renamed(model: EomtExt) -> dict[str, Tensor]:
    first = model.config.frozen_layers
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("anomaly_head.") or name == "backbone.pos_embed":
            continue
        name = re.sub(r"^decoder\.blocks\.(\d+)", lambda m: f"backbone.blocks.{first + int(m[1])}", name)
        parts = (
            {name.replace(".qkv.", f".{x}."): t for x, t in zip("qkv", tensor.chunk(3))}
            if ".attn.qkv." in name
            else {name: tensor}
        )
        for ours, value in parts.items():
            target = next(
                (re.sub(pattern, new, ours) for pattern, new in _RULES if re.fullmatch(pattern, ours)), None
            )
            if target is None:
                raise Skipped(f"transformers' EoMT has no place for our tensor {ours}")
            out[target] = value
    return out


def _block(match: re.Match[str]) -> str:
    rest = match[2]
    for pattern, new in _BLOCK:
        rest = re.sub(pattern, new, rest)
    return f"layers.{match[1]}.{rest}"
