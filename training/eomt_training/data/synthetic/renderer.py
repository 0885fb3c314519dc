# SPDX-License-Identifier: MIT
"""Draws a track and objects off-screen with OpenGL (EGL; software is enough): a picture and its labels.

Camera convention: OpenCV (x right, y down, z forward), pin-hole K without distortion. World: metres, y up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import moderngl
import numpy as np

from . import images
from .ac3d import Mesh
from .shaders import (
    BLOB_FRAGMENT,
    BLOB_VERTEX,
    OBJECT_FRAGMENT,
    OBJECT_VERTEX,
    SKY_FRAGMENT,
    SKY_VERTEX,
    TRACK_FRAGMENT,
    TRACK_VERTEX,
)
from .tracks import ORDINARY, SKY, TREE, Track, classify

NEAR, FAR = 0.2, 3000.0
_PLAIN_COLOURS = {
    3: (92, 92, 94),
    4: (120, 118, 115),
    5: (78, 96, 52),
    7: (165, 166, 168),
    2: (110, 112, 115),
    6: (200, 190, 60),
}


class NoOpenGL(RuntimeError):
    """No EGL context could be made on this machine."""


@dataclass(frozen=True)
class Camera:
    """K [3,3] pixels; world_to_camera [4,4] (OpenCV axes); size (width, height) pixels."""

    K: np.ndarray
    world_to_camera: np.ndarray
    size: tuple[int, int]

    def project(self, points: np.ndarray) -> np.ndarray:
        """[N,3] world points -> [N,2] pixels; NaN where a point lies behind the camera."""
        p = np.c_[points, np.ones(len(points))] @ self.world_to_camera.T
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = (p[:, :3] @ self.K.T)[:, :2] / p[:, 2:3]
        return np.where(p[:, 2:3] > 0, uv, np.nan)

    def clip(self) -> np.ndarray:
        """[4,4] world -> OpenGL clip space; (0, 0) is the centre of the top-left pixel, as in OpenCV."""
        (w, h), K = self.size, self.K
        p = np.zeros((4, 4))
        p[0] = 2 * K[0, 0] / w, 0, 2 * (K[0, 2] + 0.5) / w - 1, 0
        p[1] = 0, -2 * K[1, 1] / h, 1 - 2 * (K[1, 2] + 0.5) / h, 0
        p[2] = 0, 0, (FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
        p[3] = 0, 0, 1, 0
        return p @ self.world_to_camera


@dataclass(frozen=True)
class Light:
    """How a scene is lit. Colours rgb in [0,1] (sun and ambient may exceed 1); fog is 1/metre."""

    sun: tuple[float, float, float] = (0.4, 0.8, 0.3)
    sun_colour: tuple[float, float, float] = (0.75, 0.72, 0.65)
    ambient: tuple[float, float, float] = (0.62, 0.64, 0.68)
    zenith: tuple[float, float, float] = (0.30, 0.50, 0.82)
    horizon: tuple[float, float, float] = (0.78, 0.84, 0.90)
    fog: float = 0.0006
    clouds: float = 0.5
    seed: float = 0.0


@dataclass(frozen=True)
class Item:
    """An object in the scene: vertices [3T,12] (objects.Prop), model [4,4] to world, class, shadow radii
    m."""

    vertices: np.ndarray
    model: np.ndarray
    label: int
    shadow: tuple[float, float]
    key: object = field(default=None)


def pose(eye: np.ndarray, forward: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """[4,4] world -> camera (OpenCV axes) for a camera at `eye` looking along `forward`; roll in radians."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, (0.0, 1.0, 0.0))
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    x, y = x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll)
    m = np.eye(4)
    m[:3, :3] = x, y, z
    m[:3, 3] = -m[:3, :3] @ eye
    return m


def context() -> moderngl.Context:
    """A GL context without a screen. Raises NoOpenGL where EGL is missing."""
    try:
        return moderngl.create_context(
            standalone=True,
            backend="egl",  # type: ignore[arg-type]  # the stubs want a dict for each setting
        )
    except Exception as error:
        raise NoOpenGL(f"no EGL context ({error}): install Debian's libegl1 and libgl1-mesa-dri") from error


def upload(ctx: moderngl.Context, rgba: np.ndarray) -> moderngl.Texture:
    """RGBA uint8 [H,W,4], top row first, as a texture with mipmaps."""
    texture = ctx.texture((rgba.shape[1], rgba.shape[0]), 4, np.ascontiguousarray(rgba[::-1]).tobytes())
    texture.build_mipmaps()
    texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
    texture.anisotropy = 1.0  # more is very slow in software
    return texture


def set_view(program: moderngl.Program, camera: Camera, light: Light, label_pass: bool) -> None:
    """The uniforms that all programs of `shaders` share."""
    eye = -camera.world_to_camera[:3, :3].T @ camera.world_to_camera[:3, 3]
    values: dict[str, float | tuple[float, ...]] = {
        "clip": mat4(camera.clip()),
        "eye": tuple(eye),
        "label_pass": label_pass,
        "fog": light.fog,
        "fog_colour": light.horizon,
        "sun": tuple(np.asarray(light.sun) / np.linalg.norm(light.sun)),
        "sun_colour": light.sun_colour,
        "ambient": light.ambient,
    }
    for name, value in values.items():
        if name in program:
            program[name] = value


def mat4(m: np.ndarray) -> tuple[float, ...]:
    """[4,4] as GLSL takes it: column by column."""
    return tuple(m.T.ravel())


class Renderer:
    """One GL context, one track. Raises NoOpenGL where EGL is missing."""

    def __init__(self, size: tuple[int, int], supersample: int = 2):
        self.size, self.scale, self.ctx = size, supersample, context()
        big = (size[0] * supersample, size[1] * supersample)
        self.colour = self.ctx.framebuffer([self.ctx.texture(big, 3)], self.ctx.depth_renderbuffer(big))
        self.labels = self.ctx.framebuffer([self.ctx.texture(size, 1)], self.ctx.depth_renderbuffer(size))
        make = self.ctx.program
        self.track_prog = make(vertex_shader=TRACK_VERTEX, fragment_shader=TRACK_FRAGMENT)
        self.object_prog = make(vertex_shader=OBJECT_VERTEX, fragment_shader=OBJECT_FRAGMENT)
        self.sky_prog = make(vertex_shader=SKY_VERTEX, fragment_shader=SKY_FRAGMENT)
        self.blob_prog = make(vertex_shader=BLOB_VERTEX, fragment_shader=BLOB_FRAGMENT)
        quad = self.ctx.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], np.float32).tobytes())
        self.sky = self.ctx.vertex_array(self.sky_prog, [(quad, "2f", "corner")])
        self.blob = self.ctx.vertex_array(self.blob_prog, [(quad, "2f", "corner")])
        self.batches: list[tuple] = []
        self.objects: dict = {}

    def _texture(self, path: Path | None, plain: tuple[int, int, int]) -> moderngl.Texture:
        if path is None:
            rng = np.random.default_rng(7)
            noise = cv2.resize(rng.normal(0, 9, (64, 64)), (128, 128)) + rng.normal(0, 5, (128, 128))
            rgba = np.dstack([*(np.clip(c + noise, 0, 255) for c in plain), np.full((128, 128), 255)]).astype(
                np.uint8
            )[::-1]
        else:
            rgba = images.rgba(path)
        return upload(self.ctx, rgba)

    def load(self, track: Track) -> None:
        """Uploads a track: one batch for each pair of textures."""
        for *_, vao in self.batches:
            vao.release()
        self.batches = []
        groups: dict[tuple[str | None, str | None, int, int], list[Mesh]] = {}
        textures: dict[str | None, moderngl.Texture] = {}
        for m in track.meshes:
            groups.setdefault((m.texture, m.shade, *classify(track.name, m.texture, m.name)), []).append(m)
        for (name, shade, low, high), meshes in groups.items():
            for t in (name, shade):
                if t not in textures:
                    path = track.folder / t if t and (track.folder / t).is_file() else None
                    textures[t] = self._texture(
                        path, _PLAIN_COLOURS.get(low, (140, 138, 132)) if t == name else (255, 255, 255)
                    )
            data = np.concatenate([np.c_[m.position, m.normal, m.uv, m.uv_shade] for m in meshes]).astype(
                np.float32
            )
            vao = self.ctx.vertex_array(
                self.track_prog,
                [(self.ctx.buffer(data.tobytes()), "3f 3f 2f 2f", "position", "normal", "uv", "uv_shade")],
            )
            self.batches.append((textures[name], textures[shade], bool(shade), low, high, vao))

    def _object(self, item: Item):
        key = item.key if item.key is not None else id(item.vertices)
        if key not in self.objects:
            if len(self.objects) > 64:
                self.objects.pop(next(iter(self.objects)))[0].release()
            buffer = self.ctx.buffer(np.ascontiguousarray(item.vertices, np.float32).tobytes())
            vao = self.ctx.vertex_array(
                self.object_prog, [(buffer, "3f 3f 3f 3f", "position", "normal", "colour", "surface")]
            )
            self.objects[key] = (vao, item.vertices)  # keeps the array alive: its id is the key
        return self.objects[key][0]

    def _draw(self, camera: Camera, light: Light, items: list[Item], label_pass: bool) -> None:
        ctx = self.ctx
        ctx.clear(1.0, 1.0, 1.0)
        ctx.disable(moderngl.DEPTH_TEST | moderngl.BLEND | moderngl.CULL_FACE)
        set_view(self.sky_prog, camera, light, label_pass)
        self.sky_prog["unproject"] = mat4(np.linalg.inv(camera.clip()))
        for name, value in (("zenith", light.zenith), ("clouds", light.clouds), ("seed", light.seed)):
            self.sky_prog[name] = value
        self.sky_prog["label_ids"] = (SKY / 255, TREE / 255, ORDINARY / 255)
        self.sky.render(moderngl.TRIANGLE_STRIP)
        ctx.enable(moderngl.DEPTH_TEST)
        set_view(self.track_prog, camera, light, label_pass)
        self.track_prog["base"], self.track_prog["shade"] = 0, 1
        for base, shade, shaded, low, high, vao in self.batches:
            base.use(0)
            shade.use(1)
            self.track_prog["shaded"] = shaded
            self.track_prog["labels"] = (low / 255, high / 255)
            vao.render()
        if not label_pass:
            self._shadows(camera, light, items)
        set_view(self.object_prog, camera, light, label_pass)
        for item in items:
            self.object_prog["model"] = mat4(item.model)
            self.object_prog["label"] = item.label / 255
            self._object(item).render()

    def _shadows(self, camera: Camera, light: Light, items: list[Item]) -> None:
        """A soft dark ellipse under each object, over the ground only (it writes no depth, no label)."""
        self.ctx.enable(moderngl.BLEND)
        self.ctx.fbo.depth_mask = False
        set_view(self.blob_prog, camera, light, False)
        self.blob_prog["strength"] = 0.75
        for item in items:
            grow = np.diag([item.shadow[0], 1.0, item.shadow[1], 1.0])
            grow[1, 3] = 0.025
            self.blob_prog["model"] = mat4(item.model @ grow)
            self.blob.render(moderngl.TRIANGLE_STRIP)
        self.ctx.fbo.depth_mask = True
        self.ctx.disable(moderngl.BLEND)

    def render(self, camera: Camera, light: Light, items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
        """(rgb uint8 [H,W,3], labels uint8 [H,W]): class ids, 253 ordinary, 254 an outlier, 255 void."""
        w, h = self.size
        self.labels.use()
        self._draw(camera, light, items, label_pass=True)
        labels = np.frombuffer(self.labels.read(components=1, alignment=1), np.uint8).reshape(h, w)[::-1]
        self.colour.use()
        self._draw(camera, light, items, label_pass=False)
        big = np.frombuffer(self.colour.read(components=3, alignment=1), np.uint8)
        big = big.reshape(h * self.scale, w * self.scale, 3)[::-1]
        return cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA), labels.copy()
