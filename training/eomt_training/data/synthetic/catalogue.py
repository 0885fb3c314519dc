# SPDX-License-Identifier: MIT
"""Reads Sweet Home 3D's furniture catalogues (`.sh3f`): OBJ models with names, sizes, authors and licence."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LISTING = "PluginFurnitureCatalog.properties"
HELP = (
    "furniture catalogues: `apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_*.deb "
    "DIR`, then give DIR/usr/share/sweethome3d/furniture/*.sh3f"
)
_CATEGORIES = {"Characters", "Doors and windows", "Staircases", "Vehicles"}
# Part of streets, lawns and walls, or of a kind that render_drives.py trains with under another name.
_EXCLUDED = re.compile(
    r"bike|cycle|scooter|motor|car\b|truck|bus\b|wheelchair|stroller|mannequin|sign|crossing|street|light|lamp"
    r"|lantern|fence|hedge|railing|parking|rails|cone\b|bush|tree|beech|pine|poplar|maple|cypress|acacia|blossom"
    r"|hut|pool|hydrant|column|trash|bin\b|dustbin|plug|switch|socket|hood|shower head|chimney|elevator"
    r"|escalator|curtain|window|door\b"
    r"|chair|couch|sofa|futon|stool|seat|bench|bank|puff|box|crate|case\b|trunc?k|barrel|deer|mattress|bed\b"
    r"|ladder|ball\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """One model: its English name, file, size in metres (x, y up, z), turn [3,3], creator and licence."""

    name: str
    model: Path
    size: tuple[float, float, float]
    turn: np.ndarray
    creator: str
    licence: str


def read(path: Path, folder: Path) -> list[Entry]:
    """Unpacks a catalogue into ``folder`` and lists its models. Raises ValueError for other files."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no furniture catalogue. Expected: {HELP}")
    with zipfile.ZipFile(path) as archive:
        if LISTING not in archive.namelist():
            raise ValueError(f"{path} has no {LISTING}. Expected: {HELP}")
        archive.extractall(folder)
    fields: dict[str, dict[str, str]] = {}
    for line in (folder / LISTING).read_text(encoding="latin-1").splitlines():
        key, _, value = line.partition("=")
        field, _, number = key.strip().partition("#")
        fields.setdefault(number, {})[field] = value.strip()
    about = fields.pop("", {})
    return [
        Entry(
            f["name"],
            folder / f["model"].lstrip("/"),
            (float(f["width"]) / 100, float(f["height"]) / 100, float(f["depth"]) / 100),
            np.array(f.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3),
            f.get("creator", ""),
            about.get("license", ""),
        )
        for f in fields.values()
        if f.get("category") not in _CATEGORIES | {None}
        and f.keys() >= {"name", "model", "width", "height", "depth"}
    ]


def does_not_belong(entry: Entry, sides: tuple[float, float] = (0.3, 3.0)) -> bool:
    """An obstacle of a kind that neither streets nor our training drives have.

    Its longest side lies in ``sides`` (m), and it is at least 0.15 m high: no rugs.
    """
    return (
        not _EXCLUDED.search(entry.name) and sides[0] <= max(entry.size) <= sides[1] and entry.size[1] >= 0.15
    )
