# SPDX-License-Identifier: MIT
"""Records a topic of alerts into a bag in a process of its own, as `ros2 bag record` does, until SIGTERM.

The wheels of `make setup` have no rosbag2; the messages are written as they came, by `rosbags`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from eomt_anomaly.ros.recorder import DEEP
from eomt_anomaly_msgs.msg import ObstacleAlertArray

TYPE = "eomt_anomaly_msgs/msg/ObstacleAlertArray"
DEFINITIONS = Path(__file__).resolve().parents[2] / "eomt_anomaly_msgs" / "msg"


@contextlib.contextmanager
def recording(bag, topic, domain):
    """Record while the context lasts; then the bag is closed. Yields a call: how much was heard so far."""
    heard = bag.with_suffix(".heard")
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    with heard.open("w") as out:
        process = subprocess.Popen([sys.executable, __file__, str(bag), topic], env=environment, stdout=out)
    try:
        yield lambda: heard.stat().st_size
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def main(bag, topic):
    types = get_typestore(Stores.ROS2_JAZZY)
    for name in ("ObstacleAlert", "ObstacleAlertArray"):
        text = (DEFINITIONS / f"{name}.msg").read_text()
        types.register(get_types_from_msg(text, f"eomt_anomaly_msgs/msg/{name}"))
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("bag_recorder", enable_rosout=False)
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(topic, TYPE, typestore=types)

        def record(data):
            writer.write(connection, time.time_ns(), data)
            print(end=".", flush=True)

        node.create_subscription(ObstacleAlertArray, topic, record, DEEP, raw=True)
        while not ended:
            rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
