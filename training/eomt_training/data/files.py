# SPDX-License-Identifier: MIT
"""Files of a data set, in extracted folders or read in place from its zip archives; pictures and labels."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import cv2
import numpy as np

UNKNOWN = -1


class Files:
    """Read-only files below ``root``; else members of the zip files ``archives`` (names in root).

    Raises ValueError, here and when a member is read, for an archive that is not whole.
    """

    def __init__(self, root: str | Path, archives: Sequence[str] = ()):
        self.root = Path(root)
        self._members: dict[str, Path] = {}
        for archive in (self.root / name for name in archives if (self.root / name).is_file()):
            with _open(archive) as opened:
                self._members |= dict.fromkeys(opened.namelist(), archive)
        self._opened: dict[tuple[int, Path], ZipFile] = {}

    def under(self, folder: str, endings: tuple[str, ...]) -> list[str]:
        """Sorted paths, relative to the root, of the files anywhere under ``folder`` that end so."""
        here = self.root / folder
        if here.is_dir():
            found = (
                Path(folder, name).relative_to(self.root).as_posix()
                for folder, _, names in os.walk(here, followlinks=True)
                for name in names
            )
        else:
            found = (p for p in self._members if p.startswith(f"{folder}/"))
        return sorted(p for p in found if p.lower().endswith(endings))

    def read(self, path: str) -> bytes:
        if path not in self._members or (self.root / path).is_file():
            return (self.root / path).read_bytes()
        key = os.getpid(), self._members[path]  # an open archive cannot be shared by processes
        if key not in self._opened:
            self._opened[key] = _open(key[1])
        try:
            return self._opened[key].read(path)
        except (BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{key[1]} is damaged ({error}): download it again") from None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_opened": {}}


def _open(archive: Path) -> ZipFile:
    try:
        return ZipFile(archive)
    except BadZipFile:
        raise ValueError(f"{archive} is no whole zip archive: download it again") from None


def decode_image(data: bytes, path: str) -> np.ndarray:
    """RGB uint8 [H,W,3]. ValueError names ``path``."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise ValueError(f"{path} is not a readable image")
    return image


def decode_labels(data: bytes, path: str) -> np.ndarray:
    """Label image uint8 [H,W]: grey, or grey written as colour. ValueError names ``path``."""
    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if labels is None or labels.dtype != np.uint8:
        raise ValueError(f"{path} is not a readable 8-bit label image")
    if data[:4] == b"\x89PNG" and data[24] < 8 and data[25] == 0:  # bit depth, colour type
        raise ValueError(  # OpenCV spreads its numbers over 0..255: the 1 of a mask becomes 255, void
            f"{path} is a grey PNG of {data[24]} bit: write its label numbers as 8-bit grey"
        )
    if labels.ndim == 3:
        if (labels[..., :3] != labels[..., :1]).any():
            raise ValueError(f"{path} holds colours: expected label numbers in a grey image")
        labels = labels[..., 0]
    return labels


def label_table(mapping: Mapping[int, int]) -> np.ndarray:
    """Labels on disk -> labels, as int16 [256]; `UNKNOWN` where ``mapping`` says nothing."""
    table = np.full(256, UNKNOWN, np.int16)
    for on_disk, label in mapping.items():
        table[on_disk] = label
    return table


def translate(labels: np.ndarray, table: np.ndarray, path: str) -> np.ndarray:
    """Labels on disk uint8 [H,W] through ``table``; ValueError names the first value it does not know."""
    mapped = table[labels]
    if (mapped == UNKNOWN).any():
        known = np.flatnonzero(table != UNKNOWN)
        raise ValueError(
            f"{path} holds label {labels[mapped == UNKNOWN][0]}: expected one of {', '.join(map(str, known))}"
        )
    return mapped.astype(np.uint8)
