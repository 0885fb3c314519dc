# SPDX-License-Identifier: MIT
"""Reads texture files (png, and SGI `.rgb` with 1-4 channels, raw or run-length encoded) as RGBA."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np


def _row(packed: bytes, width: int) -> np.ndarray:
    """One run-length encoded row of an SGI image."""
    out, i = bytearray(), 0
    while len(out) < width and i < len(packed):
        count, literal = packed[i] & 0x7F, packed[i] & 0x80
        i += 1
        if not count:
            break
        out += packed[i : i + count] if literal else packed[i : i + 1] * count
        i += count if literal else 1
    return np.frombuffer(bytes(out[:width].ljust(width, b"\0")), np.uint8)


def _sgi(path: Path) -> np.ndarray:
    """[H,W,C] uint8, top row first."""
    data = path.read_bytes()
    magic, rle, depth, _, w, h, channels = struct.unpack(">HBBHHHH", data[:12])
    if magic != 474 or depth != 1 or not 1 <= channels <= 4:
        raise ValueError(
            f"{path}: not an 8-bit SGI image (magic {magic}, {depth} bytes a value, {channels} channels)"
        )
    if rle:
        n = h * channels
        start = struct.unpack(f">{n}I", data[512 : 512 + 4 * n])
        size = struct.unpack(f">{n}I", data[512 + 4 * n : 512 + 8 * n])
        rows = np.stack([_row(data[a : a + k], w) for a, k in zip(start, size, strict=True)])
        planes = rows.reshape(channels, h, w)
    else:
        planes = np.frombuffer(data, np.uint8, w * h * channels, 512).reshape(channels, h, w)
    return planes.transpose(1, 2, 0)[::-1]


def rgba(path: str | Path) -> np.ndarray:
    """[H,W,4] uint8 RGBA, top row first. Raises ValueError naming the file when it cannot be read."""
    path = Path(path)
    if path.suffix.lower() in (".rgb", ".rgba", ".sgi", ".bw"):
        image = _sgi(path)
        if image.shape[2] < 3:  # grey, or grey and alpha
            grey = np.repeat(image[..., :1], 3, axis=2)
            image = np.concatenate([grey, image[..., 1:]], axis=2)
    else:
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if read is None:
            raise ValueError(f"{path}: not a readable image")
        image = np.repeat(read[..., None], 3, axis=2) if read.ndim == 2 else read
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    if image.shape[2] == 3:
        image = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)
    return np.ascontiguousarray(image)
