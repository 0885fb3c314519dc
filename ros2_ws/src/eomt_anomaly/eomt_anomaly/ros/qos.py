# SPDX-License-Identifier: MIT
"""The quality of service of every topic, in one place."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

# Pictures: a reliable writer matches readers of either kind; depth 1 keeps slow readers from adding latency.
PICTURE = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)

# What late joiners must get: the newest value is kept for them.
LATCHED = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)

DIAGNOSTICS = QoSProfile(depth=10)

MISSED_BEATS = 5   # heartbeats that may be lost before DDS tells the readers


def camera_input() -> QoSProfile:
    """Cameras publish best effort or reliable: a best-effort reader matches both. Old frames are worthless.

    A new profile for each subscription: rclpy writes what is overridden for one topic into the profile.
    """
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)


def alerts(heartbeat_period: float) -> QoSProfile:
    """Reliable. Deadline and liveliness end after five heartbeats' time.

    Liveliness is by topic, asserted by publishing alone: a heartbeat that hangs counts as dead although DDS's
    own threads live. It says nothing of the worker: `judged` does.
    """
    lease = Duration(seconds=MISSED_BEATS * heartbeat_period)
    return QoSProfile(depth=10, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.VOLATILE, deadline=lease, lifespan=lease,
                      liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=lease)


def judged(stale_timeout: float) -> QoSProfile:
    """Reliable. Liveliness, by topic, ends `stale_timeout` seconds after the last finished judgement."""
    return QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE,
                      liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
                      liveliness_lease_duration=Duration(seconds=stale_timeout))
