# SPDX-License-Identifier: MIT
"""What an EoMT-EXT network is made of, as one typed, strictly checked dataclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from .scores import SCORES

C = TypeVar("C", bound="EomtExtConfig")


class Decoder(str, Enum):
    """How queries read the image.

    ``joint``: the last blocks of the ViT are trainable copies in which queries attend together with
    the patches (EoMT, arXiv 2503.19108). ``cross_attention``: every ViT block is frozen and a small
    Mask2Former-style decoder reads the sum of normed lateral features (PMT, arXiv 2603.25398).
    """

    JOINT = "joint"
    CROSS_ATTENTION = "cross_attention"


@dataclass(frozen=True)
class Label:
    """One known class: ``id`` in [0, C), display ``color`` (r, g, b in [0, 255]), and what it is for.

    ``drivable`` marks the surface on which an anomaly is an obstacle; ``thing`` marks countable objects.
    """

    id: int
    name: str
    color: tuple[int, int, int]
    drivable: bool = False
    thing: bool = False


def _numbers(values: tuple[Any, ...]) -> bool:
    return all(type(value) in (int, float) and abs(value) < 1e9 for value in values)


def patches(side: float, patch: int) -> int:
    """How many patches a side of `side` px is shown to the network as: the nearest number, at least one."""
    return max(1, round(side / patch))


def numbered_labels(count: int) -> tuple[Label, ...]:
    """``count`` placeholder labels with distinct grey levels, for models whose classes have no names."""
    return tuple(Label(i, f"class_{i}", (i * 255 // max(count - 1, 1),) * 3) for i in range(count))


# No file may ask for more: far above any DINOv2, and low enough to be built in bounded time and memory.
_LARGEST = {"hidden_size": 4096, "num_layers": 64, "num_heads": 64, "mlp_ratio": 16, "patch_size": 64,
            "pos_grid": 256, "num_register_tokens": 64, "decoder_blocks": 64, "num_queries": 4096,
            "upscale_blocks": 4, "anomaly_hidden": 8192, "image_size": 8192}

_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": dict(hidden_size=32, num_layers=3, num_heads=2, decoder_blocks=1, num_queries=8,
                 anomaly_hidden=16, pos_grid=8, lateral_layers=(0, 2)),
    "small": dict(hidden_size=384, num_layers=12, num_heads=6, decoder_blocks=3),
    "base": dict(hidden_size=768, num_layers=12, num_heads=12, decoder_blocks=3),
    "large": dict(hidden_size=1024, num_layers=24, num_heads=16, decoder_blocks=4,
                  lateral_layers=(5, 11, 17, 23)),
}


@dataclass
class EomtExtConfig:
    """Architecture, labels and normalisation of one model; `to_dict` / `from_dict` are exact inverses."""

    labels: tuple[Label, ...] = field(default_factory=lambda: numbered_labels(19))
    # Backbone: a DINOv2 ViT.
    hidden_size: int = 384
    num_layers: int = 12
    num_heads: int = 6
    mlp_ratio: int = 4
    patch_size: int = 14
    num_register_tokens: int = 0
    pos_grid: int = 37               # side of the stored grid of position embeddings
    pos_antialias: bool = False      # how the grid is resized (True for DINOv2 with registers)
    layer_norm_eps: float = 1e-6
    # Decoder and heads.
    decoder: Decoder = Decoder.JOINT
    decoder_blocks: int = 3
    num_queries: int = 100
    lateral_layers: tuple[int, ...] = (2, 5, 8, 11)   # blocks a cross_attention decoder reads
    upscale_blocks: int = 2                           # each doubles the grid: mask logits leave at 4x
    upscale_channels: tuple[int, ...] | None = None   # channels after each upscale block; None keeps D
    detail_layer: int | None = None                   # frozen block whose features join the upscaling
    scale_mask_logits: bool = False                   # divide mask logits by sqrt(channels)
    anomaly_hidden: int = 256
    dense_anomaly: bool = False                       # pixel features vote too, as one more query
    # How images come in and which score goes out.
    image_size: int = 476                             # short side, px, that the model was trained at
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    score: str = "eomt_ext"
    backbone: dict[str, str] | None = None            # {"source", "sha256"} when stored elsewhere

    def __post_init__(self) -> None:
        self.labels = tuple(x if isinstance(x, Label) else Label(**{**x, "color": tuple(x["color"])})
                            for x in self.labels)
        self.decoder = Decoder(self.decoder)
        for name in ("lateral_layers", "upscale_channels", "pixel_mean", "pixel_std"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else tuple(value))
        self._check()

    def _check(self) -> None:
        def require(ok: bool, name: str, remedy: str) -> None:
            if not ok:
                raise ValueError(f"EomtExtConfig.{name} = {getattr(self, name)!r}: {remedy}")

        for name, largest in _LARGEST.items():
            value, least = getattr(self, name), int(name != "num_register_tokens")
            require(type(value) is int and least <= value <= largest, name,
                    f"must be an integer in [{least}, {largest}]")
        for name in ("pos_antialias", "scale_mask_logits", "dense_anomaly"):
            require(type(getattr(self, name)) is bool, name, "must be true or false")
        require(_numbers((self.layer_norm_eps,)) and 0 < self.layer_norm_eps < 1, "layer_norm_eps",
                "must lie between 0 and 1")
        require(self.hidden_size % self.num_heads == 0, "hidden_size",
                f"must be a multiple of num_heads={self.num_heads}")
        require([x.id for x in self.labels] == list(range(len(self.labels))) and 1 < len(self.labels) < 254,
                "labels", "ids must be 0, 1, ... in order, 2 to 253 of them")
        if self.decoder is Decoder.JOINT:
            require(self.decoder_blocks <= self.num_layers, "decoder_blocks",
                    f"must be <= num_layers={self.num_layers}")
        else:
            require(bool(self.lateral_layers) and all(type(i) is int and 0 <= i < self.num_layers
                                                      for i in self.lateral_layers),
                    "lateral_layers", f"must name blocks in [0, {self.num_layers})")
        if self.detail_layer is not None:
            require(type(self.detail_layer) is int and 0 <= self.detail_layer < self.frozen_layers,
                    "detail_layer", f"must name a frozen block in [0, {self.frozen_layers})")
        if self.upscale_channels is not None:
            require(len(self.upscale_channels) == self.upscale_blocks, "upscale_channels",
                    f"needs one entry for each of the {self.upscale_blocks} upscale blocks")
            require(all(type(c) is int and 0 < c <= _LARGEST["hidden_size"] for c in self.upscale_channels),
                    "upscale_channels", f"must be integers in [1, {_LARGEST['hidden_size']}]")
        require(all(len(x.color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in x.color)
                    for x in self.labels), "labels", "colours are three integers (r, g, b) in [0, 255]")
        require(all(isinstance(x.name, str) and type(x.drivable) is type(x.thing) is bool
                    for x in self.labels), "labels", "names are text, drivable and thing true or false")
        require(len(self.pixel_mean) == 3 and _numbers(self.pixel_mean), "pixel_mean", "needs three numbers")
        require(len(self.pixel_std) == 3 and _numbers(self.pixel_std) and min(self.pixel_std) > 0,
                "pixel_std", "needs three numbers > 0")
        require(isinstance(self.score, str) and self.score in SCORES, "score",
                f"choose one of {', '.join(SCORES)}")

    @property
    def num_classes(self) -> int:
        return len(self.labels)

    @property
    def frozen_layers(self) -> int:
        """ViT blocks that are never trained."""
        return self.num_layers - (self.decoder_blocks if self.decoder is Decoder.JOINT else 0)

    @classmethod
    def preset(cls: type[C], size: str, **overrides: Any) -> C:
        """``tiny`` (random, for tests), ``small``, ``base`` or ``large``: the DINOv2 sizes."""
        if size not in _PRESETS:
            raise ValueError(f"unknown preset {size!r}: choose one of {', '.join(_PRESETS)}")
        return cls(**{**_PRESETS[size], **overrides})

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "decoder": self.decoder.value}

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown config field(s) {', '.join(unknown)}: written by a newer version?")
        return cls(**values)
