# SPDX-License-Identifier: MIT
"""Obstacles as points for costmaps and collision monitors, in the camera's optical frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from ..alerts import CameraModel, Reason, Track
from .conversions import byte_array
from .health import Verdict

HEIGHTS_M = (0.0, 0.25, 0.5)   # each ground point stands as a small post, for layers that ignore the floor
SPACING_PX = 4                 # along an obstacle's lower edge
FIELDS = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
          for i, name in enumerate(("x", "y", "z", "score"))]


def ground_to_optical(points: np.ndarray, camera: CameraModel) -> np.ndarray:
    """[N,3] m from base (x forward, y left, z up) to optical frame (x right, y down, z ahead)."""
    forward, left, up = np.asarray(points, dtype=float).reshape(-1, 3).T
    below = camera.height_m - up
    cosine, sine = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    return np.stack([-left, below * cosine - forward * sine, forward * cosine + below * sine], axis=1)


def is_complete(tracks: Sequence[Track], verdict: Verdict) -> bool:
    """Whether a cloud of these alerts would show all that they know of, and so may be sent.

    Not where the level is UNKNOWN, where a frame that bears on it could not be judged (its reasons say more
    than that there is an obstacle), or where an obstacle has no position: readers must time out.
    """
    doubts = verdict.reasons & ~(Reason.OBSTACLE | Reason.OBSTACLE_IN_CORRIDOR)
    return bool(verdict.level) and not doubts and all(track.position is not None for track in tracks)


def obstacle_points(tracks: Sequence[Track], camera: CameraModel) -> np.ndarray:
    """float32 [N,4]: x, y, z in metres (optical frame) and the peak score along each obstacle's lower edge.

    Only obstacles with a position take part; the edge lies on the ground beside the contact point.
    """
    posts = [np.zeros((0, 4))]
    for track in tracks:
        if track.position is None:
            continue
        x, _, width, _ = track.box
        columns = np.append(np.arange(x, x + width, SPACING_PX), x + width - 1)
        edge = np.stack([columns, np.full(len(columns), track.contact[1])], axis=1)      # [P,2] u, v
        ground = camera.ground_points(edge)                                              # [P,3]
        ground = ground[np.isfinite(ground).all(axis=1)]
        for height in HEIGHTS_M:
            points = ground_to_optical(ground + (0.0, 0.0, height), camera)
            posts.append(np.c_[points, np.full(len(points), track.peak_score)])          # [P,4]
    return np.concatenate(posts).astype(np.float32)


def cloud_message(points: np.ndarray, header: Header) -> PointCloud2:
    """An unordered cloud of `points` float32 [N,4]."""
    points = np.ascontiguousarray(points, dtype="<f4")
    return PointCloud2(header=header, height=1, width=len(points), fields=FIELDS, is_bigendian=False,
                       point_step=16, row_step=16 * len(points), data=byte_array(points), is_dense=True)
