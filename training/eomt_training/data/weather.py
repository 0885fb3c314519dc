# SPDX-License-Identifier: MIT
"""Night, low sun, rain, fog, snow, noise, blur and camera response, made from a picture alone.

Approximations without depth: distance is that of a street's ground and walls, with the horizon at 0.4 of the
picture's height, and the sky is far.
Every effect takes an image uint8 [H,W,3] RGB, a severity in [0,1] (0: next to nothing, 1: a person still sees
the road), a generator for all its choices, and ``rows``, float [H]: where each row lies in the whole frame, 0
top to 1 bottom (a crop passes its part). It returns a new uint8 [H,W,3]; geometry and labels stay true.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

HORIZON = 0.4
_GAMMA = 2.2
_LINEAR = (np.arange(256, dtype=np.float32) / 255) ** _GAMMA
_CODE = np.rint(255 * np.linspace(0, 1, 65536) ** (1 / _GAMMA)).astype(np.uint8)


def degraded(image: np.ndarray, kind: str, severity: float, seed: int | Sequence[int]) -> np.ndarray:
    """A copy of ``image`` (uint8 [H,W,3] RGB) with one of `DEGRADATIONS`, for evaluation.

    severity: in [0,1], 0.5 is plainly visible. seed: non-negative integer(s), e.g. (seed, frame's index). The
    result depends on the arguments alone. Raises ValueError for another kind, severity or image.
    """
    check(kind, severity)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}: expected uint8 [H,W,3]")
    rows = np.linspace(0, 1, image.shape[0], dtype=np.float32)
    return _EFFECTS[kind](image, float(severity), np.random.default_rng(seed), rows)


def check(kind: str, severity: float) -> None:
    """Raises ValueError for a kind that is none of `DEGRADATIONS`, or a severity outside of [0,1]."""
    if kind not in _EFFECTS:
        raise ValueError(f"unknown degradation {kind!r}: choose one of {', '.join(DEGRADATIONS)}")
    if not 0 <= severity <= 1:
        raise ValueError(f"severity = {severity}: give a number in [0, 1]")


def weathered(
    image: np.ndarray,
    kinds: Sequence[str],
    severity: tuple[float, float],
    rng: np.random.Generator,
    rows: np.ndarray,
) -> np.ndarray:
    """A copy of ``image`` with one of ``kinds``, of a severity within a range, for training."""
    effect = _EFFECTS[kinds[int(rng.integers(len(kinds)))]]
    return effect(np.ascontiguousarray(image), rng.uniform(*severity), rng, rows)


def dark(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Night: little, coloured light, the own headlights on the near road, bloom of lamps, sensor noise."""
    light, side = _LINEAR[image], min(image.shape[:2])
    ambient = 0.04**severity * _float32(rng.uniform((0.75, 0.8, 0.8), (1.25, 1.0, 1.2))) ** severity
    x = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None]
    reach = np.exp(-(((rows[:, None] - 0.8) / 0.22) ** 2) - ((x - rng.uniform(-0.2, 0.2)) / 0.7) ** 2)
    headlights = severity * rng.uniform(0.1, 0.9) * reach
    half = tuple(-(-s // 2) for s in image.shape[1::-1])
    lamps = cv2.resize(light, half, interpolation=cv2.INTER_AREA).min(2)
    lamps = np.maximum(lamps - cv2.GaussianBlur(lamps, (0, 0), 0.02 * side) - 0.25, 0)  # small and bright
    lamps = lamps + 3 * cv2.GaussianBlur(lamps, (0, 0), 0.01 * side)
    lamps = cv2.resize(lamps, image.shape[1::-1]) * severity * rng.uniform(0, 0.8)
    lit = light * (ambient + headlights[..., None]) + lamps[..., None]
    exposure = 1 + severity * rng.uniform(0, 2)  # the camera's own gain, which lifts the noise too
    return _encode(exposure * _sensor(lit, 4000 * 0.1**severity, 0.004 * severity, rng))


def low_sun(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """A sun near the horizon: glare that veils what is around it, warm light, a shine on the road."""
    light = _LINEAR[image]
    height, width = image.shape[:2]
    sun_x, sun_y = rng.uniform(0, width), rng.uniform(0.1, HORIZON)
    dx = (np.arange(width, dtype=np.float32) - sun_x) / width
    dy = (rows - sun_y)[:, None]
    distance = np.hypot(dx[None], dy)
    veil = np.exp(-distance / rng.uniform(0.15, 0.4)) + 3 * np.exp(-((distance / 0.04) ** 2))
    below = np.clip((rows - HORIZON) / (1 - HORIZON), 0, 1)[:, None]
    veil = veil + rng.uniform(0, 0.6) * below * np.exp(-((dx[None] / 0.12) ** 2))
    warm = _float32([1.0, rng.uniform(0.75, 0.95), rng.uniform(0.45, 0.8)])
    contrast = 1 - rng.uniform(0.2, 0.6) * severity  # the exposure gives way to the sun
    return _encode(contrast * light * (1 - 0.4 * severity * (1 - warm)) + severity * veil[..., None] * warm)


def rain(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Streaks of one direction, a grey veil with distance, blurring drops on the lens."""
    side = min(image.shape[:2])
    image = fog(image, 0.5 * severity, rng, rows)
    streaks = np.zeros(image.shape[:2], np.float32)
    for length in (0.03, 0.07):
        dots = (rng.random(streaks.shape, np.float32) < 0.0015 + 0.006 * severity).astype(np.float32)
        streaks += cv2.filter2D(dots, -1, _streak(max(3, round(length * side)), rng.uniform(-20, 20)))
    streaks = cv2.GaussianBlur(streaks, (0, 0), 0.6) * rng.uniform(1.5, 3.0)
    streaks = np.clip(streaks, 0, 1)[..., None] * (0.25 + 0.45 * severity)
    out = image * (1 - streaks) + 215 * streaks
    behind = cv2.GaussianBlur(image, (0, 0), 0.03 * side)
    behind = 0.5 * behind + 0.5 * behind[::-1]  # a drop shows the scene upside down
    drops = np.zeros(image.shape[:2], np.float32)
    for _ in range(rng.poisson(14 * severity)):
        centre = (int(rng.integers(image.shape[1])), int(rng.integers(image.shape[0])))
        cv2.circle(drops, centre, max(1, round(side * rng.uniform(0.006, 0.025))), 1.0, -1)
    drops = cv2.GaussianBlur(drops, (0, 0), 0.004 * side + 0.3)[..., None] * 0.7
    return _bytes(out * (1 - drops) + (0.8 * behind + 30) * drops)


def fog(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Koschmieder's law I·t + A·(1-t), t = exp(-β·distance), in a street; banks of uneven density."""
    banks = _clouds(image.shape[:2], rng, 0.25 * severity)
    transmission = np.exp(-0.6 * severity * banks * _corridor(rows, image.shape[1], rng))[..., None]
    airlight = _float32(rng.uniform(150, 225) + rng.uniform(-8, 8, 3))
    return _bytes(image * transmission + airlight * (1 - transmission))


def snow(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Falling flakes near and far, a bright haze, and snow lying in patches on the ground."""
    side = min(image.shape[:2])
    lying = _clouds(image.shape[:2], rng, 1.0) * np.clip((rows - HORIZON) * 4, 0, 1)[:, None]
    lying += cv2.GaussianBlur(rng.standard_normal(lying.shape, dtype=np.float32), (0, 0), 0.003 * side + 0.5)
    lying = np.clip(2 * (lying - 1.6 + 0.5 * severity), 0, 0.75)[..., None] * severity
    image = _bytes(image * (1 - lying) + 225 * lying)
    out = fog(image, 0.5 * severity, rng, rows).astype(np.float32)
    for size, density in ((0.002, 0.004), (0.004, 0.0010), (0.007, 0.00015)):
        dots = (rng.random(image.shape[:2], np.float32) < density * (0.3 + severity)).astype(np.float32)
        sigma = max(0.5, size * side * rng.uniform(0.6, 1.2))
        flakes = cv2.filter2D(dots, -1, _streak(max(1, round(2 * sigma)), rng.uniform(-50, 50)))
        flakes = np.clip(cv2.GaussianBlur(flakes, (0, 0), sigma) * 2 * np.pi * sigma**2, 0, 1)[..., None]
        out = out * (1 - 0.85 * flakes) + 245 * 0.85 * flakes
    return _bytes(out)


def noise(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Shot noise (variance grows with light), read noise, and at higher severity the blotches of a codec."""
    noisy = _encode(_sensor(_LINEAR[image], 2000 * 0.02**severity, 0.03 * severity**2, rng))
    quality = int(90 - 60 * severity * rng.random())
    code = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))


def blur(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Motion blur along one line or an unfocused lens, up to 2.5 % of the short side."""
    length = 1 + 2 * severity * 0.0125 * min(image.shape[:2])
    if rng.random() < 0.5:
        kernel = _streak(max(1, round(2 * length)), rng.uniform(0, 180))
    else:
        radius = max(1, round(length))
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        kernel = (np.hypot(x, y) <= length).astype(np.float32)
        kernel /= kernel.sum()
    return cv2.filter2D(image, -1, kernel)


def response(image: np.ndarray, severity: float, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Another camera: exposure, white balance, tone curve, vignette, and clipped highlights."""
    stops = rng.choice((-1, 1)) * rng.uniform(0.4, 1) * 2 * severity
    balance = _float32(np.exp(rng.uniform(-0.3, 0.3, 3) * severity))
    y, x = rows[:, None] - 0.5, np.linspace(-0.5, 0.5, image.shape[1], dtype=np.float32)[None]
    vignette = 1 - rng.uniform(0, 1.2) * severity * (x**2 + y**2)
    light = np.clip(_LINEAR[image] * 2**stops * balance * vignette[..., None], 0, 1)
    curve = light ** (1 + severity * rng.uniform(-0.35, 0.35))
    return _encode(curve)


_EFFECTS = {
    "dark": dark,
    "low_sun": low_sun,
    "rain": rain,
    "fog": fog,
    "snow": snow,
    "noise": noise,
    "blur": blur,
    "response": response,
}
DEGRADATIONS = tuple(_EFFECTS)


def _sensor(light: np.ndarray, photons: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Linear light in [0,1] as a sensor sees it that collects ``photons`` at white; read noise in [0,1]."""
    deviation = np.sqrt(np.maximum(light, 0) / photons + read**2)
    return light + deviation * rng.standard_normal(light.shape, dtype=np.float32)


def _encode(light: np.ndarray) -> np.ndarray:
    """Linear light (clipped to [0,1]) to uint8."""
    return _CODE[np.clip(65535 * light, 0, 65535).astype(np.uint16)]


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _float32(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _corridor(rows: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Distance [H,W] to a street's ground and walls, in widths of the view: 1 at the rim, at most 8."""
    x = np.abs(np.linspace(-1, 1, width, dtype=np.float32) - rng.uniform(-0.15, 0.15))[None]
    ground = np.maximum(rows - HORIZON, 0)[:, None] / (1 - HORIZON)
    ceiling = 0.3 * np.maximum(HORIZON - rows, 0)[:, None] / HORIZON
    nearness = (ground**3 + ceiling**3 + (0.7 * x) ** 3) ** (1 / 3)  # a smooth maximum
    return 1 / np.maximum(nearness, 0.125)


def _streak(length: int, degrees: float) -> np.ndarray:
    """Kernel of a line ``length`` px long, ``degrees`` from the vertical; sums to 1."""
    side = length | 1
    line = np.zeros((side, side), np.float32)
    line[:, side // 2] = 1
    turn = cv2.getRotationMatrix2D((side // 2, side // 2), degrees, 1)
    turned = cv2.warpAffine(line, turn, (side, side))
    return turned / turned.sum()


def _clouds(shape: tuple[int, int], rng: np.random.Generator, depth: float) -> np.ndarray:
    """Smooth random field [H,W] around 1, of amplitude ``depth``: three octaves of interpolated noise."""
    field = np.ones(shape, np.float32)
    for octave in (2, 5, 11):
        grid = rng.uniform(-1, 1, (octave + 1, octave + 2)).astype(np.float32)
        field += depth / octave * 2 * cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.maximum(field, 0)
