# SPDX-License-Identifier: MIT
"""Maps of windows enlarged to the image on a CPU, a strip of rows at a time, so that all work stays in cache.

Bilinear interpolation, of windows and then of the image they cover, is linear and separable: a matrix for
each axis. An output depends on few inputs beside it, so a strip is two small matrix products: one widens
the map rows below it, for all maps at once; the other, of one map at a time, makes the image's rows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Barrier

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .preprocess import Plan

STRIP = 1 << 15   # px: the few buffers fit into a core's cache, and MKL shares out no product this small
BLOCK = 128       # columns made by one product


@dataclass(frozen=True)
class Band:
    """Neighbouring outputs of one axis: out = weights @ inputs, weights float32 [len(out),len(inputs)]."""

    out: slice
    inputs: slice
    weights: Tensor


@dataclass(frozen=True)
class Strip:
    """Some rows of the image, for each of K maps. wide: [K,r,W], the map rows below them, widened."""

    band: Band
    wide: Tensor

    @property
    def rows(self) -> slice:
        return self.band.out

    def enlarge(self, k: int, out: np.ndarray | None = None) -> np.ndarray:
        """These rows of map k, float32 [rows,W]; written to `out` where it is given."""
        result = None if out is None else torch.from_numpy(out)
        return torch.mm(self.band.weights, self.wide[k], out=result).numpy()


def in_strips(maps: np.ndarray, plan: Plan, work: Callable[[Strip], None]) -> None:
    """Call `work` for every strip of the image, on as many threads as torch uses in the caller's.

    maps: float32 [n,K,h,w], n windows of the plan; where they overlap, they are averaged.
    """
    grid = [len(starts) for starts in _starts(plan)]
    rows, columns = _bands(plan, maps.shape[2:])
    low = torch.from_numpy(maps).unflatten(0, grid).permute(2, 0, 3, 1, 4).flatten(1, 2)  # [K,ny h,nx,w]

    def one(band: Band) -> None:
        near = low[:, band.inputs].flatten(2)                                             # [K,r,nx w]
        wide = torch.empty(*near.shape[:2], plan.image[1])
        for block in columns:
            torch.mm(near.flatten(0, 1)[:, block.inputs], block.weights.T,
                     out=wide.flatten(0, 1)[:, block.out])
        work(Strip(band, wide))

    list(_workers(torch.get_num_threads()).map(one, rows))


@lru_cache(maxsize=16)
def _bands(plan: Plan, size: tuple[int, int]) -> tuple[list[Band], list[Band]]:
    """Of rows and columns. size: of one window's map."""
    lengths = max(1, STRIP // plan.image[1]), BLOCK
    rows, columns = ([_band(matrix, first, length) for first in range(0, len(matrix), length)]
                     for matrix, length in zip((_matrix(plan, size, axis) for axis in (0, 1)), lengths))
    return rows, columns


def _band(matrix: Tensor, first: int, length: int) -> Band:
    """`length` rows of the matrix, without the columns that are zero before and behind."""
    part = matrix[first:first + length]
    used = part.any(0).nonzero()
    inputs = slice(int(used[0]), int(used[-1]) + 1)
    return Band(slice(first, first + len(part)), inputs, part[:, inputs].float().clone())


def _matrix(plan: Plan, size: tuple[int, int], axis: int) -> Tensor:
    """What maps of the windows along an axis, laid end to end, become in the image: float64 [image,n size].

    A linear operation's matrix is what it makes of the identity.
    """
    starts, window, scaled = _starts(plan)[axis], plan.window[axis], plan.scaled[axis]
    unit = torch.eye(size[axis], dtype=torch.float64)
    if len(plan.corners) == 1 and plan.window == plan.scaled:
        return _linear(unit, plan.image[axis]).T
    total, count = unit.new_zeros(len(starts), len(unit), scaled), unit.new_zeros(scaled)
    for part, start in zip(total, starts):
        part[:, start:start + window] = _linear(unit, window)
        count[start:start + window] += 1
    return _linear((total / count).flatten(0, 1), plan.image[axis]).T


def _linear(x: Tensor, size: int) -> Tensor:
    """[n,k] -> [n,size], pixel centres at half; beyond the outer ones it is constant."""
    return F.interpolate(x[None], size, mode="linear", align_corners=False)[0]


def _starts(plan: Plan) -> tuple[list[int], list[int]]:
    """Where windows begin, by rows and by columns."""
    rows, columns = (sorted(set(starts)) for starts in zip(*plan.corners))
    return rows, columns


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """Threads in which torch does not share its own operations out once more: strips are small."""
    pool, started = ThreadPoolExecutor(count, "eomt-strips", torch.set_num_threads, (1,)), Barrier(count)
    list(pool.map(lambda _: started.wait(), range(count)))
    torch.set_num_threads(count)    # what was set last, in any thread, is what new threads begin with
    return pool

