# SPDX-License-Identifier: MIT
"""The program `detector`: the node, its signals, and how its process ends."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from .engines import make_engine
from .fallback import EngineSettings
from .node import Detector
from .shared_memory import remove_orphans

EXIT_BAD_PARAMETER = 2


def main(args: list[str] | None = None, make_engine: Callable[[EngineSettings], Any] = make_engine) -> int:
    """Run the node until SIGINT or SIGTERM (status 0).

    Status 2: bad parameters or arguments, or a parameter file that cannot be read; 70: the worker or the
    executor hangs, or the worker died; 1: all Python hangs.
    """
    # Signals are handled here, so that the last UNKNOWN is published while the ROS context still lives.
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    freed = remove_orphans()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:   # RCLError, UnknownROSArgsError
        why = re.sub(r", at /\S+:\d+", "", str(error))      # where in rcl's source
        print(f"detector: {why}; correct what follows --ros-args, or the parameter file", file=sys.stderr)
        return EXIT_BAD_PARAMETER
    try:
        node = Detector(make_engine, stopping)
    except (ValueError, InvalidParameterTypeException, InvalidParameterValueException) as error:
        print(f"detector: {error}", file=sys.stderr)
        rclpy.shutdown()
        return EXIT_BAD_PARAMETER
    if freed:
        node.get_logger().info(f"{freed >> 20} MB of shared memory that killed processes left were freed")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if node.parameters["autostart"]:
        node.autostart.begin()
    while not stopping.is_set():
        if (wait := node.autostart.step()) is not None and not stopping.is_set():
            node.get_logger().warning(f"autostart: next attempt in {wait:g} s")
        executor.spin_once(timeout_sec=0.1)   # Python runs signal handlers between waits
    executor.remove_node(node)
    node.destroy_node()
    rclpy.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)   # all is done; torch takes seconds to unload on a busy computer, and launch kills after five


if __name__ == "__main__":
    sys.exit(main())
