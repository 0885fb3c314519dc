# SPDX-License-Identifier: MIT
"""Primitives of our own objects: boxes, balls, tubes and skins as triangle soups with colour and surface.

Object space: metres, x forward, y up, z right. Every shape is [3T,12] float32: position, outward normal,
rgb in [0,1], surface (noise frequency 1/m, noise amplitude, 1 = grain along x).
"""

from __future__ import annotations

import numpy as np

PLAIN, CLOTH, WOOD, FUR, METAL, STONE = (
    (4, 0.10, 0),
    (30, 0.25, 0),
    (3, 0.5, 1),
    (25, 0.55, 0),
    (2, 0.1, 0),
    (6, 0.6, 0),
)
"""Surface: (noise frequency 1/m, noise amplitude, 1 = grain along x)."""


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
    return _soup(
        np.array([p[[a, b, c]] for f in faces for a, b, c in (f[:3], (f[0], f[2], f[3]))]), color, surface
    )


def skin(points: np.ndarray, color, surface, smooth: bool = True) -> np.ndarray:
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
    """An ellipsoid (`radius`: one number or three), displaced at random by `rough` (share of the radius)."""
    t, a = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, 11), np.linspace(0, 2 * np.pi, 16, endpoint=False), indexing="ij"
    )
    unit = np.stack([np.sin(t) * np.cos(a), np.cos(t), np.sin(t) * np.sin(a)], axis=-1)
    if rough:
        unit = unit * (1 + rough * rng.uniform(-1, 1, (*t.shape, 1)))
    return skin(
        unit * np.asarray(radius, float) + np.asarray(centre, float), color, surface, smooth=not rough
    )


def tube(a, b, r0, r1, color, surface=PLAIN, hollow: bool = False) -> np.ndarray:
    """A cone or cylinder from point a (radius r0) to b (radius r1), capped unless hollow."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    d = (b - a) / np.linalg.norm(b - a)
    u = np.cross(d, (0, 0, 1) if abs(d[2]) < 0.9 else (0, 1, 0))
    u /= np.linalg.norm(u)
    ang = np.linspace(0, 2 * np.pi, 14, endpoint=False)[:, None]
    ring = np.cos(ang) * u + np.sin(ang) * np.cross(d, u)
    wall = skin(np.stack([a + r0 * ring, b + r1 * ring]), color, surface)
    if hollow:
        return wall
    caps = [
        skin(np.stack([c + 1e-4 * ring, c + r * ring]), color, surface, False) for c, r in ((a, r0), (b, r1))
    ]
    return np.concatenate([wall, *caps])


def colour(rng, low=0.05, high=0.9) -> np.ndarray:
    return rng.uniform(low, high, 3)


def paint(rng, low=0.02, high=0.9, plain=0.6) -> np.ndarray:
    """Black, grey or white, within low to high, in a share of `plain`; otherwise any colour."""
    return np.full(3, rng.uniform(low, high)) if rng.random() < plain else colour(rng)


def wood(rng) -> np.ndarray:
    return np.array([0.55, 0.38, 0.22]) * rng.uniform(0.6, 1.4)


def lay(parts, r):
    """Tips an upright object of radius r over, onto its side."""
    v = np.concatenate(parts)
    v[:, [0, 1, 3, 4]] = np.stack([v[:, 1] - np.ptp(v[:, 1]) / 2, r - v[:, 0], v[:, 4], -v[:, 3]], axis=1)
    return [v]


def quadruped(rng, color, length, height, girth, neck, head, leg):
    """A body, four legs, neck and head; `neck` (forward, up) from the shoulder, in metres."""
    y, front = height - girth, length / 2
    body = [
        ball((length / 2, girth, girth * 0.8), (0, y, 0), color, FUR),
        ball((girth * 0.9, girth, girth * 0.75), (front * 0.6, y + 0.03, 0), color, FUR),
    ]
    legs = [
        tube(
            (x * front + rng.uniform(-0.12, 0.12), 0, z * girth * 0.5),
            (x * front * 0.9, y, z * girth * 0.5),
            leg * 0.7,
            leg * 1.6,
            color * 0.75,
            FUR,
        )
        for x in (-0.75, 0.7)
        for z in (-1, 1)
    ]
    nape = np.array([front * 0.8, y + girth * 0.3, 0])
    top = nape + (*neck, 0)
    return [
        *body,
        *legs,
        tube(nape, top, girth * 0.6, head * 0.7, color, FUR),
        ball((head * 1.6, head * 0.9, head * 0.75), top + (head * 0.8, 0, 0), color * 0.95, FUR),
        *[ball((0.03, 0.1, 0.04), top + (0, head, s * head * 0.6), color * 0.8, FUR) for s in (-1, 1)],
    ]
