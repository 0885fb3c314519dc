# SPDX-License-Identifier: MIT
"""A drive: where the camera is, what stands on the road and beside it; and the camera's flaws."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from . import objects, roadside, spans
from .lights import LIGHTS, light
from .renderer import Camera, Item, Light, pose
from .tracks import CAR, ORDINARY, OUTLIER, Track

PASSING_M = (2.0, 4.5)  # from the camera's line to the middle of a car beside it


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


@dataclass(frozen=True)
class Variety:
    """What training frames have and frames to measure on have not; probabilities in [0,1].

    Attributes:
        spans: something ordinary over the road (a gantry, an arch, a bridge), 8-200 m ahead.
        roadside: 1-4 ordinary things beside it (walls in blocks of colour, hoardings, towers).
        cars: of each car to be of any kind (`cars`), not the one shape.
    """

    spans: float = 0.0
    roadside: float = 0.0
    cars: float = 0.0


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
    variety: Variety = Variety(),
) -> Scene:
    """A random place, light and traffic on `track`; with_outliers adds 1-3 of `kinds`, 5-60 m ahead.

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
        car = "any_car" if variety.cars and rng.random() < variety.cars else "car"
        items.append(place(track, objects.make(car, rng), s + ahead, beside, yaw, CAR))
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
    if variety.spans and rng.random() < variety.spans:
        at = s + 8 * (200 / 8) ** rng.random()
        span = spans.make(rng, track.width(at))
        items.append(place(track, span, at, 0.0, 0.0, ORDINARY))
        about["span"] = span.kind
    if variety.roadside and rng.random() < variety.roadside:
        for _ in range(rng.integers(1, 5)):
            items += _beside(track, rng, s)
    return Scene(camera, light(rng, kind), items, about)


def _beside(track: Track, rng: np.random.Generator, s: float) -> list[Item]:
    """Something ordinary beside the road, 4-120 m ahead of arc length s; what is long follows the road."""
    at, side = s + 4 * (120 / 4) ** rng.random(), rng.choice((-1, 1))
    gap, items = 0.3 + 9 * rng.random() ** 2, []
    for piece in roadside.make(rng):
        half = track.width(at) / 2 + gap + piece.extent[2] / 2
        items.append(place(track, piece, at, side * half, 0.0, ORDINARY))
        at += piece.extent[0]
    return items
