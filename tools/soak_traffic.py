# SPDX-License-Identifier: MIT
"""The cameras and the readers of tools/soak.py: what is sent, and what comes back, counted."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from eomt_anomaly.ros.conversions import image_message
from eomt_anomaly.ros.recorder import DEEP
from eomt_anomaly_msgs.msg import ObstacleAlertArray

RELATED = {"overlay": Image, "mask": Image, "obstacles": PointCloud2}  # read from the last camera
CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
STEPS = 32  # pictures in a camera's loop


def names(cameras: int) -> list[str]:
    """The first camera sends JPEG; the last is calibrated, and its pictures are read."""
    return [f"camera{i}" for i in range(cameras)]


def parameters(cameras: int) -> dict[str, Any]:
    """What the detector must be told of them."""
    all_ = names(cameras)
    return {
        "cameras": all_,
        f"{all_[0]}.image_topic": f"{all_[0]}/image_raw/compressed",
        f"{all_[-1]}.height_m": 1.5,
    }


def moving_pictures(size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """A loop of uint8 [H,W,3]: a scene that moves sideways behind noise that is new in each."""
    width, height = size
    random = np.random.default_rng(seed)
    scene = cv2.resize(random.integers(0, 256, (6, 12, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    return [
        np.clip(np.roll(scene, i * width // STEPS, axis=1) + random.normal(0, 4, scene.shape), 0, 255).astype(
            np.uint8
        )
        for i in range(STEPS)
    ]


class Camera:
    """One publisher; `sent` counts its pictures."""

    def __init__(self, node: Node, name: str, size: tuple[int, int], jpeg: bool, calibrated: bool):
        self._node, self.name, self.sent, self.sending = node, name, 0, False
        header = Header(frame_id="optical")
        pictures = moving_pictures(size, seed=sum(name.encode()))
        if jpeg:
            self._message = CompressedImage(header=header, format="jpeg")
            self._loop = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
        else:
            self._message = image_message(pictures[0], "rgb8", header)
            self._loop = [image_message(picture, "rgb8", header).data for picture in pictures]
        topic = f"{name}/image_raw" + "/compressed" * jpeg
        self._publisher = node.create_publisher(type(self._message), topic, CAMERA_QOS)
        self._calibration = calibration(size) if calibrated else None
        self._info = node.create_publisher(CameraInfo, f"{name}/camera_info", CAMERA_QOS)

    def connected(self) -> bool:
        """Does the detector listen?"""
        return self._publisher.get_subscription_count() > 0

    def send(self) -> None:
        """The timer's: one picture, if the camera has joined."""
        if not self.sending:
            return
        self._message.header.stamp = self._node.get_clock().now().to_msg()
        self._message.data = self._loop[self.sent % STEPS]
        if self._calibration:
            self._calibration.header = self._message.header
            self._info.publish(self._calibration)
        self._publisher.publish(self._message)
        self.sent += 1


def calibration(size: tuple[int, int]) -> CameraInfo:
    """A camera that sees 90 degrees."""
    width, height = size
    f = width / 2
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [f, 0.0, width / 2, 0.0, f, height / 2, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [f, 0.0, width / 2, 0.0, 0.0, f, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


class Readers:
    """Subscribers to every camera's alerts, to the last one's pictures, and to /diagnostics.

    `alerts[name]`: messages on frames, heartbeats, and `gaps` (numbers missing in their sequence).
    `accounts[name]`: the node's own books; `heard`: when they last came, on time.monotonic().
    """

    def __init__(self, node: Node, cameras: list[str]):
        self.alerts = {name: {"frames": 0, "heartbeats": 0, "gaps": 0} for name in cameras}
        self.pictures = dict.fromkeys(RELATED, 0)
        self.accounts: dict[str, dict[str, int]] = {}
        self.heard = 0.0
        self._next: dict[str, int] = {}
        for name in cameras:
            node.create_subscription(ObstacleAlertArray, f"detector/{name}/alerts", self._on_alert, DEEP)
        for kind, message in RELATED.items():
            topic = f"detector/{cameras[-1]}/{kind}"
            node.create_subscription(message, topic, partial(self._on_picture, kind), DEEP, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @property
    def received(self) -> int:
        """Frames that the node has taken, of all cameras."""
        return sum(account["frames_in"] for account in self.accounts.values())

    @property
    def pending(self) -> int:
        """Frames that wait or are being judged."""
        return sum(account["frames_pending"] for account in self.accounts.values())

    def _on_alert(self, message: ObstacleAlertArray) -> None:
        counts = self.alerts[message.camera]
        counts["heartbeats" if message.heartbeat else "frames"] += 1
        counts["gaps"] += message.sequence - self._next.get(message.camera, message.sequence)
        self._next[message.camera] = message.sequence + 1

    def _on_picture(self, kind: str, _: bytes) -> None:
        self.pictures[kind] += 1

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {v.key: int(v.value) for v in status.values if v.key.startswith(("frames_", "dropped_"))}
            if values:
                self.accounts[status.name.rpartition(" ")[2]] = values
                self.heard = time.monotonic()
