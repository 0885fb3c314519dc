# SPDX-License-Identifier: MIT
"""Writes camera bags (rosbag2, mcap or sqlite3) with `rosbags`: no ROS installation is needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FOREVER = QosTime(sec=9223372036, nsec=854775807)


def _qos(latched: bool) -> Qos:
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        durability,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class BagWriter:
    """One camera's bag, as a context manager. `path` is the bag's folder; with `overwrite` an older bag
    there is replaced, otherwise its presence is an error. All stamps are integer nanoseconds."""

    def __init__(self, path: str | Path, storage: str = "mcap", overwrite: bool = False):
        self.path = Path(path)
        if storage not in STORAGE:
            raise ValueError(f"storage {storage!r} is not one of {', '.join(STORAGE)}")
        if self.path.exists():
            if not (overwrite and (self.path / "metadata.yaml").is_file()):
                raise FileExistsError(
                    f"{self.path} exists already: choose another output"
                    + (" (it is no bag, so it is not replaced)" if overwrite else " or pass --overwrite")
                )
            shutil.rmtree(self.path)
        self.types = get_typestore(Stores.ROS2_JAZZY)  # its hashes equal Kilted's for these messages
        self.writer = Writer(self.path, version=9, storage_plugin=STORAGE[storage])
        self.connections: dict = {}

    def __enter__(self) -> BagWriter:
        self.writer.open()
        return self

    def __exit__(self, error, *_) -> None:
        self.writer.close()
        if error is not None:  # half a bag is no bag
            shutil.rmtree(self.path)

    def make(self, name: str, **fields):
        """A message, e.g. make("std_msgs/msg/Header", stamp=..., frame_id=...)."""
        return self.types.types[name](**fields)

    def write(self, topic: str, message, stamp_ns: int, latched: bool = False) -> None:
        name = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(
                topic, name, typestore=self.types, offered_qos_profiles=[_qos(latched)]
            )
        self.writer.write(self.connections[topic], stamp_ns, self.types.serialize_cdr(message, name))

    def header(self, stamp_ns: int, frame: str):
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def compressed(
        self, topic: str, image: np.ndarray, stamp_ns: int, frame: str, kind: str = "jpeg", quality: int = 90
    ) -> None:
        """rgb uint8 [H,W,3] as jpeg, or mono uint8 [H,W] as png (lossless)."""
        if kind == "jpeg":
            ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        else:
            ok, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if not ok:
            raise ValueError(f"could not encode a {image.shape} {image.dtype} image as {kind}")
        self.write(
            topic,
            self.make(
                "sensor_msgs/msg/CompressedImage",
                header=self.header(stamp_ns, frame),
                format=kind,
                data=data.ravel(),
            ),
            stamp_ns,
        )

    def raw(self, topic: str, image: np.ndarray, stamp_ns: int, frame: str) -> None:
        """rgb uint8 [H,W,3] as rgb8, or mono uint8 [H,W] as mono8."""
        h, w = image.shape[:2]
        self.write(
            topic,
            self.make(
                "sensor_msgs/msg/Image",
                header=self.header(stamp_ns, frame),
                height=h,
                width=w,
                encoding="rgb8" if image.ndim == 3 else "mono8",
                is_bigendian=0,
                step=image.strides[0],
                data=np.ascontiguousarray(image).ravel(),
            ),
            stamp_ns,
        )

    def camera_info(
        self,
        topic: str,
        K: np.ndarray,
        size: tuple[int, int],
        stamp_ns: int,
        frame: str,
        D: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0),
        model: str = "plumb_bob",
    ) -> None:
        """CameraInfo of a camera with matrix K [3,3] (pixels), size (width, height) and distortion D."""
        K = np.asarray(K, np.float64)
        roi = self.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        self.write(
            topic,
            self.make(
                "sensor_msgs/msg/CameraInfo",
                header=self.header(stamp_ns, frame),
                height=size[1],
                width=size[0],
                distortion_model=model,
                d=np.asarray(D, np.float64),
                k=K.ravel(),
                r=np.eye(3).ravel(),
                p=np.c_[K, np.zeros(3)].ravel(),
                binning_x=0,
                binning_y=0,
                roi=roi,
            ),
            stamp_ns,
        )

    def static_camera(
        self, parent: str, child: str, height_m: float, pitch_rad: float, stamp_ns: int
    ) -> None:
        """Latched /tf_static: `child` is an optical frame (x right, y down, z forward) `height_m` above
        `parent` (x forward, y left, z up, on the ground), looking forward and `pitch_rad` down."""
        # A rotation about the parent's y axis, after the optical axes' fixed turn (-.5, .5, -.5, .5).
        c, s = np.cos(pitch_rad / 2) / 2, np.sin(pitch_rad / 2) / 2
        rotation = self.make("geometry_msgs/msg/Quaternion", x=-c - s, y=c + s, z=s - c, w=c - s)
        at = self.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=float(height_m))
        moved = self.make(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            transform=self.make("geometry_msgs/msg/Transform", translation=at, rotation=rotation),
        )
        self.write(
            "/tf_static", self.make("tf2_msgs/msg/TFMessage", transforms=[moved]), stamp_ns, latched=True
        )
