# SPDX-License-Identifier: MIT
"""Maps that wait on disk for a second look: 4 bytes a pixel and score."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..metrics.anomaly import IGNORE


class MapStore:
    """Arrays by (name, index) in a temporary folder (TMPDIR chooses where)."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="eomt_maps_")

    def __setitem__(self, key: tuple[str, int], values: np.ndarray) -> None:
        np.save(self._path(key), values)

    def __getitem__(self, key: tuple[str, int]) -> np.ndarray:
        return np.load(self._path(key))

    def require_space(self, truths: Sequence[np.ndarray], scores: int, frames: int) -> None:
        """Raises ValueError where ``frames`` like the first find no room.

        A frame's maps are those of each score, its truth and classes. truths: labels [H,W] of which
        `PixelMetrics` of each score keeps the pixels that are not IGNORE there too.
        """
        labelled = sum(int((truth != IGNORE).sum()) for truth in truths)
        needed = frames * (truths[0].size * (4 * scores + 2) + 4 * labelled * scores)
        if needed > (free := shutil.disk_usage(self._folder.name).free):
            raise ValueError(
                f"{scores} scores of {frames} frames need {needed / 1e9:.3g} GB, {tempfile.gettempdir()} has "
                f"{free / 1e9:.3g}: set TMPDIR to a folder with more, or give --every N or fewer --scores"
            )

    def _path(self, key: tuple[str, int]) -> Path:
        return Path(self._folder.name) / f"{key[0]}_{key[1]:06d}.npy"

    def close(self) -> None:
        """Delete the maps; a store that is collected does it too."""
        self._folder.cleanup()
