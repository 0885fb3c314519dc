# SPDX-License-Identifier: MIT
"""What is known of a camera's lens and place: its last CameraInfo and the parameters of its mounting."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CameraInfo

from ..alerts import CameraModel

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem


class Calibration:
    """The model of the camera `name`, made anew from each CameraInfo on `topic`. Any thread."""

    def __init__(self, name: str, parameters: SupportsGetItem[str, Any], log: Any):
        self.topic = ""
        self._name, self._parameters, self._log = name, parameters, log
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """There is no CameraInfo."""
        with self._lock:
            self._info: CameraInfo | None = None
            self._model: CameraModel | None = None

    def hear(self, msg: CameraInfo) -> None:
        """A CameraInfo has come."""
        with self._lock:   # not compared with the last one: Jazzy's messages are equal where they are not
            self._info = msg
            self._make()

    def renew(self) -> None:
        """The parameters have changed."""
        with self._lock:
            self._make()

    def of(self, frame_id: str) -> tuple[CameraModel | None, str]:
        """The model for pictures of this frame, or None, and why there is none where a height is given."""
        with self._lock:
            info, model = self._info, self._model
        if info is None:
            wanted = self._parameters[f"{self._name}.height_m"] > 0
            return None, f"no positions: no CameraInfo has come on {self.topic}" if wanted else ""
        theirs = info.header.frame_id
        other = theirs and theirs.lstrip("/") != frame_id.lstrip("/")   # some drivers leave it empty
        if model is not None and other:
            why = (f"no positions: CameraInfo is of frame '{theirs}' and the pictures are of '{frame_id}': "
                   f"set {self._name}.camera_info_topic to this camera's, or correct the driver")
            self._log.warning(f"{self._name}: {why}", throttle_duration_sec=60.0)
            return None, why
        return model, ""

    def _make(self) -> None:
        height, pitch, rectified = (self._parameters[f"{self._name}.{key}"]
                                    for key in ("height_m", "pitch_deg", "rectified"))
        self._model = None if height <= 0 or self._info is None else CameraModel.from_camera_info(
            self._info, rectified=rectified, height_m=height, pitch_rad=math.radians(pitch))
