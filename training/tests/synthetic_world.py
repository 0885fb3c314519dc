# SPDX-License-Identifier: MIT
"""A tiny made-up track for the tests of the synthetic room: a straight road, grass and a wall, as AC3D."""

from __future__ import annotations

from pathlib import Path

HEADER = 'AC3Db\nMATERIAL "" rgb 1 1 1 amb 1 1 1 emis 0 0 0 spec 0 0 0 shi 0 trans 0\nOBJECT world\n'


def strip(name: str, texture: str, points: list[tuple[float, float, float]]) -> str:
    """One object: a triangle strip through `points`, normals up."""
    vertices = "".join(f"{x} {y} {z} 0 1 0\n" for x, y, z in points)
    refs = "".join(f"{i} {i % 2} {i // 2} 0 0\n" for i in range(len(points)))
    return (
        f'OBJECT poly\nname "{name}"\ntexture "{texture}" base\ntexture "shadow.rgb" tiled\n'
        f"numvert {len(points)}\n{vertices}"
        f"numsurf 1\nSURF 0x34\nmat 0\nrefs {len(points)}\n{refs}kids 0\n"
    )


def straight_road(length: int = 400, half: float = 5.0, piece: int = 50) -> list[str]:
    """A road along -z from the origin: strips of `piece` metres (edges alternate), grass, a wall."""
    objects = []
    for n, z in enumerate(range(0, length, piece)):
        edge = [(s * half, 0.0, -float(k)) for k in range(z, z + piece + 1, 10) for s in (-1, 1)]
        objects.append(strip(f"TKMN{n}", "road01.png", edge))
    for side in (-1, 1):
        near, far = side * half, side * 60.0
        objects.append(
            strip(
                f"TERR{side}",
                "grass01.png",
                [(near, 0, 10), (far, 0, 10), (near, 0, -length), (far, 0, -length)],
            )
        )
    objects.append(
        strip("WALL", "hus02.png", [(-9.0, 0, -20), (-9.0, 6, -20), (-9.0, 0, -40), (-9.0, 6, -40)])
    )
    return objects


def write_track(folder: Path, name: str, objects: list[str] | None = None) -> Path:
    """Writes FOLDER/tracks/road/NAME/NAME.acc and returns FOLDER, a root that tracks.load accepts."""
    objects = straight_road() if objects is None else objects
    home = folder / "tracks" / "road" / name
    home.mkdir(parents=True)
    (home / f"{name}.acc").write_text(HEADER + f"kids {len(objects)}\n" + "".join(objects))
    return folder
