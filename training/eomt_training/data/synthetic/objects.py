# SPDX-License-Identifier: MIT
"""Our own low-poly objects: outliers (disjoint TRAIN and EVAL kinds) and cars, built from a few primitives.

Object space: metres, x forward, y up, z right, standing on y = 0, centred on the origin.
Every kind is a function of a random generator, so each call gives another size, colour and surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLAIN, CLOTH, WOOD, FUR, METAL, STONE = ((4, 0.10, 0), (30, 0.25, 0), (3, 0.5, 1), (25, 0.55, 0), (2, 0.1, 0), (6, 0.6, 0))
"""Surface: (noise frequency 1/m, noise amplitude, 1 = grain along x)."""


@dataclass(frozen=True)
class Prop:
    """vertices [3T,12] float32: position, normal, rgb in [0,1], surface (frequency, amplitude, grain)."""

    kind: str
    vertices: np.ndarray

    @property
    def extent(self) -> np.ndarray:
        """[3] size in metres along x, y, z."""
        return np.ptp(self.vertices[:, :3], axis=0)


def _soup(tris: np.ndarray, color, surface, smooth: np.ndarray | None = None) -> np.ndarray:
    """[T,3,3] triangle corners -> [3T,12] vertices; `smooth` [T,3,3] replaces the flat normals."""
    flat = np.cross(tris[:, 1] - tris[:, 0], tris[:, 2] - tris[:, 0])
    normal = np.repeat(flat[:, None], 3, axis=1) if smooth is None else smooth
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    rest = np.broadcast_to(np.r_[np.asarray(color, float), np.asarray(surface, float)], (*tris.shape[:2], 6))
    return np.concatenate([tris, normal, rest], axis=-1).reshape(-1, 12).astype(np.float32)


def box(size, centre, color, surface=PLAIN, top=(1.0, 1.0)) -> np.ndarray:
    """A box of `size` around `centre`; `top` scales the upper face in x and z (a frustum)."""
    x, y, z = np.asarray(size, float) / 2
    low = [(-x, -y, -z), (x, -y, -z), (x, -y, z), (-x, -y, z)]
    high = [(a * top[0], y, c * top[1]) for a, _, c in low]
    p = np.array(low + high) + np.asarray(centre, float)
    faces = [(0, 1, 2, 3), (7, 6, 5, 4), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0)]
    return _soup(np.array([p[[a, b, c]] for f in faces for a, b, c in (f[:3], (f[0], f[2], f[3]))]), color, surface)


def _grid(points: np.ndarray, color, surface, smooth: bool = True) -> np.ndarray:
    """A surface over a grid of points [R,S,3], closed in S; smooth normals by averaging neighbours."""
    nxt = np.roll(points, -1, axis=1)
    quad = [points[:-1], nxt[:-1], nxt[1:], points[1:]]  # each [R-1,S,3]
    du, dv = nxt - np.roll(points, 1, axis=1), np.gradient(points, axis=0)
    n = np.cross(dv, du)
    m = np.roll(n, -1, axis=1)
    nq = [n[:-1], m[:-1], m[1:], n[1:]]
    pick = ((0, 2, 1), (0, 3, 2))
    tris = np.concatenate([np.stack([quad[i] for i in t], axis=2).reshape(-1, 3, 3) for t in pick])
    norms = np.concatenate([np.stack([nq[i] for i in t], axis=2).reshape(-1, 3, 3) for t in pick])
    return _soup(tris, color, surface, norms if smooth else None)


def ball(radius, centre, color, surface=PLAIN, rough: float = 0.0, rng=None) -> np.ndarray:
    """An ellipsoid (`radius`: one number or three), its surface displaced by `rough` (share of the radius)."""
    t, a = np.meshgrid(np.linspace(0.02, np.pi - 0.02, 11), np.linspace(0, 2 * np.pi, 16, endpoint=False), indexing="ij")
    unit = np.stack([np.sin(t) * np.cos(a), np.cos(t), np.sin(t) * np.sin(a)], axis=-1)
    if rough:
        unit = unit * (1 + rough * rng.uniform(-1, 1, (*t.shape, 1)))
    return _grid(unit * np.asarray(radius, float) + np.asarray(centre, float), color, surface, smooth=not rough)


def tube(a, b, r0, r1, color, surface=PLAIN, hollow: bool = False) -> np.ndarray:
    """A cone or cylinder from point a (radius r0) to b (radius r1), capped unless hollow."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    d = (b - a) / np.linalg.norm(b - a)
    u = np.cross(d, (0, 0, 1) if abs(d[2]) < 0.9 else (0, 1, 0))
    u /= np.linalg.norm(u)
    ang = np.linspace(0, 2 * np.pi, 14, endpoint=False)[:, None]
    ring = np.cos(ang) * u + np.sin(ang) * np.cross(d, u)
    wall = _grid(np.stack([a + r0 * ring, b + r1 * ring]), color, surface)
    if hollow:
        return wall
    caps = [_grid(np.stack([c + 1e-4 * ring, c + r * ring]), color, surface, False) for c, r in ((a, r0), (b, r1))]
    return np.concatenate([wall, *caps])


def _color(rng, low=0.05, high=0.9) -> np.ndarray:
    return rng.uniform(low, high, 3)


def _wood(rng) -> np.ndarray:
    return np.array([0.55, 0.38, 0.22]) * rng.uniform(0.6, 1.4)


def _sofa(rng):
    c, w = _color(rng), rng.uniform(1.5, 2.2)
    seat = [box((0.85, 0.25, w), (0, 0.3, 0), c, CLOTH), box((0.25, 0.55, w), (-0.35, 0.68, 0), c * 0.95, CLOTH, (0.7, 1))]
    arms = [box((0.85, 0.5, 0.2), (0, 0.4, s * w / 2), c * 0.9, CLOTH, (0.95, 0.8)) for s in (-1, 1)]
    cushions = [box((0.6, 0.14, w / 2 - 0.15), (0.08, 0.49, s * w / 4), c * 1.08, CLOTH, (0.9, 0.92)) for s in (-1, 1)]
    feet = [box((0.07, 0.18, 0.07), (x, 0.09, z), (0.1, 0.07, 0.05)) for x in (-0.35, 0.35) for z in (-w / 2, w / 2)]
    return [*seat, *arms, *cushions, *feet]


def _crate(rng):
    s, c = rng.uniform(0.5, 1.0), _wood(rng)
    parts = [box((s, s, s), (0, s / 2, 0), c * 0.75, WOOD)]
    for y in (0.08, 0.92):
        for z in (-0.5, 0.5):
            parts.append(box((s * 1.04, s * 0.13, 0.05), (0, y * s, z * s), c, WOOD))
            parts.append(box((0.05, s * 0.13, s * 1.04), (z * s, y * s, 0), c, WOOD))
    return parts + [box((0.09, s, 0.05), (x * s, s / 2, z * s), c, WOOD) for x in (-0.45, 0.45) for z in (-0.5, 0.5)]


def _tyres(rng):
    parts = []
    for i in range(rng.integers(1, 5)):
        y, c = 0.11 + 0.21 * i, np.full(3, rng.uniform(0.03, 0.09))
        x, z = rng.uniform(-0.05, 0.05, 2)
        parts += [tube((x, y - 0.1, z), (x, y, z), 0.27, 0.34, c, STONE), tube((x, y, z), (x, y + 0.1, z), 0.34, 0.27, c, STONE)]
    return parts


def _barrel(rng):
    c, r, h = _color(rng), rng.uniform(0.26, 0.34), rng.uniform(0.8, 1.0)
    parts = [tube((0, 0, 0), (0, h, 0), r, r, c, METAL)]
    parts += [tube((0, k * h - 0.02, 0), (0, k * h + 0.02, 0), r + 0.015, r + 0.015, c * 0.8, METAL) for k in (0.05, 0.35, 0.65, 0.97)]
    return parts if rng.random() < 0.6 else _lay(parts, r)


def _lay(parts, r):
    """Tips an upright object of radius r over, onto its side."""
    v = np.concatenate(parts)
    v[:, [0, 1, 3, 4]] = np.stack([v[:, 1] - np.ptp(v[:, 1]) / 2, r - v[:, 0], v[:, 4], -v[:, 3]], axis=1)
    return [v]


def _quadruped(rng, color, length, height, girth, neck, head, leg):
    """A body, four legs, neck and head; `neck` (forward, up) from the shoulder, in metres."""
    y, front = height - girth, length / 2
    body = [ball((length / 2, girth, girth * 0.8), (0, y, 0), color, FUR),
            ball((girth * 0.9, girth, girth * 0.75), (front * 0.6, y + 0.03, 0), color, FUR)]
    legs = [tube((x * front + rng.uniform(-0.12, 0.12), 0, z * girth * 0.5), (x * front * 0.9, y, z * girth * 0.5),
                 leg * 0.7, leg * 1.6, color * 0.75, FUR) for x in (-0.75, 0.7) for z in (-1, 1)]
    nape = np.array([front * 0.8, y + girth * 0.3, 0])
    top = nape + (*neck, 0)
    return [*body, *legs, tube(nape, top, girth * 0.6, head * 0.7, color, FUR),
            ball((head * 1.6, head * 0.9, head * 0.75), top + (head * 0.8, 0, 0), color * 0.95, FUR),
            *[ball((0.03, 0.1, 0.04), top + (0, head, s * head * 0.6), color * 0.8, FUR) for s in (-1, 1)]]


def _deer(rng):
    c = np.array([0.48, 0.33, 0.2]) * rng.uniform(0.7, 1.3)
    parts = _quadruped(rng, c, rng.uniform(1.0, 1.4), rng.uniform(0.95, 1.2), 0.24, (0.25, 0.45), 0.11, 0.04)
    if rng.random() < 0.5:
        tip = np.concatenate(parts)[:, :3].max(axis=0)
        for s in (-1, 1):
            base, mid = (tip[0] - 0.25, tip[1] - 0.1, s * 0.06), (tip[0] - 0.35, tip[1] + 0.25, s * 0.25)
            parts += [tube(base, mid, 0.02, 0.015, c * 0.6), tube(mid, (mid[0] + 0.2, mid[1] + 0.2, s * 0.3), 0.015, 0.01, c * 0.6)]
    return parts


def _ladder(rng):
    length, c = rng.uniform(2.0, 3.5), (_wood(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.5, 0.85)))
    rails = [box((length, 0.07, 0.04), (0, 0.06, z), c, WOOD) for z in (-0.2, 0.2)]
    return rails + [box((0.04, 0.04, 0.4), (x, 0.06, 0), c * 0.9, WOOD) for x in np.arange(-length / 2 + 0.15, length / 2, 0.28)]


def _suitcase(rng):
    c, h = _color(rng), rng.uniform(0.5, 0.8)
    return [box((0.28, h, h * 0.68), (0, h / 2 + 0.04, 0), c, CLOTH, (0.95, 0.96)), box((0.05, 0.03, 0.2), (0, h + 0.12, 0), c * 0.3),
            *[box((0.02, 0.1, 0.02), (0, h + 0.07, z), (0.3, 0.3, 0.3)) for z in (-0.1, 0.1)],
            box((0.29, 0.05, h * 0.69), (0, h * 0.5, 0), c * 0.5), *[ball(0.04, (0, 0.04, z), (0.05, 0.05, 0.05)) for z in (-0.2, 0.2)]]


def _carton(rng):
    c = np.array([0.62, 0.47, 0.31]) * rng.uniform(0.7, 1.25)
    x, y, z = rng.uniform(0.3, 0.9, 3)
    flaps = [box((x / 2, 0.01, z), (s * x * 0.6, y + 0.1, 0), c * 0.9, PLAIN) for s in (-1, 1)] if rng.random() < 0.5 else []
    return [box((x, y, z), (0, y / 2, 0), c, PLAIN), box((x * 1.01, 0.02, 0.06), (0, y, 0), c * 1.2), *flaps]


def _mattress(rng):
    c = np.array([0.8, 0.78, 0.72]) * rng.uniform(0.7, 1.15)
    parts = [box((2.0, 0.22, 1.3), (0, 0.11, 0), c, CLOTH, (0.98, 0.97)), box((2.02, 0.03, 1.31), (0, 0.11, 0), c * _color(rng, 0.4, 1), CLOTH)]
    return parts


def _ball(rng):
    r, c = rng.uniform(0.11, 0.45), _color(rng, 0.1, 1)
    return [ball(r, (0, r, 0), c), tube((0, r - r / 6, 0), (0, r + r / 6, 0), r * 0.995, r * 0.995, 1 - c, hollow=True)]


def _chair(rng):
    c = _wood(rng) if rng.random() < 0.5 else _color(rng)
    legs = [box((0.05, 0.45, 0.05), (x, 0.22, z), c * 0.8, WOOD) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    back = [box((0.04, 0.55, 0.05), (-0.2, 0.72, z), c * 0.9, WOOD) for z in (-0.2, 0, 0.2)]
    return [*legs, *back, box((0.48, 0.05, 0.48), (0, 0.46, 0), c, WOOD), box((0.05, 0.12, 0.46), (-0.2, 0.95, 0), c, WOOD)]


def _clutter(rng):
    """Several primitives thrown together: a shape that belongs to nothing."""
    parts, surfaces = [], (PLAIN, CLOTH, WOOD, FUR, METAL, STONE)
    for _ in range(rng.integers(2, 6)):
        surface, c, at = surfaces[rng.integers(len(surfaces))], _color(rng, 0.02, 1), rng.uniform((-0.4, 0, -0.4), (0.4, 0.5, 0.4))
        r = rng.uniform(0.12, 0.5, 3)
        kind = rng.integers(3)
        if kind == 0:
            parts.append(box(r * 1.6, at + (0, r[1] * 0.8, 0), c, surface, rng.uniform(0.4, 1, 2)))
        elif kind == 1:
            parts.append(ball(r, at + (0, r[1], 0), c, surface, rng.choice((0.0, 0.15)), rng))
        else:
            parts.append(tube(at, at + rng.uniform((-0.6, 0.1, -0.6), (0.6, 0.9, 0.6)), r[0] * 0.6, r[1] * 0.6, c, surface))
    return parts


def _cart(rng):
    c, parts = np.full(3, rng.uniform(0.45, 0.75)), []
    for y in (0.45, 0.6, 0.75, 0.95):
        grow = (y - 0.45) * 0.25
        x, z = 0.36 + grow, 0.2 + grow
        parts += [box((2 * x, 0.025, 0.025), (0, y, s * z), c, METAL) for s in (-1, 1)]
        parts += [box((0.025, 0.025, 2 * z), (s * x, y, 0), c, METAL) for s in (-1, 1)]
    for i in np.linspace(-1, 1, 8):
        parts += [tube((i * 0.36, 0.45, s * 0.2), (i * 0.48, 0.95, s * 0.32), 0.012, 0.012, c, METAL) for s in (-1, 1)]
        parts += [tube((s * 0.36, 0.45, i * 0.2), (s * 0.48, 0.95, i * 0.32), 0.012, 0.012, c, METAL) for s in (-1, 1)]
        parts.append(box((0.72, 0.015, 0.015), (0, 0.45, i * 0.2), c, METAL))
    parts += [tube((x * 0.4, 0.1, z * 0.22), (x * 0.3, 0.47, z * 0.18), 0.02, 0.02, c, METAL) for x in (-1, 1) for z in (-1, 1)]
    parts += [ball((0.09, 0.09, 0.03), (x * 0.4, 0.09, z * 0.22), (0.06, 0.06, 0.06)) for x in (-1, 1) for z in (-1, 1)]
    return [*parts, box((0.06, 0.06, 0.6), (-0.56, 1.02, 0), np.array([0.75, 0.1, 0.1]) * rng.uniform(0.5, 1.2))]


def _boulder(rng):
    r, c = rng.uniform(0.3, 0.7), np.array([0.45, 0.43, 0.4]) * rng.uniform(0.6, 1.3)
    return [ball((r * 1.2, r * 0.85, r), (0, r * 0.65, 0), c, STONE, 0.13, rng), ball(r * 0.6, (r * 0.6, r * 0.4, r * 0.4), c * 0.9, STONE, 0.2, rng)]


def _boar(rng):
    c = np.array([0.2, 0.16, 0.13]) * rng.uniform(0.7, 1.5)
    return _quadruped(rng, c, rng.uniform(1.1, 1.4), rng.uniform(0.75, 0.9), 0.3, (0.28, -0.08), 0.17, 0.05)


def _fridge(rng):
    c = np.array([0.88, 0.89, 0.9]) * rng.uniform(0.75, 1.05)
    parts = [box((0.6, 1.6, 0.65), (0, 0.8, 0), c, METAL), box((0.02, 1.0, 0.63), (0.31, 0.53, 0), c * 0.96, METAL),
             box((0.02, 0.5, 0.63), (0.31, 1.32, 0), c * 0.96, METAL), box((0.05, 0.3, 0.03), (0.34, 0.8, 0.25), (0.3, 0.3, 0.32)),
             box((0.05, 0.2, 0.03), (0.34, 1.25, 0.25), (0.3, 0.3, 0.32))]
    return parts if rng.random() < 0.5 else _lay(parts, 0.3)


def _log(rng):
    c, length = np.array([0.33, 0.24, 0.16]) * rng.uniform(0.7, 1.3), rng.uniform(1.8, 3.0)
    parts = [tube((-length / 2, 0.2, 0), (length / 2, 0.17, 0.1), 0.2, 0.15, c, WOOD)]
    for _ in range(5):
        a = np.array([rng.uniform(-0.3, 0.5) * length, 0.2, 0])
        parts.append(tube(a, a + rng.uniform((0.2, 0.1, -0.8), (0.9, 0.9, 0.8)), 0.05, 0.015, c * 0.9, WOOD))
    return parts


def _bin(rng):
    c = _color(rng, 0.03, 0.55)
    return [box((0.62, 0.95, 0.55), (0, 0.55, 0), c, PLAIN, (1.15, 1.1)), box((0.78, 0.06, 0.68), (0, 1.06, 0), c * 0.8, PLAIN),
            box((0.06, 0.06, 0.5), (-0.4, 1.0, 0), c * 0.6), *[tube((-0.3, 0.1, z), (-0.3, 0.1, z + 0.06), 0.1, 0.1, (0.04, 0.04, 0.04)) for z in (-0.3, 0.24)]]


def _kayak(rng):
    c, s = _color(rng, 0.15, 0.95), np.linspace(0, np.pi, 13)[:, None]
    a = np.linspace(0, 2 * np.pi, 14, endpoint=False)[None]
    w = np.sin(s) ** 0.6 + 0.02
    hull = np.stack([np.broadcast_to(-1.5 * np.cos(s), (13, 14)), 0.2 + 0.18 * w * np.sin(a) + 0.12 * np.cos(s) ** 4, 0.33 * w * np.cos(a)], axis=-1)
    return [_grid(hull, c, PLAIN), ball((0.42, 0.06, 0.2), (0, 0.36, 0), (0.04, 0.04, 0.04))]


def _car(rng):
    c = _color(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.05, 0.9))
    length, width, h = rng.uniform(3.8, 4.7), rng.uniform(1.65, 1.85), rng.uniform(1.4, 1.65)
    glass, cabin = (0.07, 0.09, 0.11), rng.uniform(0.5, 0.62) * length
    parts = [box((length, 0.45, width), (0, 0.47, 0), c, METAL, (0.98, 0.96)), box((length * 0.97, 0.22, width * 0.95), (0, 0.78, 0), c, METAL, (0.94, 0.93)),
             box((cabin, h - 0.87, width * 0.9), (-0.08 * length, 0.84 + (h - 0.87) / 2, 0), glass, METAL, (0.68, 0.8)),
             box((cabin * 0.7, 0.05, width * 0.73), (-0.08 * length, h - 0.02, 0), c, METAL, (0.95, 0.95))]
    for z in (-1, 1):
        for x in (-0.31, 0.31):
            parts += [tube((x * length, 0.31, z * (width / 2 - 0.2)), (x * length, 0.31, z * (width / 2 + 0.01)), 0.31, 0.31, (0.04, 0.04, 0.04)),
                      tube((x * length, 0.31, z * (width / 2)), (x * length, 0.31, z * (width / 2 + 0.02)), 0.19, 0.19, (0.5, 0.5, 0.52), METAL)]
        parts += [box((0.05, 0.13, 0.34), (length / 2, 0.68, z * (width / 2 - 0.25)), (0.95, 0.95, 0.85)),
                  box((0.05, 0.15, 0.26), (-length / 2, 0.72, z * (width / 2 - 0.2)), (0.65, 0.03, 0.03)),
                  box((0.05, h - 0.9, 0.03), (-0.08 * length, 0.85 + (h - 0.9) / 2, z * width * 0.42), c, METAL)]
    plates = [box((0.03, 0.12, 0.45), (s * (length / 2 + 0.01), 0.5, 0), (0.85, 0.85, 0.8)) for s in (-1, 1)]
    return [*parts, *plates, box((length * 1.01, 0.14, width * 0.92), (0, 0.33, 0), (0.06, 0.06, 0.06))]


TRAIN_KINDS = {"sofa": _sofa, "crate": _crate, "tyre_stack": _tyres, "barrel": _barrel, "deer": _deer, "ladder": _ladder,
               "suitcase": _suitcase, "carton": _carton, "mattress": _mattress, "ball": _ball, "chair": _chair, "clutter": _clutter}
EVAL_KINDS = {"shopping_cart": _cart, "boulder": _boulder, "boar": _boar, "fridge": _fridge, "log": _log,
              "wheelie_bin": _bin, "kayak": _kayak}
_ALL = {**TRAIN_KINDS, **EVAL_KINDS, "car": _car}


def make(kind: str, rng: np.random.Generator) -> Prop:
    """One object of `kind` (a key of TRAIN_KINDS or EVAL_KINDS, or "car"), standing on y = 0."""
    if kind not in _ALL:
        raise ValueError(f"unknown object kind {kind!r}; known: {', '.join(sorted(_ALL))}")
    vertices = np.concatenate(_ALL[kind](rng)).astype(np.float32)
    vertices[:, 1] -= vertices[:, 1].min()
    vertices[:, 6:9] = vertices[:, 6:9].clip(0, 1)
    return Prop(kind, vertices)
