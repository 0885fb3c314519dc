# SPDX-License-Identifier: MIT
# ROS 2 Jazzy with the detector, RViz and bag tools.
#   docker build -t eomt_anomaly .                                                       torch for CPU
#   docker build -t eomt_anomaly --build-arg TORCH_INDEX=https://pypi.org/simple .       torch for CUDA
#   docker run --rm --net=host --ipc=host --user "$(id -u):$(id -g)" eomt_anomaly        the detector
# Append a command to run another: ros2 launch eomt_anomaly replay.launch.py bag:=/workspace/bags/sample_drive rviz:=false
# With a GPU add --gpus all (and build with torch for CUDA); with RViz add -e DISPLAY -v /tmp/.X11-unix:/tmp/.X11-unix, and let
# the user in on the host: xhost +si:localuser:$USER. Bags, parameter files and checkpoints of your own: -v DIR:/mine:ro.
# Why these options: with --net=host Fast DDS takes container and host for one machine and sends pictures through
# shared memory. That reaches the host's nodes only with --ipc=host, and only if both sides run as the same user.
FROM ros:jazzy-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# numpy and OpenCV are apt's, because cv_bridge is built for these. The node asks cv_bridge for encodings that it does
# not know itself; vision_msgs and sensor_msgs_py are here for those who use its messages.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      python3-numpy \
      python3-opencv \
      python3-venv \
      python3-yaml \
      ros-jazzy-cv-bridge \
      ros-jazzy-rosbag2-storage-mcap \
      ros-jazzy-rviz2 \
      ros-jazzy-sensor-msgs-py \
      ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /workspace
COPY requirements requirements

# torch wants a newer setuptools than apt's, and pip cannot replace what apt installed: so an environment of its own that sees
# apt's packages. pip is told apt's numpy, so that it brings no other, and a setuptools that colcon can work with.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV VENV=/opt/venv PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --system-site-packages "$VENV" \
    && python3 -c 'import numpy; print(f"numpy=={numpy.__version__}")' > /tmp/keep.txt \
    && grep '^setuptools==' requirements/constraints.txt >> /tmp/keep.txt \
    && grep -vE '^(numpy|opencv|PyYAML)' requirements/runtime.txt > /tmp/runtime.txt \
    && "$VENV/bin/pip" install --no-deps --index-url "$TORCH_INDEX" -r requirements/torch.txt \
    && "$VENV/bin/pip" install -c /tmp/keep.txt -r requirements/torch.txt -r /tmp/runtime.txt \
    && rm /tmp/keep.txt /tmp/runtime.txt

COPY LICENSE LICENSE
COPY launch launch
COPY rviz rviz
COPY bags bags
COPY ros2_ws/src ros2_ws/src
# Executables get the interpreter that builds them: the messages have none, the node's must see torch.
WORKDIR /workspace/ros2_ws
RUN . /opt/ros/jazzy/setup.bash \
    && colcon build --packages-select eomt_anomaly_msgs --cmake-args -DBUILD_TESTING=OFF \
    && . install/setup.bash \
    && "$VENV/bin/python3" "$(command -v colcon)" build --packages-select eomt_anomaly \
    && rm -rf build log
WORKDIR /workspace

# The frozen backbone, fetched once and verified by its hash; readable for every user.
ENV EOMT_BACKBONE_DIR=/opt/eomt_anomaly/backbone
RUN PYTHONPATH=ros2_ws/src/eomt_anomaly "$VENV/bin/python3" -m eomt_anomaly.model.fetch_backbone \
      --output "$EOMT_BACKBONE_DIR" \
    && chmod -R a+rX "$EOMT_BACKBONE_DIR"

# Jazzy reads the second variable, later releases the first.
ENV FASTDDS_DEFAULT_PROFILES_FILE=/workspace/ros2_ws/install/eomt_anomaly/share/eomt_anomaly/config/fastdds_shm.xml
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/workspace/ros2_ws/install/eomt_anomaly/share/eomt_anomaly/config/fastdds_shm.xml

# A user named with --user has no home here: logs and caches go where anybody may write.
ENV HOME=/tmp USER=robot ROS_LOG_DIR=/tmp/ros_log
COPY docker/entrypoint.sh /entrypoint.sh
RUN useradd --no-create-home --home-dir /tmp --uid 10001 robot
USER 10001
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "eomt_anomaly", "detector.launch.py"]
