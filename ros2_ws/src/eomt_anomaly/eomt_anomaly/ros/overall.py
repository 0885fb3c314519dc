# SPDX-License-Identifier: MIT
"""One level for the whole robot, on `~/alerts`: for those who do not want to listen to each camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from builtin_interfaces.msg import Duration
from std_msgs.msg import Header

from eomt_anomaly_msgs.msg import ObstacleAlertArray

from ..alerts import Level, Reason
from . import qos
from .alert_messages import alert_array
from .health import Verdict
from .publishers import Alerts

Said = tuple[ObstacleAlertArray, float]   # a camera's last message and when it was heard, monotonic s


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst: STOP, then UNKNOWN, which may hide one, then CAUTION; CLEAR needs all. Every reason."""
    verdicts = list(verdicts)
    levels, reasons = {verdict.level for verdict in verdicts}, Reason.NONE
    for verdict in verdicts:
        reasons |= verdict.reasons
    worst_first = Level.STOP, Level.UNKNOWN, Level.CAUTION, Level.CLEAR
    return Verdict(next(level for level in worst_first if level in levels), reasons)


class Overall:
    """Hears what each of the cameras says and tells the whole. Any thread; takes no lock but its topic's.

    A camera that says nothing for as long as readers of its own topic wait counts as UNKNOWN, STALE_INPUT.
    """

    def __init__(self, node: Any, cameras: Iterable[str]):
        self._node, self._lock = node, threading.Lock()
        self._said: dict[str, Said | None] = dict.fromkeys(cameras)
        self._told: Verdict | None = None
        period = 1.0 / node.parameters["heartbeat_rate"]
        self._patience = qos.MISSED_BEATS * period
        self._alerts = Alerts(node, "~/alerts", period)

    def hear(self, message: ObstacleAlertArray) -> None:
        """A camera has spoken; what that changes is told at once."""
        with self._lock:
            now = time.monotonic()
            self._said[message.camera] = message, now
            if self._verdict(now) != self._told:
                self._tell(now, heartbeat=False)

    def beat(self) -> None:
        """Tell it again."""
        with self._lock:
            self._tell(time.monotonic(), heartbeat=True)

    def _verdict(self, now: float) -> Verdict:
        return together(self._of(said, now) for said in self._said.values())

    def _of(self, said: Said | None, now: float) -> Verdict:
        if said is None:
            return Verdict(Level.UNKNOWN, Reason.NO_INPUT)
        message, heard = said
        if now - heard > self._patience:
            return Verdict(Level.UNKNOWN, Reason.STALE_INPUT)
        return Verdict(Level(message.level), Reason(message.reasons))

    def _tell(self, now: float, heartbeat: bool) -> None:
        told = self._told = self._verdict(now)
        said = [one for one in self._said.values() if one]
        stamps = [message.header.stamp for message, _ in said]
        if len(said) < len(self._said):
            stamps = [self._node.get_clock().now().to_msg()]
        header = Header(stamp=min(stamps, key=lambda stamp: (stamp.sec, stamp.nanosec)))
        ages = {name: _oldest((getattr(message, name), now - heard) for message, heard in said)
                for name in ("input_age", "inference_age")}
        self._alerts.publish(lambda sequence: alert_array(
            header, "", told, [], sequence=sequence, heartbeat=heartbeat, latency=None,
            model_id=said[0][0].model_id if said else "", **ages))


def _oldest(ages: Iterable[tuple[Duration, float]]) -> float | None:
    """The largest of (age then, seconds since); None where a camera has none, or there are none."""
    ages = list(ages)
    if not ages or any(age.sec < 0 for age, _ in ages):
        return None
    return max(age.sec + age.nanosec / 1e9 + since for age, since in ages)
