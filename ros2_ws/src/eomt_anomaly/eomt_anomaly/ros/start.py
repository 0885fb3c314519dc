# SPDX-License-Identifier: MIT
"""What a replay needs to know, and a detector started for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bag_cameras import Camera
from .bag_io import RAW
from .processes import Child, write_parameters


@dataclass
class Settings:
    """What to replay and how. `parameters` go to the detector; `pictures` are recorded beside the alerts."""

    bag: Path
    output: Path  # folder for the detector's log and parameters
    cameras: tuple[Camera, ...]
    rate: float = 1.0
    start_offset_s: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    attach: bool = False  # to a running detector, in the ROS domain of the environment
    detector: str = "/detector"
    startup_s: float = 180.0
    drain_s: float = 60.0
    domain_id: int | None = None
    module: str = "eomt_anomaly.ros.detector"  # what is started


def start_detector(settings: Settings) -> Child:
    """A detector of its own process that listens to the replayed pictures and their CameraInfo."""
    parameters: dict[str, Any] = {"cameras": [camera.name for camera in settings.cameras]}
    for camera in settings.cameras:
        parameters[f"{camera.name}.image_topic"] = camera.published_as
        parameters[f"{camera.name}.transport"] = "raw" if camera.topic.msgtype == RAW else "compressed"
        if camera.info:
            parameters[f"{camera.name}.camera_info_topic"] = camera.info.name
    parameters |= settings.parameters
    file = settings.output / "detector.yaml"
    write_parameters(file, parameters)
    namespace, _, name = settings.detector.rpartition("/")
    remaps = ["-r", f"__node:={name}", "-r", f"__ns:={namespace or '/'}"]
    arguments = ["--ros-args", *remaps, "--params-file", str(file)]
    return Child(settings.module, arguments, settings.output / "detector.log")
