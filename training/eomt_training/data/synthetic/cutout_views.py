# SPDX-License-Identifier: MIT
"""Draws one textured object with nothing around it, as a camera on a robot or car sees it: RGBA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import moderngl
import numpy as np

from . import images
from .obj import Part
from .renderer import Camera, Light, context, pose, set_view, upload
from .shaders import TRACK_FRAGMENT, TRACK_VERTEX

SUPERSAMPLE = 3
CLEAR_GLASS = 0.4  # materials of a lower opacity are not drawn


def stand(parts: Sequence[Part], size: Sequence[float], turn: np.ndarray) -> list[Part]:
    """The object turned by ``turn`` [3,3], scaled to ``size`` (x, y up, z; m), standing on the origin."""
    points = np.concatenate([p.position for p in parts]) @ turn.T
    low, extent = points.min(0), np.ptp(points, axis=0)
    scale = np.asarray(size) / np.maximum(extent, 1e-9)
    middle = low + extent * (0.5, 0, 0.5)
    moved = []
    for p in parts:
        normal = p.normal @ turn.T / scale
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        moved.append(Part(p.material, (p.position @ turn.T - middle) * scale, normal, p.uv))
    return moved


def look_at(points: np.ndarray, eye: np.ndarray, side: int) -> Camera:
    """A camera of side x side px at ``eye`` whose picture the points [N,3] (metres) just fill."""
    to_camera = pose(eye, points.mean(0) - eye)
    seen = points @ to_camera[:3, :3].T + to_camera[:3, 3]
    plane = seen[:, :2] / seen[:, 2:]
    low, high = plane.min(0), plane.max(0)
    focal = 0.96 * side / (high - low).max()
    centre = (side - 1) / 2 - focal * (low + high) / 2
    return Camera(
        np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), to_camera, (side, side)
    )


class CutoutRenderer:
    """Pictures of ``side`` x ``side`` px. Raises NoOpenGL where EGL is missing."""

    def __init__(self, side: int):
        self.side, self.ctx = side, context()
        big = (side * SUPERSAMPLE, side * SUPERSAMPLE)
        self.frame = self.ctx.framebuffer([self.ctx.texture(big, 4)], self.ctx.depth_renderbuffer(big))
        self.program = self.ctx.program(vertex_shader=TRACK_VERTEX, fragment_shader=TRACK_FRAGMENT)
        self.program["base"], self.program["shaded"] = 0, False

    def render(self, parts: Sequence[Part], eye: np.ndarray, light: Light) -> np.ndarray:
        """RGBA uint8 [side,side,4], not premultiplied, of parts in metres (see `stand`) seen from ``eye``."""
        self.frame.use()
        self.ctx.clear(0.0, 0.0, 0.0, 0.0)
        self.ctx.enable(moderngl.DEPTH_TEST)
        camera = look_at(np.concatenate([p.position for p in parts]), eye, self.side)
        set_view(self.program, camera, light, label_pass=False)
        used: dict[Path | tuple[float, ...], moderngl.Texture] = {}
        for part in parts:
            if part.material.opacity < CLEAR_GLASS:
                continue
            key = part.material.texture or part.material.colour
            if key not in used:
                used[key] = upload(self.ctx, _pixels(key))
            used[key].use(0)
            rows = np.c_[part.position, part.normal, part.uv].astype(np.float32)
            buffer = self.ctx.buffer(rows.tobytes())
            triangles = self.ctx.vertex_array(
                self.program, [(buffer, "3f 3f 2f", "position", "normal", "uv")]
            )
            triangles.render()
            triangles.release()
            buffer.release()
        for texture in used.values():
            texture.release()
        big = np.frombuffer(self.frame.read(components=4), np.uint8)
        big = big.reshape(self.side * SUPERSAMPLE, self.side * SUPERSAMPLE, 4)[::-1]
        small = cv2.resize(big.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_AREA)
        colour = 255 * small[..., :3] / np.maximum(small[..., 3:], 1)  # empty pixels are black
        return np.dstack([colour, small[..., 3]]).round().clip(0, 255).astype(np.uint8)


def _pixels(key: Path | tuple[float, ...]) -> np.ndarray:
    """A texture's pixels; of a colour, one."""
    if isinstance(key, Path):
        return images.rgba(key)
    return np.array([[[*(255 * np.clip(key, 0, 1)), 255]]]).round().astype(np.uint8)
