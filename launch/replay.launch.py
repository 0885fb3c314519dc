# SPDX-License-Identifier: MIT
"""Replays a bag through the detector, with RViz: `ros2 launch eomt_anomaly replay.launch.py bag:=PATH`.

The bag starts when the detector is active, and everything ends with it. The arguments of detector.launch.py
may be given too.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetLaunchConfiguration,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.event_handlers import OnStateTransition

from eomt_anomaly.ros.launch_helpers import bag_mounting, bag_remaps, full_name, is_true, parse_cameras

SHARE = Path(get_package_share_directory("eomt_anomaly"))
ARGUMENTS = (
    ("bag", None, "rosbag2 folder, or an .mcap or .db3 file"),
    ("cameras", "front=/camera/front/image_raw/compressed",
     "as in detector.launch.py; the topics are the bag's"),
    ("mounting", "", "as in detector.launch.py; empty: from the bag's /tf_static where it has one"),
    ("rate", "1.0", "times the recorded speed"),
    ("loop", "false", "true: begin again at the end"),
    ("rviz", "true", "true: open RViz"),
    ("respawn", "false", "true: start the detector again when it dies"),
)


def play(context):
    """The bag's player and what the bag says of the cameras, now that the arguments are known."""
    from eomt_anomaly.ros.bag_io import Bag  # needs rosbags, which --show-args does not

    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    cameras = parse_cameras(given["cameras"])
    with Bag(given["bag"]) as bag:
        mounting, remaps = bag_mounting(bag, cameras, given["mounting"]), bag_remaps(bag, cameras)
    options = ["--clock", "--rate", given["rate"]] + ["--loop"] * is_true(given, "loop")
    detector = full_name(LaunchConfiguration("namespace", default="").perform(context))
    options += ["--exclude-topics", f"{detector}/", "/diagnostics"]   # what was said then is not said now
    options += ["--remap", *(f"{recorded}:={name}" for recorded, name in remaps.items())] if remaps else []
    played = ",".join(f"{name}={remaps.get(topic, topic)}" for name, topic in cameras.items())
    player = Node(package="eomt_anomaly", executable="bag_player", name="bag_player", output="screen",
                  arguments=[given["bag"], *options])
    done = OnProcessExit(target_action=player,
                         on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
    ready = OnStateTransition(goal_state="active", entities=[player], handle_once=True)
    return [RegisterEventHandler(done), RegisterEventHandler(ready),
            SetLaunchConfiguration("mounting", mounting), SetLaunchConfiguration("cameras", played)]


def generate_launch_description():
    """Declare the arguments, prepare the player, and include the detector on the bag's clock."""
    shared = {name: LaunchConfiguration(name) for name in ("cameras", "mounting", "rviz", "respawn")}
    detector = PythonLaunchDescriptionSource(str(SHARE / "launch" / "detector.launch.py"))
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=meaning) for name, default,
          meaning in ARGUMENTS),
        OpaqueFunction(function=play),
        IncludeLaunchDescription(detector, launch_arguments={**shared, "use_sim_time": "true"}.items()),
    ])
