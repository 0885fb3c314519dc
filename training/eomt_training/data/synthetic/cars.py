# SPDX-License-Identifier: MIT
"""Ordinary traffic, each body its own mix of lengths, heights, colours and glass: from hatchback to bus.

Object space as in `objects`: metres, x forward, y up, z right, wheels on y = 0, centred on the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shapes import METAL, PLAIN, box, paint, tube

Range = tuple[float, float]


@dataclass(frozen=True)
class Body:
    """One kind of car; ranges (from, to) in metres, shares of the length where named so.

    Attributes:
        belt: height of the lower edge of the windows, as a share of the height.
        cabin: length of what rises above the belt, share of the length; shift: of its middle, forward.
        taper: length of the roof over that of the cabin at the belt.
        wheel: radius, metres.
        panelled: the sides above the belt are sheet metal, with glass at the front only.
        load: height of a box behind the cabin over the body's; 0: none.
    """

    length: Range
    width: Range
    height: Range
    belt: float
    cabin: Range
    shift: Range
    taper: Range
    wheel: Range = (0.28, 0.34)
    panelled: bool = False
    load: Range = (0.0, 0.0)


BODIES = {
    "saloon": Body((4.2, 4.9), (1.7, 1.88), (1.35, 1.5), 0.62, (0.50, 0.62), (-0.10, -0.04), (0.6, 0.75)),
    "hatchback": Body((3.4, 4.2), (1.6, 1.8), (1.4, 1.6), 0.6, (0.60, 0.72), (-0.16, -0.10), (0.65, 0.85)),
    "estate": Body((4.2, 4.9), (1.7, 1.85), (1.4, 1.6), 0.6, (0.66, 0.76), (-0.14, -0.10), (0.75, 0.9)),
    "off_roader": Body(
        (4.0, 5.0), (1.75, 2.0), (1.6, 1.95), 0.58, (0.60, 0.75), (-0.15, -0.08), (0.8, 0.95), (0.34, 0.42)
    ),
    "van": Body(
        (4.4, 6.2), (1.8, 2.1), (1.85, 2.7), 0.5, (0.80, 0.95), (-0.06, -0.02), (0.85, 0.97), panelled=True
    ),
    "pick_up": Body(
        (4.8, 5.5), (1.75, 2.0), (1.65, 1.9), 0.55, (0.30, 0.45), (0.0, 0.1), (0.7, 0.85), (0.34, 0.42)
    ),
    "lorry": Body(
        (5.5, 9.5),
        (2.1, 2.5),
        (2.2, 2.9),
        0.5,
        (0.18, 0.28),
        (0.36, 0.4),
        (0.85, 1.0),
        (0.4, 0.52),
        load=(1.0, 1.5),
    ),
    "bus": Body(
        (8.5, 12.0), (2.4, 2.55), (2.8, 3.3), 0.42, (0.97, 1.0), (0.0, 0.0), (0.97, 1.0), (0.42, 0.5)
    ),
}
COMMON = ("saloon", "hatchback", "estate", "off_roader")
COMMON_SHARE = 0.65


def _lacquer(rng) -> np.ndarray:
    """Two cars in three are white, grey or black; the others have any colour."""
    return paint(rng, 0.04, 0.92, plain=0.65)


def _wheel(x: float, z: float, side: int, radius: float, rim: np.ndarray) -> list[np.ndarray]:
    out, inner = z + side * 0.01, z - side * 0.2
    return [
        tube((x, radius, inner), (x, radius, out), radius, radius, (0.04, 0.04, 0.04)),
        tube((x, radius, out), (x, radius, out + side * 0.01), 0.62 * radius, 0.62 * radius, rim, METAL),
    ]


def car(rng: np.random.Generator) -> list[np.ndarray]:
    """Triangles [3T,12] of a car of a random kind."""
    others = [name for name in BODIES if name not in COMMON]
    names = COMMON if rng.random() < COMMON_SHARE else others
    return build(BODIES[names[int(rng.integers(len(names)))]], rng)


def build(body: Body, rng: np.random.Generator) -> list[np.ndarray]:
    """Triangles [3T,12] of one car of a kind."""
    length, width, height = rng.uniform(*body.length), rng.uniform(*body.width), rng.uniform(*body.height)
    cabin = rng.uniform(*body.cabin) * length
    room = (length - cabin) / 2
    at = float(np.clip(rng.uniform(*body.shift) * length, -room, room))  # not beyond the bumpers
    taper, wheel = rng.uniform(*body.taper), rng.uniform(*body.wheel)
    coat, trim = _lacquer(rng), np.full(3, rng.uniform(0.03, 0.15))
    glass = np.array([0.8, 0.95, 1.1]) * rng.uniform(0.05, 0.4)  # dark, or bright with the sky
    belt, sill, roof = body.belt * height, 0.7 * wheel, 0.04 * height
    bumper = trim if rng.random() < 0.4 else coat * rng.uniform(0.8, 1.0)
    tall = height - roof - belt
    walls = coat if body.panelled else glass
    mid = belt - 0.35 * (belt - sill)  # the crease along the side
    parts = [
        box((length, mid - sill, width), (0, (mid + sill) / 2, 0), coat, METAL, (0.985, 0.97)),
        box((0.98 * length, belt - mid, 0.97 * width), (0, (belt + mid) / 2, 0), coat, METAL, (0.96, 0.94)),
        box((cabin, tall, 0.91 * width), (at, belt + tall / 2, 0), walls, METAL, (taper, 0.84)),
        box((cabin * taper, roof, 0.77 * width), (at, height - roof / 2, 0), coat, METAL, (0.96, 0.95)),
        box((1.01 * length, 0.4 * (mid - sill), 0.95 * width), (0, sill + 0.2 * (mid - sill), 0), bumper),
    ]
    if body.panelled:  # a windscreen on the slope of the front, and a window in each door
        front = at + cabin * ((1 + taper) / 4 - 0.02)
        parts += [
            box(
                (0.12 * cabin, 0.7 * tall, 0.8 * width),
                (front, belt + 0.5 * tall, 0),
                glass,
                PLAIN,
                (0.6, 0.9),
            ),
            box((0.14 * length, 0.55 * tall, 0.89 * width), (0.3 * length, belt + 0.4 * tall, 0), glass),
        ]
    else:  # pillars, which show on the sides alone
        for x in (-0.45, *rng.uniform((-0.25, 0.0), (-0.1, 0.2)), 0.45):
            size = (rng.uniform(0.04, 0.12), tall, 0.9 * width)
            parts.append(box(size, (at + x * cabin * taper, belt + tall / 2, 0), coat, METAL, (1, 0.85)))
    if body.load[1]:
        back, load = at - cabin / 2, rng.uniform(*body.load) * height
        size = (back + 0.49 * length, load - belt * 0.8, width)
        parts.append(
            box(size, ((back - 0.49 * length) / 2, 0.8 * belt + size[1] / 2, 0), _lacquer(rng), METAL)
        )
    rim = np.full(3, rng.uniform(0.1, 0.7))
    for side in (-1, 1):
        z = side * width / 2
        for x in (-0.31, 0.31):
            parts += _wheel(x * length, z, side, wheel, rim)
        lamp, level = rng.uniform(0.12, 0.3), belt - 0.2 * (belt - sill)
        parts += [
            box((0.05, 0.14, lamp), (length / 2, level, z - side * 0.24), (0.95, 0.95, 0.85)),
            box(
                (0.05, rng.uniform(0.1, 0.4), lamp), (-length / 2, level, z - side * 0.2), (0.65, 0.03, 0.03)
            ),
            box((0.12, 0.12, 0.16), (at + 0.42 * cabin, belt + 0.08, z + side * 0.06), coat * 0.9),
        ]
    plate = (0.85, 0.85, 0.8) if rng.random() < 0.7 else (0.8, 0.7, 0.15)
    ends = (s * (length / 2 + 0.01) for s in (-1, 1))
    return [*parts, *(box((0.03, 0.12, 0.5), (x, sill + 0.55 * (mid - sill), 0), plate) for x in ends)]
