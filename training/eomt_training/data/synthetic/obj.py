# SPDX-License-Identifier: MIT
"""Reads Wavefront OBJ models with their materials (`.mtl`): polygons, textures, normals, colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CREASE = np.cos(
    np.radians(32)
)  # from the mean: edges of up to 64 degrees are smoothed, where no normals are given


class ObjError(ValueError):
    """The file is not a readable OBJ; the message names the file and the line."""


@dataclass(frozen=True)
class Material:
    """colour rgb in [0,1]; texture, where it has one, in its place; opacity in [0,1]."""

    colour: tuple[float, ...] = (0.8, 0.8, 0.8)
    texture: Path | None = None
    opacity: float = 1.0


@dataclass(frozen=True)
class Part:
    """What one material covers, triangulated: position and normal [3T,3], uv [3T,2], float32."""

    material: Material
    position: np.ndarray
    normal: np.ndarray
    uv: np.ndarray


def load(path: str | Path) -> list[Part]:
    """All triangles of an OBJ file, by material. Raises ObjError naming file and line."""
    path = Path(path)
    values: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: dict[str, list[tuple[int, int, int]]] = {}  # of each material: indices of v, vt, vn; -1: none
    materials: dict[str, Material] = {}
    used = ""
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        key, _, rest = line.strip().partition(" ")
        try:
            if key in values:
                values[key].append([float(w) for w in rest.split()[: 2 if key == "vt" else 3]])
            elif key == "f":
                face = [_corner(word, values) for word in rest.split()]
                for i in range(1, len(face) - 1):
                    corners.setdefault(used, []).extend((face[0], face[i], face[i + 1]))
            elif key == "usemtl":
                used = rest.strip()
            elif key == "mtllib":
                materials |= _materials(path.parent / rest.strip())
        except (ValueError, IndexError) as error:
            raise ObjError(f"{path}:{number}: cannot read {line.strip()[:60]!r} ({error})") from error
    if not corners:
        raise ObjError(f"{path}: holds no polygon (lines that start with 'f ')")
    position, uv, normal = (
        np.array([*values[k], [0.0] * n], np.float32) for k, n in (("v", 3), ("vt", 2), ("vn", 3))
    )  # index -1 is the row of zeros
    names, index = list(corners), np.concatenate([np.array(c) for c in corners.values()])
    smooth = np.where(index[:, 2:] >= 0, normal[index[:, 2]], _normals(position, index[:, 0]))
    ends = np.cumsum([len(corners[name]) for name in names])[:-1]
    return [
        Part(materials.get(name, Material()), position[part[:, 0]], n, uv[part[:, 1]])
        for name, part, n in zip(names, np.split(index, ends), np.split(smooth, ends), strict=True)
    ]


def _corner(word: str, values: dict[str, list[list[float]]]) -> tuple[int, int, int]:
    """``3/1/2``, ``3//2`` or ``3`` -> indices from 0 of v, vt and vn; negative ones count from the end."""
    found = []
    for text, rows in zip((word + "//").split("/"), values.values(), strict=False):
        i = int(text) if text else 0
        if abs(i) > len(rows):
            raise ValueError(f"index {i} of {len(rows)}")
        found.append(i - 1 if i > 0 else len(rows) + i if i else -1)
    return found[0], found[1], found[2]


def _normals(position: np.ndarray, vertex: np.ndarray) -> np.ndarray:
    """[3T,3] unit normals: of the vertex, averaged over its triangles, where they meet at no sharp edge."""
    corner = position[vertex].reshape(-1, 3, 3)
    flat = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    flat = np.repeat(_unit(flat), 3, axis=0)
    mean = np.zeros_like(position)
    np.add.at(mean, vertex, flat)
    smooth = _unit(mean[vertex])
    return np.where((flat * smooth).sum(1, keepdims=True) > CREASE, smooth, flat)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _materials(path: Path) -> dict[str, Material]:
    """The materials of an MTL file by name; none where it is missing."""
    found: dict[str, dict] = {}
    name = ""
    for line in path.read_text(encoding="latin-1").splitlines() if path.is_file() else ():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            name = rest.strip()
            found[name] = {}
        elif key == "Kd":
            found[name]["colour"] = tuple(float(w) for w in rest.split()[:3])
        elif key == "d":
            found[name]["opacity"] = float(rest.split()[-1])
        elif key == "map_Kd" and (path.parent / rest.strip()).is_file():
            found[name]["texture"] = path.parent / rest.strip()
    return {name: Material(**values) for name, values in found.items()}
