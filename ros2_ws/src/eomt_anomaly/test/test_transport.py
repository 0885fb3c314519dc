# SPDX-License-Identifier: MIT
"""Fast DDS's profile: one name for the launch files, the tools and tools/env.sh."""

import os
import re
from pathlib import Path

import pytest

from eomt_anomaly.ros import transport
from eomt_anomaly.ros.processes import isolate

ENV_SH = Path(__file__).parents[4] / "tools" / "env.sh"
NEWER, OLDER = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.fixture
def environment(monkeypatch):
    """The process's environment without ROS's distribution and profiles; what a test does to it is undone."""
    found = {key: value for key, value in os.environ.items() if key not in (NEWER, OLDER, "ROS_DISTRO")}
    monkeypatch.setattr("os.environ", found)
    return found


@pytest.mark.parametrize("distro, name", [(None, NEWER), ("kilted", NEWER), ("jazzy", OLDER)])
def test_a_replay_of_its_own_domain_sets_the_profile_that_its_fast_dds_reads(environment, distro, name):
    """The newer ones warn of the older name in every process, and Jazzy's does not know the newer."""
    environment |= {"ROS_DISTRO": distro} if distro else {}
    assert isolate(7) == 7
    (found,) = [one for one in (NEWER, OLDER) if one in environment]
    assert found == name and Path(environment[name]).name == "fastdds_shm.xml"


def test_the_profile_that_the_user_has_set_stands(environment):
    environment[NEWER] = "/my/own.xml"
    assert transport.profile_environment() == {}


@pytest.mark.parametrize("prefix", [None, "/no/such/place"])
def test_without_an_installed_package_there_is_no_profile(environment, monkeypatch, tmp_path, prefix):
    pytest.importorskip("ament_index_python")
    environment.pop("AMENT_PREFIX_PATH", None)
    environment |= {"AMENT_PREFIX_PATH": prefix} if prefix else {}
    monkeypatch.setattr(transport, "__file__", str(tmp_path / "eomt_anomaly" / "ros" / "transport.py"))
    assert transport.profile_environment() == {}


def test_env_sh_sets_the_same_name(environment):
    """It unsets ROS_DISTRO and uses the wheels that make setup installs, which are newer than Jazzy."""
    if not ENV_SH.is_file():
        pytest.skip("tools/env.sh is not beside the workspace")
    assert re.findall(r"export (\w+_PROFILES_FILE)=", ENV_SH.read_text()) == [transport.profile_name()]
