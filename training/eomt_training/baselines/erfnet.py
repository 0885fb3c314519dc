# SPDX-License-Identifier: MIT
"""ERFNet: a real-time encoder-decoder of factorised residual layers (Romera et al., T-ITS 2018).

Written from the paper: its Table I is `ErfNet.__init__` row by row. The last output is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt_anomaly.model import Label
from eomt_anomaly.model.states import check_state

from . import files
from .pixel_scores import max_entropy, max_logit, msp

KIND = "erfnet"
DILATIONS = (2, 4, 8, 16)


@dataclass
class ErfNetConfig:
    """Classes, and how images come in: in [0,1], without further normalisation, as in the paper."""

    labels: tuple[Label, ...]
    image_size: int = 480  # short side, px, that it was trained at
    patch_size: int = 8  # image sides must be multiples of this
    pixel_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    void: bool = True  # whether the void output was trained; else its probability is no score

    def __post_init__(self) -> None:
        self.labels = tuple(
            x if isinstance(x, Label) else Label(**{**x, "color": tuple(x["color"])}) for x in self.labels
        )
        for name in ("pixel_mean", "pixel_std"):  # lists, when read from JSON
            setattr(self, name, tuple(getattr(self, name)))

    @property
    def num_classes(self) -> int:
        return len(self.labels)


class Downsample(nn.Module):
    """[B,C,h,w] -> [B,C',h/2,w/2]: a strided 3x3 convolution and a max-pooling side by side (ENet)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels - channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.conv(x), F.max_pool2d(x, 2)], 1)))


class NonBottleneck1D(nn.Module):
    """Residual layer of 3x1, 1x3, 3x1, 1x3 convolutions; the second pair is dilated."""

    def __init__(self, channels: int, dilation: int = 1, dropout: float = 0.0):
        super().__init__()
        d = dilation
        self.conv1_v = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1_h = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.norm1 = nn.BatchNorm2d(channels, eps=1e-3)
        self.conv2_v = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv2_h = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.norm2 = nn.BatchNorm2d(channels, eps=1e-3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1_h(F.relu(self.conv1_v(x)))))
        y = self.norm2(self.conv2_h(F.relu(self.conv2_v(y))))
        return F.relu(x + self.dropout(y))


class Upsample(nn.Module):
    """[B,C,h,w] -> [B,C',2h,2w]: transposed 3x3 convolution, norm, ReLU."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Logits(nn.ConvTranspose2d):
    """[B,C,h,w] -> [B,C',2h,2w]: transposed 2x2 convolution, float32 under autocast: bfloat16 would tie."""

    bias: nn.Parameter

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no output_size
        with torch.autocast(x.device.type, enabled=False):
            return F.conv_transpose2d(x.float(), self.weight.float(), self.bias.float(), stride=2)


class ErfNet(nn.Module):
    """pixels [B,3,H,W] -> logits float32 [B,C+1,H,W], the last void; H and W multiples of 8.

    >>> ErfNet(ErfNetConfig(numbered_labels(19)))(torch.zeros(1, 3, 64, 128)).shape          # doctest: +SKIP
    torch.Size([1, 20, 64, 128])
    """

    def __init__(self, config: ErfNetConfig):
        super().__init__()
        self.config = config
        scores = ("msp", "max_logit", "max_entropy")
        self.score_names: tuple[str, ...] = (*scores, "void") if config.void else scores
        self.encoder = nn.Sequential(  # size of the output, relative to the image
            Downsample(3, 16),  # 1/2
            Downsample(16, 64),  # 1/4
            *(NonBottleneck1D(64, dropout=0.03) for _ in range(5)),
            Downsample(64, 128),  # 1/8
            *(NonBottleneck1D(128, dilation, dropout=0.3) for _ in range(2) for dilation in DILATIONS),
        )
        self.decoder = nn.Sequential(
            Upsample(128, 64),  # 1/4
            NonBottleneck1D(64),
            NonBottleneck1D(64),
            Upsample(64, 16),  # 1/2
            NonBottleneck1D(16),
            NonBottleneck1D(16),
        )
        self.head = Logits(16, config.num_classes + 1)  # 1

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        if height % 8 or width % 8 or not height * width:
            raise ValueError(f"image is {height}x{width} px: both sides must be positive multiples of 8")
        return self.head(self.decoder(self.encoder(pixels)))

    @torch.no_grad()
    def predict_scores(
        self, pixels: Tensor, names: Sequence[str] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `AnomalyPredictor.predict_scores`. ``void`` is the void output's probability, in [0,1].

        The other scores and ``semantic`` are of the known classes alone: softmax without the void output.
        """
        logits = self(pixels)
        known = logits[:, :-1]
        make = {
            "msp": lambda: msp(known),
            "max_logit": lambda: max_logit(known),
            "max_entropy": lambda: max_entropy(known),
            "void": lambda: logits.softmax(1)[:, -1],
        }
        names = self.score_names if names is None else names
        return known.softmax(1), {name: make[name]() for name in names}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors (float32)."""
        files.write(folder, KIND, asdict(self.config), self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ErfNet:
        """The network of a checkpoint folder, in eval mode. ValueError names what does not fit."""
        values, state = files.read(folder, KIND)
        net = cls(ErfNetConfig(**values))
        check_state(net.state_dict(), state, f"weights of {folder}")
        net.load_state_dict(state)
        return net.eval()
