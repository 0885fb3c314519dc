# SPDX-License-Identifier: MIT
"""Weights of others, loaded strictly: every tensor finds its place, is known to be needless, or is refused.

Each adapter returns a module in eval mode with two extra attributes: `config` (an `EomtExtConfig` read off
the weights) and `coverage` (which tensors were used, which were not, and which of ours they do not cover).

>>> vit = adapters.from_hf_dinov2(Dinov2Model.from_pretrained("facebook/dinov2-base"))       # doctest: +SKIP
>>> model = EomtExt(dataclasses.replace(vit.config, labels=my_labels))                       # doctest: +SKIP
>>> model.load_backbone(vit.state_dict())                                                    # doctest: +SKIP
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .config import EomtExtConfig, Label, numbered_labels
from .eomt_ext import EomtExt
from .states import Coverage, check_state
from .vit import DinoVit

State = dict[str, Tensor]

# Names of theirs → names of ours; q, k and v are joined into qkv afterwards. `X|Y`: transformers 4.57 | 5.x.
_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_HF_VIT = [
    (r"embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embed.\1"),
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "register_tokens"),
    (r"embeddings\.position_embeddings(?:\.weight)?", "pos_embed"),
    (_LAYER + r"(norm[12]|mlp\.fc[12])\.(weight|bias)", r"blocks.\1.\2.\3"),
    (
        _LAYER + r"attention\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.(weight|bias)",
        r"blocks.\1.attn.\2.\3",
    ),
    (_LAYER + r"attention\.(?:output\.dense|o_proj|out_proj)\.(weight|bias)", r"blocks.\1.attn.proj.\2"),
    (_LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"layernorm\.(weight|bias)", r"norm.\1"),
]
_HF_EOMT = [
    *_HF_VIT,
    (r"query\.weight", "decoder.query.weight"),
    (r"upscale_block\.block\.(\d+)\.(conv1|conv2)\.(weight|bias)", r"upscale.blocks.\1.\2.\3"),
    (r"upscale_block\.block\.(\d+)\.layernorm2d\.(weight|bias)", r"upscale.blocks.\1.norm.\2"),
    (r"mask_head\.(fc[123])\.(weight|bias)", r"mask_head.\1.\2"),
    (r"class_predictor\.(weight|bias)", r"class_head.\1"),
]
_TUE = [
    (r"encoder\.backbone\.patch_embed\.proj\.(weight|bias)", r"patch_embed.\1"),
    (r"encoder\.backbone\.(cls_token|pos_embed|norm\.weight|norm\.bias)", r"\1"),
    (r"encoder\.backbone\.reg_token", "register_tokens"),
    (
        r"encoder\.backbone\.(blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12])\.(?:weight|bias))",
        r"\1",
    ),
    (r"encoder\.backbone\.(blocks\.\d+\.ls[12]\.gamma)", r"\1"),
    (r"q\.weight", "decoder.query.weight"),
    (r"upscale\.(\d+)\.(conv1|conv2|norm)\.(weight|bias)", r"upscale.blocks.\1.\2.\3"),
    (r"mask_head\.0\.(weight|bias)", r"mask_head.fc1.\1"),
    (r"mask_head\.2\.(weight|bias)", r"mask_head.fc2.\1"),
    (r"mask_head\.4\.(weight|bias)", r"mask_head.fc3.\1"),
    (r"class_head\.(weight|bias)", r"class_head.\1"),
]
_NEEDLESS = {  # training state (see `_warn_of_masking`), or the masked-image token
    "embeddings.mask_token",
    "attn_mask_probs",
    "criterion.empty_weight",
    "encoder.pixel_mean",
    "encoder.pixel_std",
}
_HEADS = ("decoder.", "upscale.", "mask_head.", "class_head.")


def from_hf_dinov2(hf_model: nn.Module) -> DinoVit:
    """`transformers`' Dinov2Model or Dinov2WithRegistersModel → the whole frozen ViT, final norm included.

    Raises ValueError for a tensor that has no place (a SwiGLU giant, a classifier on top), a missing or
    mis-shaped one, or an activation other than GELU.
    """
    hf: Any = hf_model.config
    _check_hf(hf)
    ours, coverage = _translate(hf_model.state_dict(), _HF_VIT)
    vit_state = _vit_state(ours, cls_position=True)
    fields = _vit_fields(vit_state, hf.num_attention_heads, hf.layer_norm_eps)
    depth = fields["num_layers"]
    config = EomtExtConfig(
        **fields,
        decoder_blocks=min(depth, 4 if depth >= 24 else 3),
        pos_antialias=hasattr(hf, "num_register_tokens"),
    )
    vit = DinoVit(config)
    check_state(vit.state_dict(), vit_state, "DINOv2 weights")
    vit.load_state_dict(vit_state)
    vit.requires_grad_(False).eval()
    vit.config, vit.coverage = config, coverage
    return vit


def from_hf_eomt(hf_model: nn.Module, labels: Sequence[Label] | None = None) -> EomtExt:
    """`transformers`' EomtForUniversalSegmentation → EomtExt with a joint decoder.

    The anomaly head is not covered: it is random until trained, so `config.score` is a heuristic,
    `max_entropy`.
    labels: names, colours, drivable surfaces; by default the names of `config.id2label`, none of them
    drivable.

    Raises ValueError as `from_hf_dinov2`.
    """
    hf: Any = hf_model.config
    _check_hf(hf)
    names = [str(hf.id2label[i]) for i in range(hf.num_labels)]
    return _eomt(
        hf_model.state_dict(),
        _HF_EOMT,
        labels,
        names,
        heads=hf.num_attention_heads,
        eps=hf.layer_norm_eps,
        decoder_blocks=hf.num_blocks,
        cls_position=False,
    )


def from_tue_eomt(
    state_dict: Mapping[str, Tensor], labels: Sequence[Label] | None = None, decoder_blocks: int | None = None
) -> EomtExt:
    """A `tue-mps/eomt` state dict (DINOv2; keys with or without `network.`) → EomtExt with a joint decoder.

    Load the file with `torch.load(path, weights_only=True)`. decoder_blocks: default, what the file says
    (`attn_mask_probs`). The anomaly head as in `from_hf_eomt`. Raises ValueError as `from_hf_dinov2`.
    """
    state = {name.removeprefix("network."): tensor for name, tensor in state_dict.items()}
    if decoder_blocks is None:
        if "attn_mask_probs" not in state:
            raise ValueError(
                "the state dict has no attn_mask_probs: give decoder_blocks (3 for S and B, 4 for L)"
            )
        decoder_blocks = len(state["attn_mask_probs"])
    width = _need(state, "encoder.backbone.cls_token").shape[-1]
    positions = _need(state, "encoder.backbone.pos_embed").shape[1]  # of a square grid, with or without cls
    pixels = {
        ours: tuple(state[theirs].flatten().tolist())
        for ours, theirs in (("pixel_mean", "encoder.pixel_mean"), ("pixel_std", "encoder.pixel_std"))
        if theirs in state
    }
    return _eomt(
        state,
        _TUE,
        labels,
        None,
        heads=width // 64,
        eps=1e-6,
        decoder_blocks=decoder_blocks,
        cls_position=math.isqrt(positions) ** 2 != positions,
        **pixels,
    )


def _eomt(
    state: Mapping[str, Tensor],
    rules: list[tuple[str, str]],
    labels: Sequence[Label] | None,
    names: list[str] | None,
    heads: int,
    eps: float,
    decoder_blocks: int,
    cls_position: bool,
    **fields: Any,
) -> EomtExt:
    ours, coverage = _translate(state, rules)
    _warn_of_masking(state)
    head_state = {name: ours.pop(name) for name in list(ours) if name.startswith(_HEADS)}
    vit_state = _vit_state(ours, cls_position)
    vit_fields = _vit_fields(vit_state, heads, eps)
    classes = len(_need(head_state, "class_head.bias")) - 1
    if labels is None:
        labels = [
            replace(label, name=name)
            for label, name in zip(numbered_labels(classes), names or [f"class_{i}" for i in range(classes)])
        ]
    if len(labels) != classes:
        raise ValueError(f"{len(labels)} labels were given, but the weights know {classes} classes")
    config = EomtExtConfig(
        labels=tuple(labels),
        decoder_blocks=decoder_blocks,
        score="max_entropy",
        num_queries=len(_need(head_state, "decoder.query.weight")),
        upscale_blocks=1
        + max((int(n.split(".")[2]) for n in head_state if n.startswith("upscale.")), default=0),
        image_size=vit_fields["pos_grid"] * vit_fields["patch_size"],
        **vit_fields,
        **fields,
    )
    model = EomtExt(config)
    model.load_backbone(vit_state)
    full = model.state_dict()
    covered = {
        n: t for n, t in full.items() if n.startswith(_HEADS) and not re.match(r"decoder\.(blocks|norm)\.", n)
    }
    check_state(covered, head_state, "EoMT weights")
    model.load_state_dict({**full, **head_state})
    missing = tuple(n for n in full if n.startswith("anomaly_head."))
    model.coverage = replace(coverage, missing=missing)
    return model.eval()


def _warn_of_masking(state: Mapping[str, Tensor]) -> None:
    """The public code masks attention as `attn_mask_probs` says, in evaluation too; annealing ends at 0."""
    probs = state["attn_mask_probs"].tolist() if "attn_mask_probs" in state else []
    if any(probs):
        warnings.warn(
            f"attn_mask_probs is {[round(p, 3) for p in probs]}: these weights still mask attention, "
            "as their training had not annealed it to 0. Unmasked, as EomtExt runs, they give other masks; "
            "`mask_probs` of its forward masks too",
            stacklevel=4,
        )


def _translate(state: Mapping[str, Tensor], rules: list[tuple[str, str]]) -> tuple[State, Coverage]:
    """Rename every tensor; ValueError names those that no rule knows."""
    ours: State = {}
    needless: list[str] = []
    unknown: list[str] = []
    for name, tensor in state.items():
        target = next(
            (re.sub(pattern, new, name) for pattern, new in rules if re.fullmatch(pattern, name)), None
        )
        if target is not None and target not in ours:
            ours[target] = tensor.detach()
        else:
            (needless if name in _NEEDLESS else unknown).append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} tensor(s) have no place in this architecture: {', '.join(unknown[:5])}. "
            "Only plain DINOv2 ViTs (GELU MLP, LayerScale) and EoMT on them fit; pass the bare model"
        )
    return ours, Coverage(used=tuple(n for n in state if n not in needless), unused=tuple(needless))


def _vit_state(ours: State, cls_position: bool) -> State:
    """Join q, k, v; fold the cls token's position (the first, if any) into it; drop empty registers."""
    state = dict(ours)
    for name in [n for n in ours if ".attn.q." in n]:
        parts = [name.replace(".attn.q.", f".attn.{x}.") for x in "qkv"]
        state[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([_need(ours, part) for part in parts])
        for part in parts:
            del state[part]
    if "register_tokens" in state and not state["register_tokens"].numel():
        del state["register_tokens"]
    pos = _need(state, "pos_embed").reshape(1, -1, _need(state, "cls_token").shape[-1])  # [1, N or 1+N, D]
    if cls_position:
        state["cls_token"], pos = state["cls_token"] + pos[:, :1], pos[:, 1:]
    state["pos_embed"] = pos
    return state


def _vit_fields(state: State, heads: int, eps: float) -> dict[str, Any]:
    """The backbone's part of an EomtExtConfig, read off the shapes."""
    width, positions = state["cls_token"].shape[-1], state["pos_embed"].shape[1]
    grid = math.isqrt(positions)
    if grid * grid != positions:
        raise ValueError(
            f"position embeddings of {positions} patches are not a square grid: resize them first"
        )
    depth = len({n.split(".")[1] for n in state if n.startswith("blocks.")})
    return dict(
        hidden_size=width,
        num_layers=depth,
        num_heads=heads,
        layer_norm_eps=eps,
        pos_grid=grid,
        mlp_ratio=len(_need(state, "blocks.0.mlp.fc1.bias")) // width,
        patch_size=_need(state, "patch_embed.weight").shape[-1],
        num_register_tokens=state["register_tokens"].shape[1] if "register_tokens" in state else 0,
    )


def _need(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"the weights lack {name}")
    return state[name]


def _check_hf(hf_config: Any) -> None:
    if hf_config.hidden_act != "gelu":
        raise ValueError(f"hidden_act is {hf_config.hidden_act!r}: only gelu is supported")
    size = hf_config.image_size
    if not isinstance(size, int) and size[0] != size[1]:
        raise ValueError(f"image_size {size} is not square: the position embeddings must be a square grid")
