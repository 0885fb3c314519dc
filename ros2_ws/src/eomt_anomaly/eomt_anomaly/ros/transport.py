# SPDX-License-Identifier: MIT
"""Fast DDS's profile for pictures, under the name that the installed version reads."""

from __future__ import annotations

import os
from pathlib import Path

OLDER = ("humble", "jazzy")   # their Fast DDS reads the older name alone; later ones warn of it


def profile_name() -> str:
    """The environment variable that names the profile's file."""
    return f"FAST{'RTPS' if os.environ.get('ROS_DISTRO') in OLDER else 'DDS'}_DEFAULT_PROFILES_FILE"


def profile_environment() -> dict[str, str]:
    """The variable to set, with its value, so that pictures above half a megabyte are not lost.

    Empty where the user has set it, and where there is no profile: neither in the source tree nor installed.
    """
    name = profile_name()
    profile = None if name in os.environ else _profile()
    return {} if profile is None else {name: str(profile)}


def _profile() -> Path | None:
    """config/fastdds_shm.xml, in the source tree or installed, or None."""
    places = [Path(__file__).resolve().parents[2]]
    try:
        from ament_index_python.packages import get_package_share_directory

        places.append(Path(get_package_share_directory("eomt_anomaly")))
    except (ImportError, LookupError, OSError):   # no ROS, another workspace, no AMENT_PREFIX_PATH
        pass
    return next((p for place in places if (p := place / "config" / "fastdds_shm.xml").is_file()), None)
