# SPDX-License-Identifier: MIT
"""How many messages of a topic were lost inside DDS, by the numbers that its publisher gives them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any


class Gaps:
    """Counts what one publisher sent and this subscription never took.

    publishers: asks the ROS graph for the identities of the topic's publishers; called only for the first
        message and where numbers do not follow each other. Where there are several, or another one than
        before, their numbers do not tell what was lost in between: nothing is counted.
    """

    def __init__(self, publishers: Callable[[], Collection[Any]]):
        self._publishers = publishers
        self._known: frozenset[Any] = frozenset()
        self._last: int | None = None

    def before(self, number: int | None) -> int:
        """Messages lost since the last one. number: its `publication_sequence_number`; None where the ROS
        middleware has none (Cyclone DDS)."""
        last, self._last = self._last, number
        if number is None or last is not None and number == last + 1:
            return 0
        before, self._known = self._known, frozenset(self._publishers())
        same = self._known == before and len(before) == 1
        return number - last - 1 if same and last is not None and number > last else 0
