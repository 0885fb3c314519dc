# SPDX-License-Identifier: MIT
"""The label pictures of a bag, and where its camera sits, as far as the bag says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..report.recording import Frame
from .bag_io import COMPRESSED, Bag, BagError, Topic, stamp_of


class Labels(Mapping):
    """Frame.index → label picture uint8 [H,W], decoded when asked for; by equal stamps."""

    def __init__(self, bag: Bag, topic: Topic, frames: Sequence[Frame]):
        index_of = {frame.source_ns: frame.index for frame in frames}
        self._bag, self._topic = bag, topic
        self._records = {
            index_of[stamp]: record
            for record in bag.records([topic.name])
            if (stamp := stamp_of(record.data)) in index_of
        }

    def __getitem__(self, index: int) -> np.ndarray:
        record = self._records[index]
        message = self._bag.deserialize(record)
        if record.msgtype == COMPRESSED:
            labels = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_UNCHANGED)
        elif message.encoding in ("mono8", "8UC1"):
            labels = np.asarray(message.data).reshape(message.height, message.step)[:, : message.width]
        else:
            raise BagError(f"{self._topic.name} has encoding {message.encoding!r}: labels must be mono8")
        if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
            raise BagError(
                f"{self._topic.name}: a label picture cannot be decoded as 8-bit grey (PNG, mono8)"
            )
        return labels

    def __iter__(self) -> Iterator[int]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def mounting(bag: Bag, image_topic: Topic) -> tuple[float, float] | None:
    """(height m, pitch rad downwards) of this camera over the root frame of /tf_static, or None.

    The root of the tree (base_link, base_footprint) is taken to lie on the ground.
    """
    if "/tf_static" not in bag.topics:
        return None
    first = next(bag.records([image_topic.name]), None)
    parents: dict[str, tuple[str, Any]] = {}
    for record in bag.records(["/tf_static"]):
        for item in bag.deserialize(record).transforms:
            parents[item.child_frame_id] = item.header.frame_id, item.transform
    frame = bag.deserialize(first).header.frame_id if first else ""
    if frame not in parents:
        return None
    origin, axis = np.zeros(3), np.array([0.0, 0.0, 1.0])  # optical frame: z looks ahead
    for _ in range(len(parents)):
        frame, transform = parents[frame]
        turn, shift = _rotation(transform.rotation), transform.translation
        origin, axis = turn @ origin + (shift.x, shift.y, shift.z), turn @ axis
        if frame not in parents:
            return float(origin[2]), math.asin(float(np.clip(-axis[2], -1.0, 1.0)))
    raise BagError(f"/tf_static of {bag.path} has a cycle at frame {frame}: record it again")


def _rotation(q: Any) -> np.ndarray:
    """The [3,3] matrix of a unit quaternion."""
    x, y, z, w = np.array([q.x, q.y, q.z, q.w]) / max(math.hypot(q.x, q.y, q.z, q.w), 1e-12)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
