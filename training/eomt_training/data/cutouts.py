# SPDX-License-Identifier: MIT
"""RGBA cut-outs of photographed objects (Debian's tuxpaint-stamps-default, GPL-2), split by object."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

STAMPS_HELP = (
    "photographic cut-outs: `apt-get download tuxpaint-stamps-default && dpkg -x "
    "tuxpaint-stamps-default_*.deb DIR`, then give DIR"
)
# Drawings, letters, and what a road scene knows already or cannot hold.
_EXCLUDED = re.compile(
    r"cartoon|symbols|space|people|vehicles|trees|naturalforces|transport|town|flags|dinosaur|toys"
    r"|military|Santa|easter"
)
_VARIANT = re.compile(r"(_mirror|_flip|_left|_right|[-_ ]?\d+|_[a-z])$")
_NO_KIND = set("an at by de el in la mm no of on op or the to".split())  # say nothing of an object


def object_name(path: Path) -> str:
    """Folder and base name of the object a file shows; its variants share it (cow2, cow_mirror -> cow)."""
    stem = path.stem.lower()
    while (shorter := _VARIANT.sub("", stem)) != stem and shorter:
        stem = shorter
    return f"{path.parent.name}/{stem}"


def split_of(name: str, eval_fraction: float = 0.3) -> str:
    """``train`` or ``eval``, by a hash of the object's name: stable, disjoint, the same on every machine."""
    return "eval" if hashlib.sha256(name.encode()).digest()[0] < 256 * eval_fraction else "train"


def category_words(name: str) -> set[str]:
    """The words of two letters or more, without ``of`` and the like: {sports, ball} of ``sports ball``."""
    return set(re.findall(r"[a-z]{2,}", name.lower())) - _NO_KIND


def words(path: Path) -> set[str]:
    """The words of a file's name, without mirrored and flipped: {guineafowl, helmeted}."""
    return category_words(path.stem) - {"mirror", "flip", "left", "right"}


def is_photograph(rgba: np.ndarray, min_side: int = 64, min_colours: int = 2000) -> bool:
    """Large enough, with transparency, and too many colours for a drawing. rgba uint8 [H,W,4]."""
    if rgba.ndim != 3 or rgba.shape[2] != 4 or min(rgba.shape[:2]) < min_side:
        return False
    solid = rgba[..., 3] > 200
    if not 0.1 < solid.mean() < 0.98:
        return False
    packed = rgba[solid][:, :3].astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    return len(np.unique(packed)) >= min_colours


@lru_cache(maxsize=4)
def load_cutouts(root: str, split: str, max_side: int = 320) -> dict[str, np.ndarray]:
    """Cut-outs {path: RGBA uint8 [h,w,4]} of ``split`` (train | eval), cropped to their content.

    Colours are premultiplied by alpha: resizing and turning then mixes in nothing from outside the object.
    Evaluation objects that share a word with a training object (guineafowl, helmeted_guineafowl; grave-a,
    grave-b) are left out. Raises FileNotFoundError when ``root`` holds none.
    """
    if split not in ("train", "eval"):
        raise ValueError(f"unknown split {split!r}: train or eval")
    paths = [p for p in sorted(Path(root).rglob("*.png")) if not _EXCLUDED.search(str(p.relative_to(root)))]
    trained = set().union(*(words(p) for p in paths if split_of(object_name(p)) == "train"))
    found: dict[str, np.ndarray] = {}
    for path in paths:
        if _is_mirror(path) or split_of(object_name(path)) != split:
            continue
        if split == "eval" and words(path) & trained:
            continue
        rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if rgba is None or not is_photograph(rgba):
            continue
        found[str(path.relative_to(root))] = fit_cutout(cv2.cvtColor(rgba, cv2.COLOR_BGRA2RGBA), max_side)
    if not found:
        raise FileNotFoundError(f"{root} holds no usable cut-out. Expected: {STAMPS_HELP}")
    return found


def load_folder(root: Path, taken: set[str], max_side: int = 320) -> dict[str, np.ndarray]:
    """All RGBA pictures {path: uint8 [h,w,4]} below ``root``, as `load_cutouts` gives them.

    taken: names that share one of these words are left out. Raises FileNotFoundError where nothing is left,
    ValueError for a picture without transparency.
    """
    found: dict[str, np.ndarray] = {}
    for path in sorted(root.rglob("*.png")):
        if words(path) & taken:
            continue
        rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4 or not 0 < (rgba[..., 3] > 127).mean() < 1:
            raise ValueError(
                f"{path} is no cut-out: it must be an RGBA picture, transparent around the object"
            )
        found[str(path.relative_to(root))] = fit_cutout(cv2.cvtColor(rgba, cv2.COLOR_BGRA2RGBA), max_side)
    if not found:
        raise FileNotFoundError(f"{root} holds no .png of an object of a kind that training did not have")
    return found


def fit_cutout(rgba: np.ndarray, max_side: int) -> np.ndarray:
    """RGBA uint8 [H,W,4] -> cropped to its content, premultiplied, longest side <= ``max_side`` px."""
    ys, xs = np.nonzero(rgba[..., 3] > 8)
    rgba = rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].copy()
    rgba[..., :3] = np.rint(rgba[..., :3] * (rgba[..., 3:] / 255.0))
    scale = min(1.0, max_side / max(rgba.shape[:2]))
    return cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _is_mirror(path: Path) -> bool:
    return any(word in path.stem.lower() for word in ("mirror", "flip"))
