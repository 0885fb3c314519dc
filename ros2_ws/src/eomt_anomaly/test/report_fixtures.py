# SPDX-License-Identifier: MIT
"""A generated recording of a replay, without any ROS."""

from __future__ import annotations

import numpy as np
from bag_fixtures import scene

from eomt_anomaly.report.recording import CAUTION, CLEAR, STOP, Box, Frame, LevelChange, Recording

SIZE = (112, 84)
NAMES = ["sky", "building", "pole", "road"]
COLORS = [(70, 130, 180), (70, 70, 70), (153, 153, 153), (128, 64, 128)]


def make_recording(
    frames: int = 20, first: int = 5, every: int = 2
) -> tuple[Recording, dict[int, np.ndarray]]:
    """A detector that judges every `every`-th frame, 80 ms late, perfectly; and the ground truth."""
    made, levels, truth = [], [LevelChange(0.01, 0, 1)], {}
    for index in range(frames):
        picture, labels = scene(index, SIZE, first)
        truth[index] = labels
        frame = Frame(index, index * 10**8, index / 10, index / 10 + 0.001)
        if index % every == 0:
            rows, columns = np.nonzero(labels == 254)
            box = (
                ()
                if not rows.size
                else (
                    Box(
                        1,
                        int(columns.min()),
                        int(rows.min()),
                        int(np.ptp(columns)) + 1,
                        int(np.ptp(rows)) + 1,
                        STOP,
                        0.9,
                        12.5,
                    ),
                )
            )
            frame.received_s, frame.age_s, frame.node_latency_s = index / 10 + 0.081, 0.083, 0.07
            frame.level, frame.boxes = (CAUTION if box else CLEAR), box
            pictures = {
                "overlay": picture,
                "mask": np.where(labels > 3, 3, labels).astype(np.uint8),
                "heatmap": np.where(labels == 254, 0.9, 0.1).astype(np.float32),
            }
            frame.maps = pictures.get
            levels.append(LevelChange(frame.received_s, frame.level, 2048 if box else 0))
        made.append(frame)
    info = {
        "device": "cpu",
        "precision": "fp32",
        "model_id": "tiny",
        "score": "eomt_ext",
        "topic": "/camera",
        "checkpoint_sha256": "0" * 64,
        "bag_sha256": "1" * 64,
        "bag": "bag",
        "rate": 1.0,
        "versions": {"python": "3"},
        "host": {"cpu": "<some & cpu>", "cores": 2},
        "camera": "front",
    }
    recording = Recording(
        made,
        levels,
        {"overwritten": sum(not f.judged for f in made)},
        frames / 10 + 0.1,
        info,
        NAMES,
        COLORS,
        [3],
        0.5,
        ["A note with <angle> brackets."],
    )
    return recording, truth
