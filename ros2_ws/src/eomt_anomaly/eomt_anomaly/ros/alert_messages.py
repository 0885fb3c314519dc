# SPDX-License-Identifier: MIT
"""Tracks and levels as messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from eomt_anomaly_msgs.msg import ObstacleAlert, ObstacleAlertArray

from ..alerts import CameraModel, Track
from .health import Verdict
from .pointcloud import ground_to_optical

NEVER = Duration(sec=-1)   # an age that does not exist yet


def duration(seconds: float | None) -> Duration:
    """Seconds as a message; None is `NEVER`, and what is below zero (clocks a little apart) is zero."""
    if seconds is None:
        return NEVER
    whole, part = divmod(round(max(seconds, 0.0) * 1e9), 1_000_000_000)
    return Duration(sec=min(whole, 2**31 - 1), nanosec=part)


def alert(track: Track, camera: CameraModel | None, frame_id: str) -> ObstacleAlert:
    """One obstacle; its position is given in the picture's own (optical) frame."""
    x, y, width, height = (int(side) for side in track.box)
    msg = ObstacleAlert(
        track_id=track.track_id, level=int(track.level), confidence=float(track.confidence),
        box=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height), area_px=int(track.area_px),
        mean_score=float(track.mean_score), peak_score=float(track.peak_score),
        distance_m=float(track.distance_m),
        age=duration(track.age_s), frames_seen=track.frames_seen, in_corridor=bool(track.in_corridor))
    if camera is not None and track.position is not None:
        right, down, ahead = ground_to_optical(np.array([track.position]), camera)[0]
        msg.position = Point(x=float(right), y=float(down), z=float(ahead))
        msg.position_valid, msg.position_frame = True, frame_id
        msg.position_source = ObstacleAlert.POSITION_GROUND_PLANE
    return msg


def alert_array(header: Header, camera: str, verdict: Verdict, alerts: Sequence[ObstacleAlert], *,
                sequence: int,
                model_id: str, heartbeat: bool, input_age: float | None, latency: float | None,
                inference_age: float | None) -> ObstacleAlertArray:
    """What one camera says now. Ages and the latency are in seconds, None where there is none."""
    return ObstacleAlertArray(
        header=header, camera=camera, level=int(verdict.level), reasons=int(verdict.reasons),
        input_age=duration(input_age), latency=duration(latency), inference_age=duration(inference_age),
        sequence=sequence, heartbeat=heartbeat, model_id=model_id, alerts=list(alerts))
