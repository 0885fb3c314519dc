# SPDX-License-Identifier: MIT
"""Maps of windows enlarged to the image on a CPU, with the best class of each pixel, in one pass over rows.

Bilinear interpolation, of windows and then of the image they cover, is linear and separable: along each
axis an output is a weighted sum of few inputs, its taps. So the map rows below a strip of the image are
widened once, and each of its rows is a sum of few of them, compared while it is in the cache. Compiled by
Numba, without Python's lock: strips run on threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from .preprocess import Plan

logger = logging.getLogger(__name__)
STRIP = 32   # rows of the image: the map rows below them fit into a core's cache


@dataclass(frozen=True)
class Taps:
    """How outputs of one axis come from its inputs: out[i] = sum_t weights[t,i] input[indices[t,i]].

    indices uint32, weights float32, both [T,n], T >= 2; where fewer are needed, the others weigh nothing.
    """

    indices: np.ndarray
    weights: np.ndarray


def enlarge(maps: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Best of all maps but the last, uint8 [H,W] (the first of equal ones), and the last, float32 [H,W].

    maps: float32 [n,K,h,w], n windows of the plan; where they overlap, they are averaged. As many threads
    work as torch uses in the caller's.
    """
    rows, columns = _axes(plan, maps.shape[2:])
    grid = [len(starts) for starts in _starts(plan)]
    low = torch.from_numpy(maps).unflatten(0, grid).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    joined = np.ascontiguousarray(low.numpy())                                          # [K,ny h,nx w]
    best, last = np.empty(plan.image, np.uint8), np.empty(plan.image, np.float32)

    def strip(first: int) -> None:
        part = slice(first, first + STRIP)
        _enlarge_rows(joined, np.ascontiguousarray(rows.indices[:, part].T),
                      np.ascontiguousarray(rows.weights[:, part].T),
                      columns.indices, columns.weights, best[part], last[part])

    list(_workers(torch.get_num_threads()).map(strip, range(0, plan.image[0], STRIP)))
    return best, last


def warm_up() -> None:
    """Compile what `enlarge` runs, or load it where an earlier process did: it is the same for all sizes.

    Where it cannot be kept or loaded (a full disk, a file that a power cut left empty), it is compiled anew.
    """
    global _enlarge_rows
    pixel = (1, 1)
    black, plan = np.zeros((1, 2, *pixel), np.float32), Plan(pixel, pixel, pixel)
    try:
        enlarge(black, plan)
    except Exception as error:    # pickle's, LLVM's and the file system's are of many kinds
        if "interpreter shutdown" in str(error):    # a short script has ended meanwhile: nothing is wrong
            return
        logger.warning("what Numba keeps between processes cannot be used (%s: %s), so each start compiles "
                       "it anew: make room on the disk; empty $NUMBA_CACHE_DIR, or the __pycache__ beside %s",
                       type(error).__name__, error, __file__)
        _enlarge_rows = njit(nogil=True)(_enlarge_rows.py_func)
        enlarge(black, plan)


def _compiled(function: Callable[..., None]) -> Any:
    """At the first call, and kept for later processes where there is a folder for it (`NUMBA_CACHE_DIR`)."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:    # neither beside this file nor in the user's cache
        return njit(nogil=True)(function)


@_compiled
def _enlarge_rows(maps, row_indices, row_weights, column_indices, column_weights, best, last):
    """maps [K,h,w]; taps of r rows [r,T], of the columns [T,W]; fills best and last [r,W]."""
    count, width = maps.shape[0], best.shape[1]
    first = row_indices.min()
    near = row_indices - first
    wide = np.zeros((count, near.max() + 1, width), np.float32)
    for k in range(count):
        for y in range(wide.shape[1]):
            for t in range(len(column_indices)):
                _add_picked(maps[k, first + y], column_indices[t], column_weights[t], wide[k, y])
    highest, value = np.empty(width, np.float32), np.empty(width, np.float32)
    winner = np.empty(width, np.float32)    # as wide as what is compared, so that both are vectors
    for y in range(len(best)):
        _mix(wide[0], near[y], row_weights[y], highest)
        winner[:] = 0
        for k in range(1, count - 1):
            _mix(wide[k], near[y], row_weights[y], value)
            _keep(value, np.float32(k), highest, winner)
        for x in range(width):
            best[y, x] = np.uint8(winner[x])
        _mix(wide[-1], near[y], row_weights[y], last[y])


@njit
def _add_picked(row, indices, weights, out):
    for x in range(len(out)):
        out[x] += weights[x] * row[indices[x]]


@njit
def _mix(rows, indices, weights, out):
    """out = sum_t weights[t] rows[indices[t]]."""
    a, b, v, w = rows[indices[0]], rows[indices[1]], weights[0], weights[1]
    for x in range(len(out)):
        out[x] = v * a[x] + w * b[x]
    for t in range(2, len(weights)):
        c, u = rows[indices[t]], weights[t]
        if u != 0:
            for x in range(len(out)):
                out[x] += u * c[x]


@njit
def _keep(value, k, highest, winner):
    for x in range(len(value)):
        better = value[x] > highest[x]
        highest[x] = value[x] if better else highest[x]
        winner[x] = k if better else winner[x]


@lru_cache(maxsize=16)
def _axes(plan: Plan, size: tuple[int, int]) -> tuple[Taps, Taps]:
    """Of rows and columns. size: of one window's map."""
    rows, columns = (_taps(_matrix(plan, size, axis)) for axis in (0, 1))
    return rows, columns


def _taps(matrix: Tensor) -> Taps:
    """matrix: [outputs,inputs]."""
    values = np.pad(matrix.numpy(), ((0, 0), (0, 1)))           # one that weighs nothing is always there
    count = max(2, int(np.count_nonzero(values, 1).max()))
    order = np.argsort(values == 0, 1, kind="stable")[:, :count]                          # [n,T]
    weights = np.take_along_axis(values, order, 1)
    near = np.where(weights, order, order[:, :1])               # what weighs nothing widens no strip
    return Taps(np.ascontiguousarray(near.T, np.uint32), np.ascontiguousarray(weights.T, np.float32))


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
    return ThreadPoolExecutor(count, "eomt-strips")
