# SPDX-License-Identifier: MIT
"""What an anomaly means: maps in, alerts out. Needs numpy and OpenCV only; rules in docs/alerts.md."""
from .corridor import Corridor
from .ground_plane import CameraModel
from .levels import Level, LevelMachine, Reason
from .monitor import Monitor, MonitorResult
from .params import RANGES, MonitorParams, Reaction
from .regions import Region
from .tracks import Track

__all__ = [
    "RANGES", "CameraModel", "Corridor", "Level", "LevelMachine", "Monitor", "MonitorParams", "MonitorResult",
    "Reaction", "Reason", "Region", "Track",
]
