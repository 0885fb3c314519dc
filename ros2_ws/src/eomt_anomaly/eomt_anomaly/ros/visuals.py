# SPDX-License-Identifier: MIT
"""Pictures and markers for people: coloured masks, overlays, RViz markers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ..alerts import CameraModel, Level, Reason, Track
from ..report.lettering import put_text
from .pointcloud import ground_to_optical

LEVEL_COLOR = {Level.UNKNOWN: (150, 150, 150), Level.CLEAR: (40, 170, 70), Level.CAUTION: (240, 170, 0),
               Level.STOP: (220, 30, 40)}
CORRIDOR_COLOR = (90, 200, 255)
_HOT = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_HOT)[..., ::-1])   # [256,1,3] RGB


def palette(colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """A colour table uint8 [256,1,3] from class colours (r, g, b); ids without a class are black."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[:len(colors), 0] = np.asarray(colors, np.uint8).reshape(-1, 3)
    return table


def colored(class_map: np.ndarray, table: np.ndarray) -> np.ndarray:
    """uint8 [H,W] class ids → uint8 [H,W,3] RGB."""
    return cv2.applyColorMap(class_map, table)


def overlay(rgb: np.ndarray, class_map: np.ndarray, anomaly: np.ndarray, table: np.ndarray, alpha: float,
            threshold: float, tracks: Sequence[Track], level: Level, reasons: Reason,
            corridor: np.ndarray | None = None) -> np.ndarray:
    """The picture with class colours, a glow where the anomaly reaches the threshold, boxes, and the level.

    rgb uint8 [H,W,3], class_map uint8 [H,W], anomaly float32 [H,W] in [0,1), corridor bool [h,w] of a smaller
    copy, drawn as a line unless it is the whole picture → uint8 [H,W,3] RGB.
    """
    out = cv2.addWeighted(rgb, 1 - alpha, colored(class_map, table), alpha, 0)
    strength = cv2.convertScaleAbs(anomaly, alpha=255)                             # uint8 [H,W]
    glow = cv2.addWeighted(rgb, 0.3, cv2.applyColorMap(strength, _HOT), 0.7, 0)
    reached = cv2.compare(anomaly, threshold, cv2.CMP_GE)  # type: ignore[call-overload]  # stubs: no numbers
    cv2.copyTo(glow, reached, out)
    size = max(0.4, rgb.shape[0] / 900)                                            # of the letters
    thick = max(1, round(2 * size))
    if corridor is not None and not corridor.all():
        cv2.polylines(out, _outlines(corridor, rgb.shape[:2]), True, CORRIDOR_COLOR, thick)
    for track in tracks:
        x, y, width, height = (int(side) for side in track.box)
        color = LEVEL_COLOR[track.level]
        cv2.rectangle(out, (x, y), (x + width - 1, y + height - 1), color, thick)
        distance = "" if track.position is None else f" {track.distance_m:.0f} m"
        words = f"#{track.track_id} {track.confidence:.2f}{distance}"
        put_text(out, words, (x, max(y - 4, round(24 * size))), size, color)
    words = level.name if level == Level.CLEAR else f"{level.name}: {_words(reasons)}"
    cv2.rectangle(out, (0, 0), (out.shape[1], round(34 * size)), LEVEL_COLOR[level], cv2.FILLED)
    put_text(out, words, (8, round(24 * size)), size, (255, 255, 255))
    return out


def markers(tracks: Sequence[Track], camera: CameraModel | None, header: Header,
            lifetime_s: float) -> MarkerArray:
    """A sphere and a caption for each obstacle with a position; the first marker removes the last frame's."""
    array = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    for track in tracks:
        if camera is None or track.position is None:
            continue
        x, y, z = (float(value) for value in ground_to_optical(np.array([track.position]), camera)[0])
        r, g, b = (value / 255 for value in LEVEL_COLOR[track.level])
        for name, kind, lift, size in (("obstacle", Marker.SPHERE, 0.0, 0.6),
                                       ("caption", Marker.TEXT_VIEW_FACING, 0.8, 0.4)):
            marker = Marker(header=header, ns=name, id=track.track_id, type=kind, action=Marker.ADD)
            marker.pose.position = Point(x=x, y=y - lift, z=z)
            marker.pose.orientation.w = 1.0
            marker.scale.x = marker.scale.y = marker.scale.z = size
            marker.color = ColorRGBA(r=r, g=g, b=b, a=0.9)
            marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
            if kind == Marker.TEXT_VIEW_FACING:
                marker.text = f"{track.level.name} {track.distance_m:.1f} m"
            array.markers.append(marker)
    return array


def _outlines(mask: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """A mask's edges, bool [h,w], in pixels of a picture of `shape` (rows, columns): int32 [N,1,2] each."""
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.divide(shape, mask.shape)[::-1]                                     # columns, rows
    return [np.rint((edge + 0.5) * scale - 0.5).astype(np.int32) for edge in edges]


def _words(reasons: Reason) -> str:
    return ", ".join(name.lower().replace("_", " ") for name, reason in Reason.__members__.items()
                    if reason & reasons)
