# SPDX-License-Identifier: MIT
# The environment everything here runs in; for bash: `source tools/env.sh`, after `make setup`.
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ ! -x "$_root/.venv/bin/python" ] || [ ! -f "$_root/ros2_ws/install/setup.bash" ]; then
  echo "error: $_root is not set up yet; run: make setup" >&2
  unset _root
  return 1
fi
# Only this environment's ROS and Python: another's libraries do not fit its binaries.
unset PYTHONPATH PYTHONHOME COLCON_PREFIX_PATH ROS_DISTRO
_keep() { tr ':' '\n' <<<"$1" | grep -v '^/opt/ros/' | paste -sd:; }
export PATH="$_root/.venv/bin:$(_keep "$PATH")"
export LD_LIBRARY_PATH="$(_keep "${LD_LIBRARY_PATH:-}")"
export VIRTUAL_ENV="$_root/.venv" AMENT_PREFIX_PATH="$_root/.venv" CMAKE_PREFIX_PATH="$_root/.venv"
# colcon's script reads variables that are not set: not a fault, also for a caller who runs with `set -u`.
case $- in *u*) _strict=u ;; *) _strict= ;; esac
set +u
source "$_root/ros2_ws/install/setup.bash"
[ -n "$_strict" ] && set -u
# Child processes too find the sources first; training and the bag tools are not installed.
export PYTHONPATH="$_root/ros2_ws/src/eomt_anomaly:$_root/training:${PYTHONPATH:-}"
# Fast DDS loses large pictures with its default transports. (Jazzy's reads FASTRTPS_...; this one is newer.)
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$_root/ros2_ws/src/eomt_anomaly/config/fastdds_shm.xml}"
unset -f _keep
unset _root _strict
true
