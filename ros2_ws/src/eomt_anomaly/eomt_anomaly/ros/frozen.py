# SPDX-License-Identifier: MIT
"""Whether a camera still sees: a driver that hangs may send its last picture for ever, with new stamps."""

from __future__ import annotations

from typing import Any

import numpy as np

STRIDE = 4096   # bytes; of pictures that differ, nearly all differ in one of these


class Unchanged:
    """For how long a camera's pictures are the same to the last byte; those of a live one have noise."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._since = 0.0

    def seconds(self, data: Any, now: float) -> float:
        """Seconds from the first of the pictures equal to this one until `now`, 0.0 for a new one.

        data: the message's bytes, as they came; kept until the next call. now: monotonic seconds.
        """
        picture, last = np.frombuffer(data, np.uint8), self._last                   # [N]
        if last is None or not (np.array_equal(picture[::STRIDE], last[::STRIDE])
                                and np.array_equal(picture, last)):
            self._last, self._since = picture, now
        return now - self._since
