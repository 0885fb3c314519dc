# SPDX-License-Identifier: MIT
"""Reads AC3D models (`.ac`, and the multi-texture `.acc` variant that TORCS tracks use) into numpy arrays.

Only geometry and texture names are kept: polygons (surface type 0), triangle strips (type 4, the `.acc`
extension), per-reference texture coordinates for up to two layers, and a normal per vertex where the file
has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LINE_TYPES = (1, 2)  # closed line, open line: nothing to fill
_NO_TEXTURE = ("empty_texture_no_mapping", "(null)", "")


class Ac3dError(ValueError):
    """The file is not readable AC3D; the message names the file and the line."""


@dataclass(frozen=True)
class Mesh:
    """One AC3D object, already triangulated (3 rows a triangle; T triangles).

    position [3T,3] metres, y up; normal [3T,3]; uv [3T,2] base layer; uv_shade [3T,2] second layer (light
    map). strip [V,3]: the object's own vertex list in file order (TORCS road strips alternate left and
    right edge).
    """

    name: str
    texture: str | None
    shade: str | None
    position: np.ndarray
    normal: np.ndarray
    uv: np.ndarray
    uv_shade: np.ndarray
    strip: np.ndarray


class _Reader:
    def __init__(self, path: Path):
        self.path, self.at = path, 0
        self.lines = path.read_text(encoding="latin-1").splitlines()
        if not self.lines or not self.lines[0].startswith("AC3D"):
            raise Ac3dError(f"{path}: not an AC3D file (the first line must start with 'AC3D')")

    def next(self) -> list[str]:
        if self.at >= len(self.lines):
            raise Ac3dError(f"{self.path}: the file ends inside an object (line {self.at})")
        self.at += 1
        return self.lines[self.at - 1].split()

    def numbers(self) -> list[float]:
        words = self.next()
        try:
            return [float(w) for w in words]
        except ValueError as error:
            raise Ac3dError(f"{self.path}:{self.at}: expected numbers, got {' '.join(words)!r}") from error


def _triangles(kind: int, count: int) -> list[tuple[int, int, int]]:
    """Triangles, as positions in the surface's list of references, for one surface of `count` references."""
    if kind == 0:
        return [(0, i, i + 1) for i in range(1, count - 1)]
    return [(i, i + 1, i + 2) if i % 2 == 0 else (i + 1, i, i + 2) for i in range(count - 2)]


def _surface(reader: _Reader, flags: int, count: int, out: list[list[float]]) -> None:
    refs = [reader.numbers() for _ in range(count)]
    kind = flags & 0xF
    if kind in _LINE_TYPES:
        return
    if kind not in (0, 4):
        raise Ac3dError(
            f"{reader.path}:{reader.at}: surface type {kind} is not supported (0 polygon, 4 strip)"
        )
    for triangle in _triangles(kind, count):
        if len({refs[i][0] for i in triangle}) == 3:  # strips repeat a vertex to restart: nothing to draw
            out.extend(refs[i] for i in triangle)


def _mesh(name: str, textures: list[str], vertices: np.ndarray, refs: list[list[float]]) -> Mesh:
    rows = np.array([(r + [0.0] * 5)[:5] for r in refs])  # [3T,5]: vertex, u, v, u shade, v shade
    index = rows[:, 0].astype(int)
    position = vertices[index, :3]
    if vertices.shape[1] >= 6:
        normal = vertices[index, 3:6]
    else:  # flat normals, one a triangle
        corner = position.reshape(-1, 3, 3)
        normal = np.repeat(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), 3, axis=0)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    layer = [t if t not in _NO_TEXTURE else None for t in textures] + [None, None]
    f32 = [a.astype(np.float32) for a in (position, normal, rows[:, 1:3], rows[:, 3:5], vertices[:, :3])]
    return Mesh(name, layer[0], layer[1], *f32)


def load(path: str | Path) -> list[Mesh]:
    """All drawable objects of an AC3D file, in file order. Raises Ac3dError naming file and line."""
    reader = _Reader(Path(path))
    meshes: list[Mesh] = []
    textures: list[str] = []
    refs: list[list[float]] = []
    name, vertices, flags = "", np.zeros((0, 3)), 0
    while reader.at < len(reader.lines):
        words = reader.next()
        key = words[0] if words else ""
        if key == "OBJECT":
            name, textures, vertices, refs = "", [], np.zeros((0, 3)), []
        elif key == "name":
            name = words[1].strip('"') if len(words) > 1 else ""
        elif key == "texture":
            textures.append(words[1].strip('"') if len(words) > 1 else "")
        elif key in ("loc", "rot"):
            raise Ac3dError(
                f"{reader.path}:{reader.at}: '{key}' is not supported: bake transforms into the vertices"
            )
        elif key == "numvert":
            rows = [reader.numbers() for _ in range(int(words[1]))]
            vertices = np.array(rows) if rows else np.zeros((0, 3))
        elif key == "SURF":
            flags = int(words[1], 16)
        elif key == "refs":
            _surface(reader, flags, int(words[1]), refs)
        elif key == "kids" and refs:  # the object's own data ends here
            if max(r[0] for r in refs) >= len(vertices):
                raise Ac3dError(
                    f"{reader.path}:{reader.at}: object {name!r} refers to a vertex it does not have"
                )
            meshes.append(_mesh(name, textures, vertices, refs))
            refs = []
    return meshes
