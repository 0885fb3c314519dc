# SPDX-License-Identifier: MIT
"""From a labelled frame to what the network eats; every random choice comes from the generator given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from eomt_anomaly.model import patches

from ..targets import IGNORE
from .folders import Sample
from .weather import DEGRADATIONS, weathered

# Centred on pixels as the pictures' methods are; INTER_NEAREST shifts labels by half a pixel.
_LABELS = cv2.INTER_NEAREST_EXACT


@dataclass(frozen=True)
class Augmentation:
    """Probabilities in [0,1] and ranges; scale is relative to the size at which the short side fits.

    ``weather`` is the share of samples that get one of ``weather_kinds`` (names in `weather.DEGRADATIONS`),
    of a severity drawn from ``weather_severity``, within [0,1]; it takes the place of night, blur and noise.
    """

    scale: tuple[float, float] = (0.8, 1.7)
    flip: float = 0.5
    colour: float = 0.7
    night: float = 0.12
    blur: float = 0.15
    noise: float = 0.2
    jpeg: float = 0.25
    weather: float = 0.0
    weather_kinds: tuple[str, ...] = DEGRADATIONS
    weather_severity: tuple[float, float] = (0.1, 0.9)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weather_kinds) - set(DEGRADATIONS)):
            raise ValueError(f"unknown weather {unknown[0]!r}: choose from {', '.join(DEGRADATIONS)}")


def augment(
    sample: Sample, size: int, crop: tuple[int, int], rng: np.random.Generator, how: Augmentation
) -> Sample:
    """Flip, scale so that the short side is about ``size``, crop to ``crop`` (height, width) and jitter.

    A frame smaller than the crop lies anywhere in it, on grey that is IGNORE. Crops without any label are
    drawn again, up to ten times.
    """
    image, labels = sample.image, sample.labels
    if rng.random() < how.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    scale = size / min(labels.shape) * np.exp(rng.uniform(*np.log(how.scale)))
    height, width = (max(1, round(s * scale)) for s in labels.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method)
    labels = cv2.resize(np.ascontiguousarray(labels), (width, height), interpolation=_LABELS)
    for _ in range(10):
        window = tuple(
            slice(start := int(rng.integers(max(0, side - wanted) + 1)), start + wanted)
            for side, wanted in zip((height, width), crop)
        )
        if (labels[window] != IGNORE).any():
            break
    rows = np.linspace(0, 1, height, dtype=np.float32)[window[0]]
    image, labels = photometric(image[window], rng, how, rows), labels[window]
    missing = [wanted - side for wanted, side in zip(crop, labels.shape)]
    before = [int(rng.integers(m + 1)) for m in missing]
    pad = [(b, m - b) for b, m in zip(before, missing)]
    return Sample(
        np.pad(image, (*pad, (0, 0)), constant_values=124),
        np.pad(labels, pad, constant_values=IGNORE),
        sample.name,
    )


def photometric(
    image: np.ndarray, rng: np.random.Generator, how: Augmentation, rows: np.ndarray
) -> np.ndarray:
    """Colour, weather, night, blur, noise and JPEG artefacts, each with its probability.

    image: uint8 [H,W,3], in and out. rows: float [H], where each row lies in its frame, 0 top to 1 bottom.
    """
    if rng.random() < how.colour:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-9, 9)) % 180
        hsv[..., 1] *= rng.uniform(0.5, 1.5)
        image = cv2.cvtColor(hsv.clip(0, (179, 255, 255)).astype(np.uint8), cv2.COLOR_HSV2RGB)
        table = 255 * ((np.arange(256) / 255) ** rng.uniform(0.6, 1.6)) * rng.uniform(
            0.7, 1.25
        ) + rng.uniform(-25, 25)
        image = cv2.LUT(image, table.clip(0, 255).astype(np.uint8))
    if how.weather and rng.random() < how.weather:
        image = weathered(image, how.weather_kinds, how.weather_severity, rng, rows)
        how = replace(how, night=0, blur=0, noise=0)
    if rng.random() < how.night:
        tint = rng.uniform((0.7, 0.75, 0.8), (1.1, 1.0, 1.2))
        image = (255 * (image / 255.0) ** rng.uniform(1.0, 1.7) * rng.uniform(0.25, 0.6) * tint).clip(0, 255)
        image = image.astype(np.uint8)
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < how.noise:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(2, 14)
        image = (image + noise).clip(0, 255).astype(np.uint8)
    if rng.random() < how.jpeg:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return image


def fit_short_side(sample: Sample, size: int, patch: int) -> Sample:
    """Resize so that the short side is about ``size`` and both are multiples of ``patch`` (validation)."""
    scale = size / min(sample.labels.shape)
    height, width = (patches(side * scale, patch) * patch for side in sample.labels.shape)
    image = cv2.resize(
        sample.image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    labels = cv2.resize(sample.labels, (width, height), interpolation=_LABELS)
    return Sample(image, labels, sample.name)


def to_tensors(sample: Sample, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Tensor | str]:
    """{"pixels": float [3,H,W] normalised, "labels": long [H,W], "name"}."""
    pixels = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return {
        "pixels": pixels,
        "labels": torch.from_numpy(np.ascontiguousarray(sample.labels)).long(),
        "name": sample.name,
    }
