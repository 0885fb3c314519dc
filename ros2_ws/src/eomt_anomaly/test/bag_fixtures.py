# SPDX-License-Identifier: MIT
"""Small generated recordings: a grey road under a sky, and a red box that enters it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_typestore

START_NS = 1_700_000_000_000_000_000
TYPES = get_typestore(Stores.ROS2_JAZZY)
IMAGE, LABELS, INFO = "/camera/front/image_raw", "/camera/front/ground_truth", "/camera/front/camera_info"
SKY, ROAD, ANOMALY, VOID = 0, 3, 254, 255


def scene(
    index: int, size: tuple[int, int], first: int = 5, road: int = ROAD
) -> tuple[np.ndarray, np.ndarray]:
    """RGB picture uint8 [H,W,3] and labels uint8 [H,W]; the box is there from frame `first` on."""
    width, height = size
    labels = np.full((height, width), SKY, np.uint8)
    labels[height // 2 :] = road
    labels[-2:] = VOID
    if index >= first:
        side, left = height // 6, (width // 4 + 2 * index) % (width - height // 6)
        labels[height * 5 // 8 : height * 5 // 8 + side, left : left + side] = ANOMALY
    colors = np.zeros((256, 3), np.uint8)
    colors[[SKY, road, ANOMALY]] = (150, 180, 230), (90, 90, 95), (220, 30, 30)
    noise = np.random.default_rng(index).integers(0, 12, (height, width, 3), np.uint8)
    return colors[labels] + noise, labels


def header(stamp_ns: int, frame_id: str = "camera_front_optical"):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def raw_image(pixels: np.ndarray, encoding: str, stamp_ns: int):
    step = pixels.strides[0]
    return TYPES.types["sensor_msgs/msg/Image"](
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=step,
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def compressed_image(pixels: np.ndarray, suffix: str, stamp_ns: int):
    ok, data = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert ok
    return TYPES.types["sensor_msgs/msg/CompressedImage"](
        header=header(stamp_ns), format=suffix[1:], data=data.reshape(-1)
    )


def camera_info(size: tuple[int, int], stamp_ns: int):
    width, height = size
    focal = float(width)
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1])
    roi = TYPES.types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return TYPES.types["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).reshape(-1),
        p=np.hstack([k.reshape(3, 3), np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def make_bag(
    path: Path,
    frames: int = 12,
    rate: float = 10.0,
    size: tuple[int, int] = (112, 84),
    *,
    storage: str = "mcap",
    compression: str = "",
    compressed: bool = False,
    labels: bool = True,
    label_size: tuple[int, int] | None = None,
    info: bool = True,
    images: tuple[str, ...] = (IMAGE,),
    every: dict[str, int] | None = None,
    first: int = 5,
    road: int = ROAD,
    damaged: tuple[int, ...] = (),
    trick: int = 0,
) -> Path:
    """Write a recording and return its folder.

    `compression`: "", "file" or "message"; `label_size`: width and height of the labels, where they are not
    the pictures'; `images`: the topics, compressed where the name ends so; `every`: of which only every n-th
    frame is there; `damaged`: frames whose JPEG is cut in half;
    `trick`: how the rig's engine shall misbehave, see `node_rig.FakeEngine`.
    """
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        pictures = [
            writer.add_connection(
                topic,
                f"sensor_msgs/msg/{'Compressed' if compressed or topic.endswith('/compressed') else ''}Image",
                typestore=TYPES,
            )
            for topic in images
        ]
        truth = (
            writer.add_connection(LABELS, "sensor_msgs/msg/CompressedImage", typestore=TYPES)
            if labels
            else None
        )
        infos = writer.add_connection(INFO, "sensor_msgs/msg/CameraInfo", typestore=TYPES) if info else None
        text = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=TYPES)
        for index in range(frames):
            stamp = START_NS + round(index * 1e9 / rate)
            pixels, mask = scene(index, size, first, road)
            if trick:
                pixels[0, 0] = trick

            def put(connection, message, now=stamp):
                writer.write(connection, now, TYPES.serialize_cdr(message, connection.msgtype))

            if infos:
                put(infos, camera_info(size, stamp))
            for connection in pictures:
                if index % (every or {}).get(connection.topic, 1):
                    continue
                is_jpeg = connection.msgtype.endswith("CompressedImage")
                picture = (
                    compressed_image(pixels, ".jpg", stamp) if is_jpeg else raw_image(pixels, "rgb8", stamp)
                )
                if is_jpeg and index in damaged:
                    picture.data = picture.data[: picture.data.size // 2]
                put(connection, picture)
            if label_size:
                mask = cv2.resize(mask, label_size, interpolation=cv2.INTER_NEAREST)
            if truth:
                put(truth, compressed_image(mask, ".png", stamp))
            put(text, TYPES.types["std_msgs/msg/String"](data=f"frame {index}"))
    return path
