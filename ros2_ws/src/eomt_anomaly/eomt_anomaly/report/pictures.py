# SPDX-License-Identifier: MIT
"""Pictures for the report: colours, boxes, and the choice of telling moments."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from .lettering import put_text
from .quality import ANOMALY, obstacles, overlaps
from .recording import CAUTION, LEVELS, Box, Frame

LEVEL_COLORS = ((120, 124, 130), (46, 125, 50), (239, 139, 0), (211, 47, 47))  # RGB, by level


def colored_heatmap(heatmap: np.ndarray) -> np.ndarray:
    """float32 [H,W] in [0, 1] → uint8 [H,W,3] RGB (turbo: blue is familiar, red is anomalous)."""
    scaled = (np.clip(heatmap, 0.0, 1.0) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def with_boxes(picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """A copy of an RGB picture with the alerts' boxes in the colour of their level."""
    picture = picture.copy()
    thick = max(1, round(picture.shape[0] / 180))
    for box in boxes:
        color = LEVEL_COLORS[min(box.level, 3)]
        cv2.rectangle(picture, (box.x, box.y), (box.x + box.width, box.y + box.height), color, thick)
        words = LEVELS[min(box.level, 3)] + ("" if box.distance_m is None else f" {box.distance_m:.0f} m")
        put_text(picture, words, (box.x, max(box.y - 5, 10)), 0.0014 * picture.shape[0], (255, 255, 255))
    return picture


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture scaled to fit into [height, width], centred on black."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def data_uri(picture: np.ndarray, width: int = 640, quality: int = 85) -> str:
    """An RGB picture as a JPEG inside a data: address, at most `width` px wide."""
    if picture.shape[1] > width:
        picture = fitted(picture, width, round(picture.shape[0] * width / picture.shape[1]))
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError("OpenCV cannot write JPEG: install a build of OpenCV with JPEG support")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def moments(
    frames: Sequence[Frame], labels_of: Mapping[int, np.ndarray], drivable_ids: Sequence[int]
) -> list[tuple[str, Frame]]:
    """Up to six captioned frames that tell most, failures included: (caption, judged frame)."""
    shown = [f for f in frames if f.judged and f.maps("overlay") is not None]
    shown = [f for f in shown if f.maps("heatmap") is not None] or shown
    alerted = [f for f in shown if f.level >= CAUTION and f.boxes]
    quiet = [f for f in shown if not f.boxes]
    due = {id(f): obstacles(labels_of[f.index], drivable_ids) for f in shown if f.index in labels_of}
    missed = [
        f for f in shown if due.get(id(f)) and not any(overlaps(o, b) for o in due[id(f)] for b in f.boxes)
    ]
    false = [f for f in alerted if id(f) in due and not (labels_of[f.index] == ANOMALY).any()]
    picks: list[tuple[str, Frame]] = []

    def pick(caption: str, candidates: Sequence[Frame], key=lambda frame: frame.sent_s) -> None:
        chosen = [f for f in candidates if all(f is not taken for _, taken in picks)]
        if chosen:
            picks.append((caption, min(chosen, key=key)))

    pick("The first alert", alerted)
    pick("The largest obstacle alerted", alerted, lambda f: -max(b.width * b.height for b in f.boxes))
    pick("The most confident alert", alerted, lambda f: -max(b.confidence for b in f.boxes))
    pick(
        "A miss: an obstacle on the road without an alert on it",
        missed,
        lambda f: -max(o.area_px for o in due[id(f)]),
    )
    pick("A false alert: the ground truth has no obstacle here", false)
    pick(
        "A frame without alerts",
        [f for f in quiet if all(f is not m for m in missed)],
        lambda f: abs(f.sent_s - frames[len(frames) // 2].sent_s),
    )
    return picks
