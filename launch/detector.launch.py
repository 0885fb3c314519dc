# SPDX-License-Identifier: MIT
"""Starts the detector, and RViz if asked: `ros2 launch eomt_anomaly detector.launch.py --show-args`."""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from eomt_anomaly.ros.launch_helpers import (
    CAMERA,
    file_value,
    full_name,
    is_true,
    node_parameters,
    parameter_file,
    parse_cameras,
    render_rviz,
)
from eomt_anomaly.ros.transport import profile_environment

SHARE = Path(get_package_share_directory("eomt_anomaly"))
ARGUMENTS = (
    ("cameras", "", "NAME or NAME=TOPIC, comma separated (a topic ending in /compressed is compressed); "
     "empty: what params_file says, or front"),
    ("mounting", "", "NAME=HEIGHT or NAME=HEIGHT/PITCH, comma separated: m above the ground and degrees that "
     "the camera looks down, for positions; empty: what params_file says"),
    ("checkpoint", "", "checkpoint folder; empty: what params_file says, or the one inside the package"),
    ("backbone", "", "file or folder of the frozen backbone; empty: as in params_file, or the usual places"),
    ("device", "", "auto, cpu, cuda, cuda:0, …; empty: what params_file says"),
    ("backend", "", "torch; onnxruntime, openvino or auto for a checkpoint that training/export.py wrote; "
     "empty: what params_file says, or torch"),
    ("short_side", "", "px, to which pictures are scaled for the network (short side): smaller is faster and "
     "sees less far; 0: the checkpoint's; empty: what params_file says"),
    ("params_file", str(SHARE / "config" / "detector.yaml"), "YAML file of the node's parameters"),
    ("rviz", "false", "true: open RViz on the first camera and the others"),
    ("use_sim_time", "", "true: take the time from /clock, as bags are played with; empty: what params_file "
     "says, or false"),
    ("namespace", "", "namespace of the node and of relative topics"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("respawn", "true", "true: start the detector again when it dies or ends with an error"),
)


def start(context):
    """The actions, now that the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    actions = [SetEnvironmentVariable(name, file) for name, file in profile_environment().items()]
    overrides, params_file = node_parameters(given), parameter_file(given)
    detector = LifecycleNode(
        package="eomt_anomaly", executable="detector", name="detector", namespace=given["namespace"],
        parameters=[params_file, *([overrides] if overrides else [])],
        ros_arguments=["--log-level", given["log_level"]], output="screen", emulate_tty=True,
        respawn=is_true(given, "respawn"), respawn_delay=2.0)
    # launch starts again whatever has ended; a detector that was asked to end (status 0) stays so.
    at_rest = OnProcessExit(target_action=detector, on_exit=lambda event, _: None if event.returncode else [
        EmitEvent(event=ShutdownProcess(process_matcher=matches_action(detector)))])
    actions += [RegisterEventHandler(at_rest), detector]
    if is_true(given, "rviz"):
        file, node = Path(params_file).read_text(encoding="utf-8"), full_name(given["namespace"])
        shown = list(parse_cameras(given["cameras"])) or file_value(file, node, "cameras", [CAMERA])
        clock = overrides.get("use_sim_time", file_value(file, node, "use_sim_time", False))
        text = render_rviz((SHARE / "rviz" / "detector.rviz").read_text(), given["namespace"], shown)
        with tempfile.NamedTemporaryFile("w", prefix="detector_", suffix=".rviz", delete=False) as config:
            config.write(text)
        actions.append(Node(package="rviz2", executable="rviz2", name="rviz2", arguments=["-d", config.name],
                            parameters=[{"use_sim_time": clock}], output="log"))
    return actions


def generate_launch_description():
    """Declare the arguments; `start` does the rest."""
    return LaunchDescription([DeclareLaunchArgument(name, default_value=default, description=meaning)
                              for name, default, meaning in ARGUMENTS] + [OpaqueFunction(function=start)])
