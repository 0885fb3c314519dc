# SPDX-License-Identifier: MIT
"""Subscribes to every output of a camera, as a user with RViz, a costmap and a recorder would."""

from __future__ import annotations

import contextlib
import time
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

    def __init__(self, detector: str, camera: str):
        self._base = f"{detector}/{camera}"
        self.received = dict.fromkeys(DENSE, 0)

    def __enter__(self) -> Listeners:
        with contextlib.ExitStack() as stack:
            node = stack.enter_context(spinning("eomt_anomaly_listeners"))
            for name, kind in DENSE.items():
                count = partial(self._count, name)
                node.create_subscription(kind, f"{self._base}/{name}", count, PICTURE, raw=True)
            end = time.monotonic() + MATCH_S
            while missing := [n for n in DENSE if not node.count_publishers(f"{self._base}/{n}")]:
                if time.monotonic() > end:
                    raise ReplayError(f"{self._base} does not publish {', '.join(missing)}")
                time.sleep(0.05)
            time.sleep(SETTLE_S)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._open.close()
        time.sleep(SETTLE_S)

    def _count(self, name: str, _: bytes) -> None:
        self.received[name] += 1
