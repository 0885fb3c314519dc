# SPDX-License-Identifier: MIT
"""Whole drives: a camera that moves along a track past obstacles, each with an identity of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sequences import OBSTACLE
from . import drive, lights, objects
from .renderer import Camera, Item, Light
from .tracks import CAR, ORDINARY, VOID, Track

MAX_OBSTACLES = 53  # labels 200 to 252
CLEARANCE_M = 2.3  # between the camera's line and what it passes
STOP_M = 6.0  # the drive ends this far before the obstacle in its lane


@dataclass(frozen=True)
class Actor:
    """Something in the scene: arc length `s` at the start (m), metres right of the road's centre, m/s."""

    prop: objects.Prop
    s: float
    across: float
    yaw: float
    label: int
    scale: float = 1.0
    speed: float = 0.0

    def item(self, track: Track, t: float) -> Item:
        s = self.s + self.speed * t
        return drive.place(track, self.prop, s, self.across, self.yaw, self.label, self.scale)


@dataclass(frozen=True)
class Drive:
    """A drive of `seconds` at `speed` m/s; lane: metres right of the road's centre. Angles in radians."""

    track: Track
    size: tuple[int, int]
    light: Light
    light_kind: str
    seconds: float
    s: float
    lane: float
    speed: float
    fov_deg: float
    height_m: float
    pitch_rad: float
    look_seed: int
    obstacles: tuple[Actor, ...]
    cars: tuple[Actor, ...]

    def camera(self, t: float) -> Camera:
        """The camera t seconds into the drive; it sways a little, as one on a car does."""
        return drive.camera_on(
            self.track,
            self.s + self.speed * t,
            self.lane + 0.12 * np.sin(0.9 * t),
            self.size,
            self.fov_deg,
            self.height_m,
            self.pitch_rad + 0.003 * np.sin(8.1 * t) + 0.0015 * np.sin(13.7 * t),
            0.006 * np.sin(1.1 * t),
            0.004 * np.sin(3.3 * t),
        )

    def shot(self, renderer, t: float) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
        """(rgb uint8 [H,W,3], labels uint8 [H,W], {obstacle id: metres from the camera along the ground})."""
        camera = self.camera(t)
        items = [actor.item(self.track, t) for actor in self.obstacles]
        rgb, labels = renderer.render(
            camera, self.light, items + [car.item(self.track, t) for car in self.cars]
        )
        noise = np.random.default_rng((self.look_seed, round(1000 * t)))
        rgb = drive.finish(rgb, np.random.default_rng(self.look_seed), 1.0, noise)
        away = {i: metres_away(camera, item) for i, item in enumerate(items)}
        return rgb, sequence_labels(labels), away

    def on_road(self, obstacle: Actor) -> bool:
        """Whether the middle of an obstacle stands between the road's edges."""
        return bool(abs(obstacle.across) < self.track.width(obstacle.s) / 2)


def sequence_labels(rendered: np.ndarray) -> np.ndarray:
    """A renderer's labels uint8 [H,W] as sequences and bags have them: what is of no class is void.

    Scores are matched on pixels that have a class.
    """
    return np.where(rendered == ORDINARY, np.uint8(VOID), rendered)


def metres_away(camera: Camera, item: Item) -> float:
    """From the camera to the middle of an object, along the ground."""
    eye = -camera.world_to_camera[:3, :3].T @ camera.world_to_camera[:3, 3]
    return float(np.hypot(*(item.model[:3, 3] - eye)[[0, 2]]))


def random_drive(
    track: Track, rng: np.random.Generator, size: tuple[int, int], kinds: dict, seconds: float, clean: bool
) -> Drive:
    """A drive past obstacles of `kinds`, up to one in its own lane; `clean` has ordinary cars only.

    Four obstacles in five stand on the road, the others up to 3 m beside it, 20 to 40 m apart.
    """
    s, half = rng.uniform(0, track.length), track.width(0) / 2
    lane, speed = rng.uniform(-0.45, 0.45) * half, rng.uniform(8, 16)
    kind = lights.LIGHTS[rng.integers(len(lights.LIGHTS))]
    end = s + speed * seconds + STOP_M

    def beside_the_lane(low: float, high: float) -> float:
        tried = rng.uniform(low, high, 64)
        good = tried[np.abs(tried - lane) >= CLEARANCE_M]
        if not len(good):
            raise ValueError(f"{track.name} is {2 * half:.1f} m wide: too narrow to pass an obstacle")
        return float(good[0])

    obstacles: list[Actor] = []

    def add(at: float, across: float) -> None:
        prop = objects.make(list(kinds)[rng.integers(len(kinds))], rng)
        yaw, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.3)
        obstacles.append(Actor(prop, at, across, yaw, OBSTACLE + len(obstacles), scale))

    at = s + rng.uniform(15, 35)
    while not clean and at < end - 12 and len(obstacles) < MAX_OBSTACLES - 1:
        on_road = rng.random() < 0.8
        side = rng.choice((-1, 1)) * (half + rng.uniform(0.3, 3.0))
        add(at, beside_the_lane(-0.9 * half, 0.9 * half) if on_road else side)
        at += rng.uniform(20, 40)
    if not clean:
        add(end, lane)
    cars = []
    for _ in range(rng.integers(0, 4)):
        oncoming = rng.random() < 0.5
        cars.append(
            Actor(
                objects.make("car", rng),
                s + rng.uniform(15, 60) * (3 if oncoming else 1),
                beside_the_lane(-0.8 * half, 0.8 * half),
                np.pi if oncoming else 0.0,
                CAR,
                speed=-rng.uniform(8, 14) if oncoming else speed + rng.uniform(-2, 3),
            )
        )
    return Drive(
        track,
        size,
        lights.light(rng, kind),
        kind,
        seconds,
        s,
        lane,
        speed,
        fov_deg=rng.uniform(55, 80),
        height_m=rng.uniform(1.25, 1.7),
        pitch_rad=rng.uniform(0.0, 0.1),
        look_seed=int(rng.integers(2**31)),
        obstacles=tuple(obstacles),
        cars=tuple(cars),
    )
