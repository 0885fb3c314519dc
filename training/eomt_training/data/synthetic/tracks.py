# SPDX-License-Identifier: MIT
"""The tracks we may use, what each of their textures shows, and the road's course.

Only tracks that Debian's `torcs-data` copyright file lists under the Free Art Licence *under their
installed path* are named here, and only textures that lie in the track's own folder are loaded: the shared
ones in `data/textures` are GPL-2+, so the renderer draws a plain surface of its own in their place.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from . import ac3d

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
ORDINARY, OUTLIER, VOID = 253, 254, 255  # ordinary: scenery of no class
LICENCE = "Free Art License (LAL 1.3), as stated in Debian's torcs-data copyright file"

TRAIN = ("street-1", "alpine-1", "g-track-3", "wheel-2", "ole-road-1", "alpine-2")
VAL = ("g-track-2",)
DEMO = ("ruudskogen",)  # never trained or selected on

AUTHORS = {  # from the readme.txt in each track's folder, which also states the Free Art Licence
    "alpine-1": "Eric Espie, Christophe Guionneau, Bernhard Wymann",
    "alpine-2": "Danny Schellhammer, Andrew Sumner",
    "g-track-2": "Eric Espie",
    "g-track-3": "Eric Espie, Bernhard Wymann",
    "ole-road-1": "Christos Dimitrakakis, Bernhard Wymann",
    "ruudskogen": "Tor Arne Hustvedt, Andrew Sumner, Bernhard Wymann",
    "street-1": "Andrew Sumner, Bernhard Wymann",
    "wheel-2": "Andrew Sumner, Bernhard Wymann",
}

Table = dict[str, int | tuple[int, int]]
# texture pattern, or texture@object pattern -> class; first match wins.
# (A, B): the texture's lower half (v < 0.5) shows A, its upper half B.
_COMMON: Table = {
    "pylon*": POLE,
    "poutre*": POLE,
    "girder*": POLE,
    "concrete*.rgb": FENCE,
    "torcs*": SIGN,
    "turn*": SIGN,
    "back-sign*": SIGN,
    "truck*": CAR,
    "barg*": FENCE,
    "barr*": FENCE,
    "tr-barrier*": FENCE,
    "tr-bar*": FENCE,
    "arbor2_n*": FENCE,
    "tr-tirewall*": FENCE,
    "gtirewall*": FENCE,
    "mur*": FENCE,
    "house*": BUILDING,
    "wall*": BUILDING,
    "roof*": BUILDING,
    "std*": BUILDING,
    "spec*": BUILDING,
    "tent*": BUILDING,
    "concdal*": BUILDING,
    "arbor*": TREE,
    "tree*": TREE,
    "ggrass*": TREE,
    "grass*": TREE,
    "gsand*": ORDINARY,
    "tr-sand*": ORDINARY,
    "rock*": ORDINARY,
    "asgrassr*": (ROAD, TREE),
    "assandr*": (ROAD, ORDINARY),
    "asconcr*": ROAD,
    "asasphr*": ROAD,
    "asp_n*": ROAD,
    "gconcrete*": PAVEMENT,
    "road*": ROAD,
    "asphalt*": ROAD,
    "tr-asphalt*": ROAD,
}
_TABLES: dict[str, Table] = {
    "ruudskogen": {
        "arb0*": FENCE,
        "dekk*": ORDINARY,
        "hus*": BUILDING,
        "hytte*": BUILDING,
        "lave*": BUILDING,
        "rk_tree*": TREE,
        "road02*": (ROAD, TREE),
        "road03*": (ROAD, ROAD),
        "ruudskog*": SIGN,
        "sand*": ORDINARY,
    },
    "street-1": {
        "texte*": SIGN,
        "town-border*": BUILDING,
        "tr-building*": BUILDING,
        "tr-house*": BUILDING,
        "tr-curb*": ROAD,
        "tr-road*": ROAD,
        "tr-spec*": BUILDING,
    },
    "g-track-2": {"alltree*": TREE, "trcurb*": ROAD, "treewate*": ORDINARY},
    "g-track-3": {"arbor-wood*": FENCE},
    "alpine-1": {},
    "ole-road-1": {
        "close-bush*": ORDINARY,
        "ole-concrete*": ROAD,
        "concrete-patch*": ROAD,
        "cracked*": ROAD,
        "patched*": ROAD,
    },
    "wheel-2": {
        "concrete.rgb@MESH*": POLE,
        "building*": BUILDING,
        "clkdtm*": ORDINARY,
        "texwheel*": ORDINARY,
        "wheel.png": ORDINARY,
        "rmbl*": ROAD,
        "sand*": ORDINARY,
        "sbridge*": BUILDING,
        "sign*": SIGN,
        "swall*": FENCE,
        "tirewall*": FENCE,
        "tr-barrier*": FENCE,
        "tr-spec*": BUILDING,
        "water*": ORDINARY,
    },
    "alpine-2": {
        "BARS*": FENCE,
        "BLDG*": BUILDING,
        "CMNT*": BUILDING,
        "CONCRE*": BUILDING,
        "GRDRA*": POLE,
        "LOGO*": SIGN,
        "RAIL*": FENCE,
        "SEATS*": BUILDING,
        "WALL*": FENCE,
        "armcoturn*": SIGN,
        "armco*": FENCE,
        "brick*": BUILDING,
        "cliff*": ORDINARY,
        "conc*": BUILDING,
        "ice*": ORDINARY,
        "ppl*": PEDESTRIAN,
        "road-line-edge*": ROAD,
        "road2snow*": ORDINARY,
        "road-snow*": ORDINARY,
        "snow*": ORDINARY,
        "TOWER*": POLE,
        "tr-stone*": FENCE,
        "steel*": POLE,
        "BLBDBK*": SIGN,
    },
}


# object-name pattern -> class, checked first: parts that share a texture with the ground or with walls.
_BY_NAME = {
    "TRIBPUB*": SIGN,
    "TRIB*": BUILDING,
    "PARKARSTD*": BUILDING,
    "POT[0-9]*": BUILDING,
    "TOPST*": BUILDING,
    "POTSTD*": POLE,
    "SPHERE*": POLE,
    "CYLINDER*": POLE,
}  # the last two: lamp posts and their lamps


def classify(track: str, texture: str | None, name: str = "") -> tuple[int, int]:
    """(class of the lower half, class of the upper half) of object `name` with `texture`; unknown is VOID."""
    for pattern, found in _BY_NAME.items():
        if fnmatch.fnmatchcase(name, pattern):
            return found, found
    if not texture:
        return VOID, VOID
    for pattern, shown in {**_TABLES[track], **_COMMON}.items():
        seen = f"{texture}@{name}" if "@" in pattern else texture
        if fnmatch.fnmatchcase(seen, pattern):
            return shown if isinstance(shown, tuple) else (shown, shown)
    return VOID, VOID


@dataclass(frozen=True)
class Track:
    """A loaded track. Metres, y up; the road runs along `edges` [N,2,3]: its two edges at N stations."""

    name: str
    folder: Path
    meshes: list[ac3d.Mesh]
    edges: np.ndarray

    @cached_property
    def stations(self) -> np.ndarray:
        """[N] arc length in metres of the centreline at each station."""
        step = np.linalg.norm(np.diff(self.edges.mean(axis=1), axis=0), axis=1)
        return np.r_[0.0, np.cumsum(step)]

    @property
    def length(self) -> float:
        return float(self.stations[-1])

    def at(self, s: float, across: float = 0.0) -> np.ndarray:
        """[3] the point at arc length s (metres, wraps), `across` metres right of the road's centre."""
        s = s % self.length
        pair = np.stack(
            [[np.interp(s, self.stations, self.edges[:, e, k]) for k in range(3)] for e in range(2)]
        )
        centre, side = pair.mean(axis=0), pair[1] - pair[0]
        return centre + across * side / max(np.linalg.norm(side), 1e-6)

    def heading(self, s: float, span: float = 6.0) -> np.ndarray:
        """[3] unit vector along the road, averaged over `span` metres."""
        d = self.at(s + span / 2) - self.at(s - span / 2)
        return d / np.linalg.norm(d)

    def width(self, s: float) -> float:
        """Width of the road in metres at arc length s."""
        widths = np.linalg.norm(self.edges[:, 1] - self.edges[:, 0], axis=1)
        return float(np.interp(s % self.length, self.stations, widths))

    @cached_property
    def _ground(self) -> np.ndarray:
        tris = np.concatenate([m.position.reshape(-1, 3, 3) for m in self.meshes])
        n = np.cross(tris[:, 1] - tris[:, 0], tris[:, 2] - tris[:, 0])
        flat = np.abs(n[:, 1]) > 0.6 * np.maximum(np.linalg.norm(n, axis=1), 1e-9)
        return tris[flat]

    def ground(self, point: np.ndarray) -> float:
        """Height of the ground below (or at most 2 m above) `point`; the point's own where there is none."""
        t = self._ground
        a, b, c = t[:, 0], t[:, 1], t[:, 2]
        v0, v1, v2 = (b - a)[:, [0, 2]], (c - a)[:, [0, 2]], point[[0, 2]] - a[:, [0, 2]]
        det = v0[:, 0] * v1[:, 1] - v1[:, 0] * v0[:, 1]
        det = np.where(np.abs(det) < 1e-9, np.nan, det)
        u = (v2[:, 0] * v1[:, 1] - v1[:, 0] * v2[:, 1]) / det
        w = (v0[:, 0] * v2[:, 1] - v2[:, 0] * v0[:, 1]) / det
        hit = (u >= 0) & (w >= 0) & (u + w <= 1)
        y = (a[:, 1] + u * (b - a)[:, 1] + w * (c - a)[:, 1])[hit]
        y = y[(y < point[1] + 2.0) & (y > point[1] - 6.0)]
        return float(y.max()) if len(y) else float(point[1])


def road_edges(meshes: list[ac3d.Mesh], gap: float = 12.0) -> np.ndarray:
    """[N,2,3] (left, right) edge points along the road, from the `TKMN<n>` strips of TORCS's generator.

    Strips are chained end to end; the chain ends where the next strip is more than `gap` m away.
    """
    strips = sorted(
        ((int(m.name[4:]), m.strip) for m in meshes if re.fullmatch(r"TKMN\d+", m.name)), key=lambda x: x[0]
    )
    pairs = [s[: len(s) // 2 * 2].reshape(-1, 2, 3) for _, s in strips if len(s) >= 4]
    if not pairs:
        raise ValueError("no road strips (objects named TKMN<n>): this is not a TORCS track model")
    chain = [pairs.pop(0)]
    while pairs:
        tail = chain[-1][-1].mean(axis=0)
        ends = np.array(
            [
                [np.linalg.norm(p[0].mean(axis=0) - tail), np.linalg.norm(p[-1].mean(axis=0) - tail)]
                for p in pairs
            ]
        )
        best, end = np.unravel_index(ends.argmin(), ends.shape)
        if ends[best, end] > gap:
            break
        strip = pairs.pop(best)
        chain.append(strip[::-1] if end else strip)
    edges = np.concatenate(chain)
    keep = np.r_[True, np.linalg.norm(np.diff(edges.mean(axis=1), axis=0), axis=1) > 0.05]
    edges = edges[keep]
    ahead, side = np.gradient(edges.mean(axis=1), axis=0), edges[:, 1] - edges[:, 0]
    swap = (
        np.cross(ahead, side)[:, 1] > 0
    )  # the second edge must be on the right of the driving direction (y up)
    edges[swap] = edges[swap, ::-1]
    return edges


def load(root: str | Path, name: str) -> Track:
    """Loads a named track from an unpacked torcs-data (the folder that holds `usr/`, or `tracks/`)."""
    if name not in _TABLES:
        raise ValueError(
            f"track {name!r} has no class table or no Free Art Licence; known: {', '.join(_TABLES)}"
        )
    for base in ("usr/share/games/torcs/tracks/road", "tracks/road", "."):
        folder = Path(root) / base / name
        if (folder / f"{name}.acc").is_file():
            meshes = ac3d.load(folder / f"{name}.acc")
            return Track(name, folder, meshes, road_edges(meshes))
    raise FileNotFoundError(
        f"no track {name!r} under {root}: unpack Debian's torcs-data there (dpkg -x torcs-data_*.deb {root})"
    )
