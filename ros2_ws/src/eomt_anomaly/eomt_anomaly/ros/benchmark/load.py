# SPDX-License-Identifier: MIT
"""Load made of a bag's pictures, held in memory: at an even rate, or each after the answer to the last.

With several cameras the unit is a round: pictures in the bag's order, at most one of each camera.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from ..accounts import ReplayError
from ..bag_io import Bag, Record

MAX_BYTES = 1 << 29  # of pictures in memory: 200 of 1280 x 720 rgb8
ANSWER_S = 60.0
LATEST = 0.99  # of a period: where in its round a picture may stand at most

Round = list[Record]


def pictures(
    bag: Bag, topics: Sequence[str], start_offset_s: float = 0.0, max_bytes: int = MAX_BYTES
) -> list[Record]:
    """The first pictures of these topics that fit, in the bag's order.

    Raises ReplayError for a topic of which there is none, BagError for damage.
    """
    kept: list[Record] = []
    held = 0
    for record in bag.records(topics, start_offset_s):
        held += len(record.data)
        if kept and held > max_bytes:
            break
        kept.append(record)
    if missing := [name for name in topics if not any(record.topic == name for record in kept)]:
        raise ReplayError(
            f"no picture of {missing[0]} is left after --start-offset {start_offset_s:g} s"
            + (f" in the first {held / 1e6:.0f} MB: leave it out (--topics)" if held > max_bytes else "")
        )
    return kept


def rounds(records: Sequence[Record], most: int) -> list[Round]:
    """The pictures in their order, cut before a camera comes again and after `most` of them.

    So a node that is never idle finds them in its mailbox: the next one of each camera.
    """
    cut: list[Round] = []
    for record in records:
        if not cut or len(cut[-1]) == most or any(one.topic == record.topic for one in cut[-1]):
            cut.append([])
        cut[-1].append(record)
    return cut


def places(pictures: Sequence[Round]) -> dict[str, float]:
    """Where in a round the pictures of each topic stand, in periods, 0 to `LATEST`: medians over the bag."""
    begins = [one[0].time_ns for one in pictures]
    period = statistics.median(b - a for a, b in itertools.pairwise(begins)) if len(begins) > 1 else 0.0
    after: dict[str, list[int]] = {}
    for one in pictures:
        for record in one:
            after.setdefault(record.topic, []).append(record.time_ns - one[0].time_ns)
    return {
        topic: min(statistics.median(times) / period, LATEST) if period > 0 else 0.0
        for topic, times in after.items()
    }


def evenly(pictures: Sequence[Round], hz: float, count: int) -> Iterator[tuple[float, Record]]:
    """(seconds, record) pairs: rounds at `hz`, over and over, `count` in all.

    Each camera keeps its place in the round, so that all of them are even.
    """
    place = places(pictures)
    for index, one in zip(range(count), itertools.cycle(pictures)):
        for record in sorted(one, key=lambda record: place[record.topic]):
            yield (index + place[record.topic]) / hz, record


def one_by_one(
    pictures: Sequence[Round], count: int, seconds: float, begin: float, answers: Callable[[], int]
) -> Iterator[tuple[float, Record]]:
    """(seconds after `begin`, record) pairs: a round is due when all of the one before it were answered.

    `answers()` counts what came back so far; what takes longer than `ANSWER_S` is not waited for. Ends after
    `count` rounds, or `seconds` and at least three.
    """
    for index, one in zip(range(count), itertools.cycle(pictures)):
        due = max(time.monotonic() - begin, 0.0)
        if due > seconds and index >= 3:
            return
        wanted = answers() + len(one)
        for record in one:
            yield due, record
        while answers() < wanted and time.monotonic() - begin - due < ANSWER_S:
            time.sleep(0.0005)
