# SPDX-License-Identifier: MIT
"""Subscribes to every output of the cameras, as a user with RViz, a costmap and a recorder would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..accounts import ReplayError
from ..live import spinning
from ..publishers import DENSE
from ..qos import PICTURE

MATCH_S = 10.0
SETTLE_S = 1.0  # discovery: the detector learns of a subscription, or of its end, a little later than we do


class Listeners(contextlib.AbstractContextManager):
    """While entered, the detector has a subscriber on each of its lazy outputs; `received` counts them."""

    def __init__(self, detector: str, cameras: Sequence[str]):
        self._topics = {f"{detector}/{camera}/{name}": kind for camera in cameras
                        for name, kind in DENSE.items()}  # fmt: skip
        self.received = dict.fromkeys(self._topics, 0)

    def __enter__(self) -> Listeners:
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(spinning("eomt_anomaly_listeners"))
            for topic, kind in self._topics.items():
                node.create_subscription(kind, topic, partial(self._count, topic), PICTURE, raw=True)
            end = time.monotonic() + MATCH_S
            while missing := [t for t in self._topics if not node.count_publishers(t)]:
                if time.monotonic() > end:
                    raise ReplayError(f"the detector does not publish {', '.join(missing)}")
                time.sleep(0.05)
            time.sleep(SETTLE_S)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._open.close()
        time.sleep(SETTLE_S)

    def _count(self, topic: str, _: bytes) -> None:
        self.received[topic] += 1
