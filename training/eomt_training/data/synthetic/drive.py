# SPDX-License-Identifier: MIT
"""A drive: where the camera is, how the scene is lit, what stands on the road; and the camera's flaws."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import objects, spans
from .renderer import Camera, Item, Light, pose
from .tracks import CAR, ORDINARY, OUTLIER, Track

PASSING_M = (2.0, 4.5)  # from the camera's line to the middle of a car beside it
LIGHTS = ("day", "day", "overcast", "overcast", "low_sun", "dusk", "fog")


def intrinsics(size: tuple[int, int], fov_deg: float) -> np.ndarray:
    """[3,3] K of a pin-hole camera of horizontal field of view `fov_deg`, principal point at the centre."""
    w, h = size
    f = w / 2 / np.tan(np.radians(fov_deg) / 2)
    return np.array([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1.0]])


def camera_on(
    track: Track,
    s: float,
    across: float,
    size,
    fov_deg: float,
    height: float = 1.4,
    pitch: float = 0.04,
    yaw: float = 0.0,
    roll: float = 0.0,
) -> Camera:
    """A camera `height` metres above the road at arc length s, `across` metres right of its centre.

    It looks along the road; pitch (down), yaw (right) and roll are in radians, relative to the road surface.
    """
    road = track.at(s, across)
    forward = track.heading(s, 5.0)
    right = np.cross(forward, (0, 1, 0))
    forward = forward * np.cos(pitch) - np.array([0, 1, 0]) * np.sin(pitch)
    forward = forward + right * np.tan(yaw)
    return Camera(intrinsics(size, fov_deg), pose(road + (0, height, 0), forward, roll), size)


def light(rng: np.random.Generator, kind: str) -> Light:
    """A random light of one of LIGHTS."""
    warm = rng.uniform(-0.04, 0.04)
    angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2)
    sun = (np.cos(angle), up, np.sin(angle))
    tint = np.array([1 + warm, 1.0, 1 - warm])
    seed = float(rng.uniform(0, 50))
    if kind == "day":
        return Light(
            sun,
            tuple(np.array([0.68, 0.65, 0.58]) * tint),
            tuple(np.array([0.5, 0.53, 0.58]) * tint),
            fog=rng.uniform(2e-4, 1e-3),
            clouds=rng.uniform(0.15, 0.6),
            seed=seed,
        )
    if kind == "overcast":
        grey = rng.uniform(0.65, 0.9)
        return Light(
            sun,
            (0.2, 0.2, 0.2),
            tuple(np.array([0.85, 0.86, 0.88]) * tint * rng.uniform(0.8, 1.1)),
            (grey * 0.8, grey * 0.83, grey * 0.88),
            (grey, grey, grey * 1.02),
            rng.uniform(5e-4, 2.5e-3),
            rng.uniform(0.7, 1.0),
            seed,
        )
    if kind == "low_sun":
        return Light(
            (sun[0], 0.25, sun[2]),
            (1.0, 0.75, 0.45),
            (0.45, 0.45, 0.52),
            (0.35, 0.48, 0.72),
            (0.95, 0.82, 0.66),
            rng.uniform(4e-4, 1.5e-3),
            rng.uniform(0.2, 0.7),
            seed,
        )
    if kind == "dusk":
        k = rng.uniform(0.5, 0.9)
        return Light(
            (sun[0], 0.2, sun[2]),
            (0.3 * k, 0.2 * k, 0.16 * k),
            (0.5 * k, 0.52 * k, 0.66 * k),
            (0.2 * k, 0.26 * k, 0.45 * k),
            (0.85 * k, 0.65 * k, 0.6 * k),
            rng.uniform(5e-4, 2e-3),
            rng.uniform(0.2, 0.8),
            seed,
        )
    if kind == "fog":
        grey = rng.uniform(0.6, 0.85)
        return Light(
            sun,
            (0.1, 0.1, 0.1),
            tuple(np.array([0.8, 0.81, 0.83]) * tint),
            (grey, grey, grey),
            (grey, grey, grey * 1.01),
            rng.uniform(6e-3, 1.8e-2),
            0.9,
            seed,
        )
    raise ValueError(f"unknown light {kind!r}; known: {', '.join(sorted(set(LIGHTS)))}")


def place(
    track: Track, prop: objects.Prop, s: float, across: float, yaw: float, label: int, scale: float = 1.0
) -> Item:
    """Stands an object on the ground at (s, across); yaw (radians) is relative to the road's direction."""
    point = track.at(s, across)
    if abs(across) > track.width(s) / 2:
        point[1] = track.ground(point)
    forward = track.heading(s)
    ahead = np.arctan2(-forward[2], forward[0]) + yaw
    c, n = np.cos(ahead) * scale, np.sin(ahead) * scale
    slope = forward[1] * np.cos(yaw)  # lie along the road's grade, roughly
    model = np.array(
        [[c, 0, n, point[0]], [slope * scale, scale, 0, point[1]], [-n, 0, c, point[2]], [0, 0, 0, 1.0]]
    )
    grow = 0.5 * prop.extent[[0, 2]] + 0.22
    return Item(prop.vertices, model, label, (float(grow[0]), float(grow[1])))


def finish(
    rgb: np.ndarray, rng: np.random.Generator, strength: float = 1.0, noise: np.random.Generator | None = None
) -> np.ndarray:
    """The camera's share: vignette, blur, exposure, tint, sensor noise. uint8 [H,W,3] in and out.

    `rng` decides the camera's look; for a video give an equal one each frame, and `noise` for what changes.
    """
    h, w = rgb.shape[:2]
    x: np.ndarray = rgb.astype(np.float32) / 255
    if rng.random() < 0.5 * strength:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 0.9))
    yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    x *= (1 - strength * rng.uniform(0, 0.22) * (xx**2 + yy**2) / 2)[..., None]
    x = np.clip(x, 0, 1) ** np.float32(1 + strength * rng.uniform(-0.2, 0.25))
    x = (
        x
        * (1 + strength * rng.uniform(-0.12, 0.12))
        * (1 + strength * rng.uniform(-0.05, 0.05, 3).astype(np.float32))
    )
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * np.float32(1 + strength * rng.uniform(-0.35, 0.2))
    sigma = strength * rng.uniform(0.002, 0.018)
    x += (noise or rng).normal(0, sigma, x.shape).astype(np.float32)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass
class Scene:
    """One frame to render, and what the manifest says about it."""

    camera: Camera
    light: Light
    items: list[Item]
    about: dict = field(default_factory=dict)


def random_scene(
    track: Track,
    rng: np.random.Generator,
    size,
    kinds: dict,
    with_outliers: bool,
    span_probability: float = 0.0,
) -> Scene:
    """A random place, light and traffic on `track`; with_outliers adds 1-3 of `kinds`, 5-60 m ahead.

    With `span_probability` something ordinary spans the road (a gantry, an arch, a bridge), 8-90 m ahead.

    Cars stand 2 to 110 m ahead, evenly in the logarithm of the distance, for what a network has not met it
    calls unknown: cars a few pixels wide, and those beside the camera, cut by the picture's edge.
    """
    s, half = rng.uniform(0, track.length), track.width(0) / 2
    across = rng.uniform(-0.5, 0.5) * half
    view = {
        "fov_deg": rng.uniform(52, 82),
        "height": rng.uniform(1.2, 1.75),
        "pitch": rng.uniform(-0.01, 0.13),
        "yaw": rng.normal(0, 0.05),
        "roll": rng.normal(0, 0.012),
    }
    camera = camera_on(track, s, across, size, **view)
    kind = LIGHTS[rng.integers(len(LIGHTS))]
    items, names = [], []
    for _ in range(rng.choice((0, 1, 2, 3, 4, 6))):
        yaw = rng.choice((0.0, np.pi)) + rng.normal(0, 0.08)
        ahead, beside = 2 * (110 / 2) ** rng.random(), rng.uniform(-0.75, 0.75) * half
        if ahead < 8:  # not on the camera
            beside = across + rng.choice((-1, 1)) * rng.uniform(*PASSING_M)
        items.append(place(track, objects.make("car", rng), s + ahead, beside, yaw, CAR))
    for _ in range(rng.integers(1, 4) if with_outliers else 0):
        name = list(kinds)[rng.integers(len(kinds))]
        side = (
            rng.normal(0, 0.5) * half
            if rng.random() < 0.75
            else rng.choice((-1, 1)) * (half + rng.uniform(0.3, 3.0))
        )
        items.append(
            place(
                track,
                objects.make(name, rng),
                s + 5 + 55 * rng.random() ** 2,
                side,
                rng.uniform(0, 2 * np.pi),
                OUTLIER,
                rng.uniform(0.8, 1.3),
            )
        )
        names.append(name)
    about = {"track": track.name, "s": round(float(s), 1), "light": kind, "outliers": names}
    if span_probability and rng.random() < span_probability:
        at = s + 8 * (90 / 8) ** rng.random()
        span = spans.make(rng, track.width(at))
        items.append(place(track, span, at, 0.0, 0.0, ORDINARY))
        about["span"] = span.kind
    return Scene(camera, light(rng, kind), items, about)
