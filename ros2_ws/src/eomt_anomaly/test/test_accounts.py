# SPDX-License-Identifier: MIT
"""The books of a replayed run: each published picture has one fate; books that cannot be ours are refused."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from eomt_anomaly.ros.accounts import ReplayError, _dropped
from eomt_anomaly.ros.recorder import Counters

BEFORE = Counters(0.0, 10, 10, 0, {})
FRAMES = [SimpleNamespace(judged=i < 60) for i in range(100)]


def dropped(came, **counted):
    return _dropped("front", FRAMES, BEFORE, Counters(1.0, 10 + came, 70, 0, counted))


def test_what_the_node_saw_lost_and_what_came_after_its_last_picture_were_both_lost_in_transport():
    assert dropped(97, overwritten=30, transport=7) == {"overwritten": 30, "transport": 10}
    assert dropped(100, overwritten=40) == {"overwritten": 40}


@pytest.mark.parametrize("counts", [{"overwritten": 45}, {"overwritten": 30, "transport": 15}])
def test_more_pictures_than_were_published_are_somebody_elses(counts):
    with pytest.raises(ReplayError, match="something else"):
        dropped(105, **counts)
