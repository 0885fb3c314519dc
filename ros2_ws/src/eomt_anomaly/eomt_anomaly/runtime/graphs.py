# SPDX-License-Identifier: MIT
"""Work of one tensor, replayed as a CUDA graph for each shape: one launch instead of a thousand."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .streams import Streams

Work = Callable[[Tensor], Tensor]
KEPT = 24               # shapes, some nine of each size of picture; the one unused for longest goes first
logger = logging.getLogger(__name__)


class Graphs:
    """`work`, a pure function of its input for one shape, issued to one queue.

    A shape's first call runs as it is, which settles allocations and caches; the second captures a graph and
    compares its answer with the eager one on that very input; later calls replay it. A shape whose graph does
    not fit into the memory or does not `agree` stays eager, and a warning says so once. After a capture that
    breaks for another reason nothing is captured any more: its memory is lost, so would be the next one's.

    cached: what the work of a shape reads and may only be in a cache. A graph reads its memory ever after,
    and asks no cache, so it is held as long as the graph.
    """

    def __init__(self, work: Work, agree: Callable[[Tensor, Tensor], bool], streams: Streams, queue: str,
                 cached: Callable[[torch.Size], Any] = lambda shape: None):
        self._work, self._agree, self._streams, self._queue = work, agree, streams, queue
        self._cached = cached
        self._shapes: OrderedDict[torch.Size, Work | None] = OrderedDict()   # None: seen once
        self._broken = False

    def __call__(self, x: Tensor) -> Tensor:
        """The answer, in memory of its own: the next call does not overwrite it. Call it on the queue."""
        if x.shape not in self._shapes:
            self._shapes[x.shape] = None
            if len(self._shapes) > KEPT:
                self._shapes.popitem(last=False)
            return self._work(x)
        self._shapes.move_to_end(x.shape)
        run = self._shapes[x.shape]
        if run is None:
            run, answer = self._captured(x)
            self._shapes[x.shape] = run
            return answer
        return run(x)

    def replayed(self) -> list[tuple[int, ...]]:
        """The shapes that have a graph."""
        return [tuple(shape) for shape, run in self._shapes.items() if run not in (None, self._work)]

    def _captured(self, x: Tensor) -> tuple[Work, Tensor]:
        """What runs this shape from now on, and the eager answer for x."""
        answer = self._work(x)
        if self._broken:
            return self._work, answer
        place = x.clone()                                       # a graph reads and writes the same memory
        try:
            replay = self._streams.capture(self._queue, lambda: self._work(place))

            def run(x: Tensor, held: Any = self._cached(x.shape)) -> Tensor:
                place.copy_(x)
                return replay().clone()

            if self._agree(answer, run(x)):
                return run, answer
            reason = "its answer is not the eager one's"
        except RuntimeError as error:                           # an operation that cannot be captured, memory
            first = error.__context__ or error       # of a broken capture, whose end fails too, without why
            reason = (str(first).splitlines() or [type(first).__name__])[0]
            self._broken = not isinstance(error, torch.OutOfMemoryError)
        rest = " nor for any other now (restart with cuda_graphs off, torch before 2.13 may leak memory)"
        logger.warning("no CUDA graph for %s%s, which stays slower: %s",
                       tuple(x.shape), rest if self._broken else "", reason)
        return self._work, answer
