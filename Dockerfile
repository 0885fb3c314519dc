# SPDX-License-Identifier: MIT
# ROS 2 Jazzy with the detector, RViz and bag tools.
#   docker build -t eomt_anomaly .                                                       torch for CPU
#   docker build -t eomt_anomaly --build-arg TORCH_INDEX=https://pypi.org/simple .       torch for CUDA
#   docker run --rm --net=host --ipc=host eomt_anomaly                                   the detector
#   docker run --rm --net=host --shm-size=512m eomt_anomaly ros2 launch eomt_anomaly replay.launch.py \
#     bag:=/workspace/bags/sample_drive rviz:=false
# With a GPU: docker run --gpus all ... . Pictures between containers or to the host need --ipc=host; inside one
# container --shm-size=512m is enough (Docker's 64 MB is not: pictures would be lost).
FROM ros:jazzy-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# apt's numpy and OpenCV: cv_bridge is built for these, not for pip's.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      python3-numpy \
      python3-opencv \
      python3-pip \
      python3-yaml \
      ros-jazzy-cv-bridge \
      ros-jazzy-launch-xml \
      ros-jazzy-rosbag2-storage-mcap \
      ros-jazzy-rviz2 \
      ros-jazzy-sensor-msgs-py \
      ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /workspace
COPY requirements requirements

# Into the system's Python, because apt's colcon gives executables `#!/usr/bin/python3`. numpy, OpenCV and PyYAML are
# apt's: pip is told their versions, so that it cannot replace them.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -c 'import numpy; print(f"numpy=={numpy.__version__}")' > /tmp/apt.txt \
    && grep -vE '^(numpy|opencv|PyYAML)' requirements/runtime.txt > /tmp/runtime.txt \
    && pip3 install -c /tmp/apt.txt --index-url "$TORCH_INDEX" -r requirements/torch.txt \
    && pip3 install -c /tmp/apt.txt -r /tmp/runtime.txt \
    && rm /tmp/apt.txt /tmp/runtime.txt

COPY launch launch
COPY rviz rviz
COPY bags bags
COPY ros2_ws/src ros2_ws/src
WORKDIR /workspace/ros2_ws
RUN . /opt/ros/jazzy/setup.bash \
    && colcon build --cmake-args -DBUILD_TESTING=OFF \
    && rm -rf build log
WORKDIR /workspace

# The frozen backbone, fetched once and verified by its hash.
ENV EOMT_BACKBONE_DIR=/opt/eomt_anomaly/backbone
RUN PYTHONPATH=ros2_ws/src/eomt_anomaly python3 -m eomt_anomaly.model.fetch_backbone --output "$EOMT_BACKBONE_DIR"

# Jazzy reads the second variable, later releases the first.
ENV FASTDDS_DEFAULT_PROFILES_FILE=/workspace/ros2_ws/install/eomt_anomaly/share/eomt_anomaly/config/fastdds_shm.xml
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/workspace/ros2_ws/install/eomt_anomaly/share/eomt_anomaly/config/fastdds_shm.xml

COPY docker/entrypoint.sh /entrypoint.sh
RUN useradd --create-home --uid 10001 robot
USER 10001
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "eomt_anomaly", "detector.launch.py"]
