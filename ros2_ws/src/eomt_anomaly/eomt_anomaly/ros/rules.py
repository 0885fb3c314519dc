# SPDX-License-Identifier: MIT
"""The rules in force: they follow the node's parameters and the engine that runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.node import Node

from eomt_anomaly_msgs.msg import ModelInfo

from . import qos
from .camera import Camera
from .engines import look, model_info, off_size, rules, too_high
from .parameters import Parameters
from .pipeline import Pipeline

# Parameters that make a new judgement necessary.
JUDGEMENT = ("threshold", "drivable_labels", "corridor.", "monitor.")


class Rules:
    """What cameras judge by, how pictures look, and ModelInfo. Any thread may call; `engine` is theirs."""

    def __init__(self, node: Node, parameters: Parameters, cameras: Mapping[str, Camera],
                 pipeline: Pipeline):
        self.engine: Any = None
        self._node, self._parameters, self._cameras, self._pipeline = node, parameters, cameras, pipeline
        self._model_info = node.create_publisher(ModelInfo, "~/model_info", qos.LATCHED)
        self._off_size = ""              # what was last said of a threshold for another size
        self._lock = threading.Lock()    # the executor's thread and the heartbeat's make rules

    def apply(self, engine: Any) -> None:
        """Judge anew, by the parameters in force and in the patches of this engine, and tell ModelInfo."""
        with self._lock:
            params = rules(engine, self._parameters)
            self._pipeline.look = look(engine, self._parameters)
            for camera in self._cameras.values():
                camera.restart(params)
            if warning := too_high(engine, params.threshold):
                self._node.get_logger().warning(warning)
            self._tell(engine)
            self.engine = engine

    def changed(self, engine: Any, names: Iterable[str]) -> None:
        """These parameters have new values."""
        if any(name.startswith(JUDGEMENT) for name in names):
            self.apply(engine)
            return
        with self._lock:
            self._pipeline.look = look(engine, self._parameters)

    def _tell(self, engine: Any) -> None:
        info = model_info(engine, self._parameters)
        info.header.stamp = self._node.get_clock().now().to_msg()
        self._model_info.publish(info)
        warning = off_size(engine, self._parameters["threshold"])
        if warning and (engine is not self.engine or warning != self._off_size):
            self._node.get_logger().warning(warning)
        self._off_size = warning
