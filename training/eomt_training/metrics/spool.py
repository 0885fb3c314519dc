# SPDX-License-Identifier: MIT
"""Sorted keys of many images, in memory while they are few and in a temporary file after that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from .keys import END

MAX_KEYS = 1 << 23  # kept in memory by one spool: 32 MiB
_STRIDE = 4096  # one key of so many is looked at to choose slices


class Spool:
    """One sorted run of uint32 keys for each image.

    Memory holds at most ``max_keys`` keys of 4 bytes and one image; what is more lies in a nameless file
    in the system's temporary folder (TMPDIR), 4 bytes a key, that vanishes with the spool.
    """

    def __init__(self, max_keys: int = MAX_KEYS):
        self.max_keys = max_keys
        self.lengths: list[int] = []  # keys of each run
        self._recent: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._written = 0

    def add(self, keys: np.ndarray) -> None:
        """Add one image's keys, uint32 of any shape."""
        self._recent.append(np.sort(keys, axis=None))
        self.lengths.append(keys.size)
        if sum(map(len, self._recent)) > self.max_keys:
            self._file = self._file or tempfile.TemporaryFile(prefix="eomt_scores_")
            for run in self._recent:
                run.tofile(self._file)
                self._written += len(run)
            self._recent = []

    def __len__(self) -> int:
        """How many keys there are."""
        return sum(self.lengths)

    @property
    def bytes_in_memory(self) -> int:
        return sum(run.nbytes for run in self._recent)

    @property
    def runs(self) -> list[np.ndarray]:
        """The images' sorted keys in the order they came; those on disk are mapped, not read."""
        mapped: list[np.ndarray] = []
        if self._file is not None and self._written:
            self._file.flush()
            written = np.memmap(self._file, np.uint32, "r", shape=(self._written,))
            count = len(self.lengths) - len(self._recent)
            mapped = np.split(written, np.cumsum(self.lengths[:count])[:-1])
        return [*mapped, *self._recent]


def slices(spools: Sequence[Spool], max_keys: int = MAX_KEYS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk the spools' keys together from the highest down, slice by slice.

    Yields distinct keys, uint32 [K] descending, and how often each spool holds them, int64 [S,K]. A slice
    reads about ``max_keys`` keys (and up to 4096 an image more), however many the spools hold: its borders
    come from every 4096th key of each run, and a key that fills a slice alone is counted, never read.
    """
    runs = [[run for run in spool.runs if len(run)] for spool in spools]
    every = [run for of_spool in runs for run in of_spool]
    if not every:
        return
    seen = np.sort(np.concatenate([run[::_STRIDE] for run in every]))[:: max(1, max_keys // _STRIDE)][1:]
    borders = np.unique(np.concatenate([[0, END], seen.astype(np.int64), seen.astype(np.int64) + 1]))
    for low, high in zip(borders[-2::-1], borders[:0:-1]):
        parts = [[_between(run, low, high) for run in of_spool] for of_spool in runs]
        if high == low + 1:
            counts = np.array([[sum(map(len, of_spool))] for of_spool in parts])
            keys = np.array([low], np.uint32)
        else:
            none = np.zeros(0, np.uint32)
            distinct = [np.unique(np.concatenate([*p, none]), return_counts=True) for p in parts]
            keys = np.unique(np.concatenate([values for values, _ in distinct]))
            counts = np.zeros((len(spools), len(keys)), np.int64)
            for row, (values, times) in zip(counts, distinct):
                row[np.searchsorted(keys, values)] = times
        if counts.any():
            yield keys[::-1], counts[:, ::-1]


def _between(run: np.ndarray, low: int, high: int) -> np.ndarray:
    """The part of a sorted run in [low, high)."""
    begin = np.searchsorted(run, np.uint32(low))
    end = len(run) if high >= END else np.searchsorted(run, np.uint32(high))
    return run[begin:end]
