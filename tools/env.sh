# Source this (bash) to use the environment that `make setup` made: `source tools/env.sh`.
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export VIRTUAL_ENV="$_root/.venv"
export PATH="$VIRTUAL_ENV/bin:$PATH"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
[ -f "$_root/ros2_ws/install/setup.bash" ] && source "$_root/ros2_ws/install/setup.bash"
# Fast DDS loses large images with its default transports. Kilted reads the first variable, Jazzy the second.
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$_root/ros2_ws/src/eomt_anomaly/config/fastdds_shm.xml}"
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$FASTDDS_DEFAULT_PROFILES_FILE}"
unset _root
