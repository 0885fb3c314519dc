# SPDX-License-Identifier: MIT
"""Maps that wait on disk for a second look: 4 bytes a pixel and score."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np


class MapStore:
    """Arrays by (name, index) in a temporary folder (TMPDIR chooses where)."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eomt_maps_")

    def __setitem__(self, key: tuple[str, int], values: np.ndarray) -> None:
        np.save(self._path(key), values)

    def __getitem__(self, key: tuple[str, int]) -> np.ndarray:
        return np.load(self._path(key))

    def _path(self, key: tuple[str, int]) -> Path:
        return Path(self._folder.name) / f"{key[0]}_{key[1]:06d}.npy"

    def close(self) -> None:
        """Delete the maps; a store that is collected does it too."""
        self._folder.cleanup()
