# SPDX-License-Identifier: MIT
"""Listens to a detector: alerts with their arrival, counters, and its pictures, spooled to a file."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from eomt_anomaly_msgs.msg import ModelInfo, ObstacleAlertArray

from ..report.recording import UNKNOWN, Box, Reason
from . import qos
from .bag_io import stamp_of

PIXELS = {
    "overlay": ("rgb8", np.uint8, 3),
    "mask": ("mono8", np.uint8, 1),
    "heatmap": ("32FC1", np.float32, 1),
}
REFUSED = Reason.INVALID_INPUT | Reason.INVALID_OUTPUT | Reason.INFERENCE_ERROR
DEEP = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class Arrival:
    """An alert message: `received` on time.monotonic(), `age_s` of its stamp by the node clock then."""

    message: ObstacleAlertArray
    received: float
    age_s: float


@dataclass
class Counters:
    """The detector's own books of one camera, from /diagnostics; `heard` is on time.monotonic()."""

    heard: float
    frames_in: int
    frames_out: int
    pending: int
    dropped: dict[str, int] = field(default_factory=dict)


class Recorder:
    """Subscribes at once. Callbacks run wherever the nodes are spun; read the properties from any thread."""

    def __init__(
        self, node: Node, picture_node: Node, detector: str, camera: str, pictures: tuple[str, ...] = ()
    ):
        """`detector` is the node's full name, "/detector"; `pictures` some of "overlay", "mask", "heatmap".

        Spin the two nodes in two threads: alerts must not queue behind pictures.
        """
        self._node, self._detector, self.camera = node, detector.lstrip("/"), camera
        self._lock = threading.Lock()
        self._spool = tempfile.TemporaryFile()
        self._kept: dict[tuple[str, int], tuple[int, int]] = {}  # (name, stamp ns) → where in the spool
        self.arrivals: list[Arrival] = []
        self.answers = 0  # alerts on frames, and refusals of them
        self._counters: Counters | None = None
        self._model: ModelInfo | None = None
        self.engine: DiagnosticStatus | None = None
        base = f"{detector}/{camera}"
        node.create_subscription(ObstacleAlertArray, f"{base}/alerts", self._on_alerts, DEEP)
        node.create_subscription(ModelInfo, f"{detector}/model_info", self._on_model, qos.LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEEP)
        for name in pictures:
            picture_node.create_subscription(
                Image, f"{base}/{name}", partial(self._on_picture, name), DEEP, raw=True
            )

    @property
    def active(self) -> bool:
        """Has the detector said that it takes pictures?"""
        blocked = Reason.INACTIVE | Reason.DISABLED
        if self._model is None or not self.arrivals:
            return False
        return not self.arrivals[-1].message.reasons & blocked

    @property
    def idle(self) -> bool:
        """Has the detector said that it has no frame pending?"""
        counters = self._counters
        return counters is not None and not counters.pending

    @property
    def counters(self) -> Counters:
        """The newest. Raises RuntimeError before there are any, so never once it was `idle`."""
        if self._counters is None:
            raise RuntimeError(f"{self._detector} has not published its counters in /diagnostics yet")
        return self._counters

    @property
    def model(self) -> ModelInfo:
        """What the detector says of its model. Raises RuntimeError before it was `active`."""
        if self._model is None:
            raise RuntimeError(f"{self._detector} has not published its model_info yet")
        return self._model

    @property
    def problem(self) -> str:
        """What the detector says is wrong with its engine, or ""."""
        engine = self.engine
        return engine.message if engine is not None and engine.level == DiagnosticStatus.ERROR else ""

    def engine_values(self) -> dict[str, str]:
        """The engine's entries in /diagnostics."""
        return {} if self.engine is None else {item.key: item.value for item in self.engine.values}

    def picture(self, name: str, stamp_ns: int) -> np.ndarray | None:
        """A recorded picture, [H,W] or [H,W,3], or None if it did not come."""
        with self._lock:
            place = self._kept.get((name, stamp_ns))
            if place is None:
                return None
            self._spool.seek(place[0])
            data = self._spool.read(place[1])
        return pixels(deserialize_message(data, Image), name)

    def close(self) -> None:
        """Give the spooled pictures up."""
        self._spool.close()

    def _on_alerts(self, message: ObstacleAlertArray) -> None:
        received = time.monotonic()
        stamp = message.header.stamp
        age = self._node.get_clock().now().nanoseconds / 1e9 - stamp.sec - stamp.nanosec / 1e9
        self.arrivals.append(Arrival(message, received, age))
        self.answers += not message.heartbeat or bool(message.reasons & REFUSED)

    def _on_model(self, message: ModelInfo) -> None:
        self._model = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._detector}: engine":
                self.engine = status
            elif status.name == f"{self._detector}: {self.camera}":
                values = {item.key: item.value for item in status.values}
                self._counters = Counters(
                    time.monotonic(),
                    int(values["frames_in"]),
                    int(values["frames_out"]),
                    int(values["frames_pending"]),
                    {
                        key.removeprefix("dropped_"): int(number)
                        for key, number in values.items()
                        if key.startswith("dropped_")
                    },
                )

    def _on_picture(self, name: str, data: bytes) -> None:
        with self._lock:
            place = self._spool.seek(0, 2)
            self._spool.write(data)
            self._kept[name, stamp_of(data)] = place, len(data)


def pixels(message: Image, name: str) -> np.ndarray:
    """The array in one of the detector's pictures. Raises ValueError for another encoding."""
    encoding, kind, channels = PIXELS[name]
    if message.encoding != encoding:
        raise ValueError(f"{name} came as {message.encoding!r}: the detector publishes {encoding!r}")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)  # [H, step]
    row = message.width * channels * np.dtype(kind).itemsize
    shape = (message.height, message.width, channels) if channels > 1 else (message.height, message.width)
    return np.ascontiguousarray(rows[:, :row]).view(kind).reshape(shape)


def boxes(message: ObstacleAlertArray) -> tuple[Box, ...]:
    """The message's alerts as plain data; none where the level is UNKNOWN."""
    if message.level == UNKNOWN:
        return ()
    return tuple(
        Box(
            a.track_id,
            a.box.x_offset,
            a.box.y_offset,
            a.box.width,
            a.box.height,
            a.level,
            a.confidence,
            float(a.distance_m) if a.position_valid else None,
        )
        for a in message.alerts
    )
