# SPDX-License-Identifier: MIT
"""Labelled images as pairs of files: what every public data set here comes down to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .files import Files, decode_image, decode_labels, translate
from .folders import Sample, sample_of


class ImagePairs:
    """`Sample` s in the order of their names, read anew on each access: large sets never sit in memory.

    Args:
        files: where pictures and labels are read from.
        pairs: name -> (picture, label file), both relative to the root of ``files``.
        table: int16 [256], labels on disk -> class ids, OUTLIER, IGNORE (`files.label_table`).

    Raises:
        ValueError: on access; names the file that is unreadable, of another size, or with an unknown label.
    """

    def __init__(self, files: Files, pairs: Mapping[str, tuple[str, str]], table: np.ndarray):
        self.files, self.pairs, self.table = files, dict(pairs), table
        self.names = sorted(self.pairs)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, label_path = self.pairs[name]
        where = str(self.files.root / image_path)
        image = decode_image(self.files.read(image_path), where)
        return sample_of(image, self.labels_of(name, label_path), name, where)

    def labels_of(self, name: str, path: str) -> np.ndarray:
        """uint8 [H,W] of one frame."""
        where = str(self.files.root / path)
        return translate(decode_labels(self.files.read(path), where), self.table, where)


def pair_up(
    files: Files,
    images: Mapping[str, str],
    labels: Mapping[str, str],
    where: tuple[str | Path, str | Path],
    help: str,
) -> dict[str, tuple[str, str]]:
    """Match pictures and labels (each name -> path) by name; every picture needs its labels.

    where: the folders they were looked for in. Raises FileNotFoundError: nothing there, or labels missing.
    """
    for found, folder in zip((images, labels), where):
        if not found:
            raise FileNotFoundError(f"{files.root / folder} is missing or empty. Expected: {help}")
    missing = sorted(set(images) - set(labels))
    if missing:
        raise FileNotFoundError(
            f"no labels for {files.root / images[missing[0]]} in {files.root / where[1]} "
            f"({len(missing)} such). Expected: {help}"
        )
    return {name: (path, labels[name]) for name, path in images.items()}


def by_stem(paths: list[str], ending: str = "") -> dict[str, str]:
    """{file name without extension and without ``ending``: path}. ValueError: two files have one name."""
    found: dict[str, str] = {}
    for path in paths:
        name = Path(path).stem.removesuffix(ending)
        if name in found:
            raise ValueError(f"{found[name]} and {path} have one name: {name}. Give one of them another")
        found[name] = path
    return found
