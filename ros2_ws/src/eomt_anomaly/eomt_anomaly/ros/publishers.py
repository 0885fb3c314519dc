# SPDX-License-Identifier: MIT
"""The output topics of one camera. Alerts are always published; the rest only while somebody listens."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from eomt_anomaly_msgs.msg import AnomalyHeatmap, ObstacleAlertArray, SemanticMask

from ..alerts import CameraModel, MonitorResult
from . import qos, visuals
from .conversions import image_message, on_host
from .health import Verdict
from .pointcloud import cloud_message, is_complete, obstacle_points

DENSE = {"semantic_mask": SemanticMask, "anomaly_heatmap": AnomalyHeatmap, "mask": Image, "mask_color": Image,
         "heatmap": Image, "overlay": Image, "markers": MarkerArray, "obstacles": PointCloud2}
RATED = ("overlay", "mask_color")   # for people's eyes: limited by `overlay_rate`


@dataclass(frozen=True)
class Look:
    """What the pictures need to know of the model and the user's taste."""

    table: np.ndarray        # uint8 [256,1,3], class colours
    model_id: str
    score: str
    threshold: float
    alpha: float
    rate: float              # Hz, 0: every frame
    marker_lifetime: float   # s


class Alerts:
    """A topic of alerts. Any thread; a leaf among the locks."""

    def __init__(self, node: Any, topic: str, heartbeat_period: float):
        self._publisher = node.create_publisher(ObstacleAlertArray, topic, qos.alerts(heartbeat_period))
        self._lock, self._sequence = threading.Lock(), 0

    def publish(self, make: Callable[[int], ObstacleAlertArray]) -> ObstacleAlertArray:
        """Publish and return `make(sequence)`; sequence numbers rise by one in the order of publication."""
        with self._lock:
            message = make(self._sequence)
            self._publisher.publish(message)
            self._sequence += 1
        return message


class Outputs:
    """Publishers of one camera; the dense ones are managed by the lifecycle: silent while inactive."""

    def __init__(self, node: LifecycleNode, camera: str, heartbeat_period: float):
        self._node, self._camera = node, camera
        self.alerts = Alerts(node, f"~/{camera}/alerts", heartbeat_period)
        self._dense: dict[str, Any] = {}
        self._shown = dict.fromkeys(RATED, float("-inf"))   # when each was last published

    def open(self) -> None:
        """Create the dense topics."""
        for name, kind in DENSE.items():
            topic = f"~/{self._camera}/{name}"
            self._dense[name] = self._node.create_lifecycle_publisher(kind, topic, qos.PICTURE)

    def close(self) -> None:
        """Remove the dense topics."""
        while self._dense:
            self._node.destroy_lifecycle_publisher(self._dense.popitem()[1])

    def publish(self, header: Header, rgb: Any, prediction: Any, result: MonitorResult,
                verdict: Verdict,
                camera: CameraModel | None, look: Look) -> None:
        """Publish what is listened to of one judged frame, all with the frame's own header. Never raises.

        Without calibration there are no markers and no cloud: an empty cloud would say that the way is free.
        Nor is there one that would leave something out (see `is_complete`): its readers must time out.
        """
        classes, anomaly, tracks = prediction.class_map, prediction.anomaly, result.alerts
        mask = functools.cache(lambda: image_message(classes, "mono8", header))
        heatmap = functools.cache(lambda: image_message(anomaly, "32FC1", header))
        if camera is not None:
            if is_complete(tracks, verdict):
                self._send("obstacles", look, lambda: cloud_message(obstacle_points(tracks, camera), header))
            self._send("markers", look, lambda: visuals.markers(tracks, camera, header, look.marker_lifetime))
        self._send("semantic_mask", look, lambda: SemanticMask(
            header=header, camera=self._camera, mask=mask(), model_id=look.model_id))
        self._send("mask", look, mask)
        self._send("anomaly_heatmap", look, lambda: AnomalyHeatmap(
            header=header, camera=self._camera, heatmap=heatmap(), score=look.score,
            threshold=look.threshold, model_id=look.model_id))
        self._send("heatmap", look, heatmap)
        self._send("mask_color", look, lambda: image_message(
            visuals.colored(classes, look.table), "rgb8", header))
        self._send("overlay", look, lambda: image_message(visuals.overlay(
            on_host(rgb), classes, anomaly, look.table, look.alpha, look.threshold, tracks, verdict.level,
            verdict.reasons, result.corridor), "rgb8", header))

    def _send(self, name: str, look: Look, make: Callable[[], Any]) -> None:
        """Publish `make()` if it is wanted. A failure is told and costs nothing else: the alert is out."""
        try:
            if name in self._dense and self._wanted(name, look.rate):
                self._dense[name].publish(make())
        except Exception as error:
            self._node.get_logger().warning(
                f"{self._camera}/{name} was not published: {type(error).__name__}: {error}",
                throttle_duration_sec=5.0)

    def _wanted(self, name: str, rate: float) -> bool:
        if self._dense[name].get_subscription_count() == 0:
            return False
        if name in RATED and rate > 0:
            now = time.monotonic()
            if now - self._shown[name] < 0.95 / rate:   # a little early is better than every second frame
                return False
            self._shown[name] = now
        return True
