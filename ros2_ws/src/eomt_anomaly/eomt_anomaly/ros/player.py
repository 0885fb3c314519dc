# SPDX-License-Identifier: MIT
"""Publishes a bag's messages on time, as the bytes they were recorded as."""

from __future__ import annotations

import argparse
import importlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import QosDurability, QosLiveliness, QosReliability
from rosgraph_msgs.msg import Clock

from .bag_io import Bag, BagError, Prefetch, Record, Topic, with_stamp

MIN_DEPTH = 10  # messages kept for slow readers, as `ros2 bag play` does
CLOCK_RATE = 100.0  # Hz of /clock
INFINITE_S = 2**31 - 1  # from here on a recorded duration is infinite; 0 is the default, which is that too


@dataclass(frozen=True)
class Sent:
    """One published message: seconds since the replay began; `stamp_ns` is None without restamping."""

    record: Record
    due_s: float
    sent_s: float
    stamp_ns: int | None


class Player:
    """Replays the chosen topics of a bag. Create, wait for subscribers if wished, then `play`.

    `stamped` topics get a stamp as if the bag happened now: begin + (record time − bag start) / rate.
    """

    def __init__(
        self,
        node: Node,
        bag: Bag,
        topics: Iterable[str],
        remap: Mapping[str, str] | None = None,
        stamped: Iterable[str] = (),
        clock: bool = False,
        max_bytes: int = 1 << 30,
    ):
        """Raises BagError for an unknown topic or a message type that is not installed."""
        remap = remap or {}
        self._node, self._bag, self._max_bytes = node, bag, max_bytes
        self._topics = [bag.require(name) for name in topics]
        self._stamped = frozenset(stamped)
        self.publishers: dict[str, Publisher] = {
            topic.name: node.create_publisher(
                message_class(topic.msgtype), remap.get(topic.name, topic.name), replay_qos(topic)
            )
            for topic in self._topics
        }
        self._clock = node.create_publisher(Clock, "/clock", 1) if clock else None
        self.stopped = threading.Event()

    def missing_subscribers(self) -> list[str]:
        """The topics nobody listens to yet."""
        return [name for name, publisher in self.publishers.items() if not publisher.get_subscription_count()]

    def play(
        self,
        rate: float = 1.0,
        start_offset_s: float = 0.0,
        on_sent: Callable[[Sent], Any] = lambda sent: None,
        begin: float | None = None,
    ) -> None:
        """Publish every message once, `rate` times as fast as recorded; returns early once `stopped` is set.

        `begin` is when the replay's time is zero, on time.monotonic() (default: when the buffer is full).
        Raises BagError where the file turns out to be damaged.
        """
        if not rate > 0:
            raise ValueError(f"rate is {rate}: give a number above 0")
        buffer = Prefetch(self._bag.records([t.name for t in self._topics], start_offset_s), self._max_bytes)
        try:
            buffer.wait_until_full()
            begin = time.monotonic() if begin is None else begin
            first = self._bag.start_ns + round(max(start_offset_s, 0.0) * 1e9)
            self.play_timed(
                (((record.time_ns - first) / 1e9 / rate, record) for record in buffer),
                begin,
                on_sent,
                lambda: first + round((time.monotonic() - begin) * rate * 1e9),
            )
        finally:
            buffer.close()

    def play_timed(
        self,
        timed: Iterable[tuple[float, Record]],
        begin: float,
        on_sent: Callable[[Sent], Any] = lambda sent: None,
        bag_time_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        """Publish (due, record) pairs; due is in seconds after `begin`, which is on time.monotonic().

        The pairs are taken one by one, when the one before is out. `bag_time_ns` is what /clock tells.
        """
        wall = self._node.get_clock().now().nanoseconds + round((begin - time.monotonic()) * 1e9)
        for due, record in timed:
            if not self._wait(begin + due, bag_time_ns):
                return
            data, stamp = record.data, None
            if record.topic in self._stamped:
                stamp = wall + round(due * 1e9)
                data = with_stamp(data, stamp)
            sent = time.monotonic() - begin
            self.publishers[record.topic].publish(data)
            on_sent(Sent(record, due, sent, stamp))

    def _wait(self, until: float, bag_time_ns: Callable[[], int]) -> bool:
        """Sleep until the moment, keeping /clock going; False if stopped."""
        while True:
            if self._clock is not None:
                self._clock.publish(Clock(clock=_time(bag_time_ns())))
            rest = until - time.monotonic()
            if rest <= 0:
                return not self.stopped.is_set()
            if self.stopped.wait(min(rest, 1.0 / CLOCK_RATE) if self._clock is not None else rest):
                return False


def message_class(msgtype: str) -> type[Any]:
    """The Python class of `package/msg/Name`. Raises BagError if its package is not installed, and for ""."""
    if not msgtype:
        raise BagError("a topic was recorded with several types: leave it out (--topics)")
    package, _, name = msgtype.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BagError(
            f"message type {msgtype} is not installed here: install its package, or leave its topics "
            "out (--topics)"
        ) from error


def ros_message(record: Record) -> Any:
    """The record as a message of its ROS type. Raises BagError if its bytes are not one."""
    kind = message_class(record.msgtype)
    try:
        return deserialize_message(record.data, kind)
    except Exception as error:  # of the middleware; its type differs between them
        raise BagError(
            f"a message of {record.topic} is not a {record.msgtype} ({error}): the bag is damaged, or it is "
            "compressed and its metadata.yaml is missing"
        ) from error


def positive(text: str) -> float:
    """A finite number above 0, as an argument of the command line."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def has_header(msgtype: str) -> bool:
    """Does the type begin with a std_msgs/Header, whose stamp can be replaced in the bytes?"""
    fields = message_class(msgtype).get_fields_and_field_types()
    return next(iter(fields.values()), "") == "std_msgs/Header"


def replay_qos(topic: Topic) -> QoSProfile:
    """The recorded quality of service, so that the readers of the original match the replay.

    Without one: reliable, and latched for /tf_static. Durations are not stretched by the replay's rate. As in
    the original, liveliness by topic is asserted by publishing, and a lifespan begins with it.
    """
    profile = QoSProfile(
        depth=MIN_DEPTH,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )
    if topic.name.endswith("/tf_static") or (
        topic.qos is not None and topic.qos.durability == QosDurability.TRANSIENT_LOCAL
    ):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    if topic.qos is not None:
        profile.depth = max(MIN_DEPTH, topic.qos.depth)
        if topic.qos.reliability == QosReliability.BEST_EFFORT:
            profile.reliability = ReliabilityPolicy.BEST_EFFORT
        if topic.qos.liveliness == QosLiveliness.MANUAL_BY_TOPIC:
            profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        for name in ("deadline", "lifespan", "liveliness_lease_duration"):
            sec, nsec = getattr(topic.qos, name)
            if (sec or nsec) and sec < INFINITE_S:
                setattr(profile, name, Duration(seconds=sec, nanoseconds=nsec))
    return profile


def _time(nanoseconds: int) -> Time:
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)
