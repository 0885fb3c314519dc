#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs a command in the environment of ROS 2 and of this workspace.
set -e
source /opt/ros/jazzy/setup.bash
source /workspace/ros2_ws/install/setup.bash
exec "$@"
