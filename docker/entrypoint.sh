#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs a command in the environment of ROS 2 and of this workspace.
set -e
source /opt/ros/jazzy/setup.bash
source /workspace/ros2_ws/install/setup.bash
# apt's ros2 runs apt's Python, and replay.launch.py reads bags with what only the virtual environment has.
if [ "${1:-}" = ros2 ]; then
  shift
  set -- "$VENV/bin/python3" "$(command -v ros2)" "$@"
fi
exec "$@"
