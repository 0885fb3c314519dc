# SPDX-License-Identifier: MIT
"""Load made of a bag's pictures, held in memory: at an even rate, or each after the answer to the last."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from ..accounts import ReplayError
from ..bag_io import Bag, Record, Topic

MAX_BYTES = 1 << 29  # of pictures in memory: 200 of 1280 x 720 rgb8
ANSWER_S = 60.0


def pictures(bag: Bag, topic: Topic, start_offset_s: float = 0.0, max_bytes: int = MAX_BYTES) -> list[Record]:
    """The first pictures of the topic that fit. Raises ReplayError if there is none, BagError for damage."""
    kept: list[Record] = []
    held = 0
    for record in bag.records([topic.name], start_offset_s):
        held += len(record.data)
        if kept and held > max_bytes:
            break
        kept.append(record)
    if not kept:
        raise ReplayError(f"no picture of {topic.name} is left after --start-offset {start_offset_s:g} s")
    return kept


def evenly(records: Sequence[Record], hz: float, count: int) -> Iterator[tuple[float, Record]]:
    """(seconds, record) pairs at `hz`, the records over and over, `count` in all."""
    for index, record in zip(range(count), itertools.cycle(records)):
        yield index / hz, record


def one_by_one(
    records: Sequence[Record], count: int, seconds: float, begin: float, answers: Callable[[], int]
) -> Iterator[tuple[float, Record]]:
    """(seconds after `begin`, record) pairs, each due when the one before was answered (or `ANSWER_S` later).

    `answers()` counts what came back so far. Ends after `count` records, or `seconds` and at least three.
    """
    for index, record in zip(range(count), itertools.cycle(records)):
        due = max(time.monotonic() - begin, 0.0)
        if due > seconds and index >= 3:
            return
        before = answers()
        yield due, record
        while answers() == before and time.monotonic() - begin - due < ANSWER_S:
            time.sleep(0.0005)
