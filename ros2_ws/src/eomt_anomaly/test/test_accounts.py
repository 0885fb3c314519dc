# SPDX-License-Identifier: MIT
"""The books of a replayed run: each published picture has one fate; books that cannot be ours are refused."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from bag_fixtures import TYPES, compressed_image, scene

from eomt_anomaly.ros.accounts import ReplayError, _dropped, recording_of
from eomt_anomaly.ros.bag_io import COMPRESSED, Record
from eomt_anomaly.ros.player import Sent
from eomt_anomaly.ros.recorder import Arrival, Counters
from eomt_anomaly_msgs.msg import ModelInfo, ObstacleAlertArray

BEFORE = Counters(0.0, 10, 10, 0, {})
FRAMES = [SimpleNamespace(judged=i < 60) for i in range(100)]


def dropped(came, **counted):
    return _dropped("front", FRAMES, BEFORE, Counters(1.0, 10 + came, 70, 0, counted))


def test_what_the_node_saw_lost_and_what_came_after_its_last_picture_were_both_lost_in_transport():
    assert dropped(97, overwritten=30, transport=7) == {"overwritten": 30, "transport": 10}
    assert dropped(100, overwritten=40) == {"overwritten": 40}


def test_two_pictures_recorded_at_the_same_moment_share_no_alert():
    """The node refuses the second one, whose stamp is not later: it is no other publisher's."""
    picture = TYPES.serialize_cdr(compressed_image(scene(0, (16, 12))[0], ".png", 5), COMPRESSED)
    sent = [Sent(Record("/a", COMPRESSED, 7, picture), 0.0, 0.001 * i, stamp_ns=9) for i in range(2)]
    alert = ObstacleAlertArray()
    alert.header.stamp.nanosec = 9
    recorder = SimpleNamespace(camera="front", arrivals=[Arrival(alert, 100.5, 0.5)], model=ModelInfo(),
                               picture=dict.get)
    after = Counters(1.0, 12, 11, 0, {"invalid": 1})
    recording = recording_of(recorder, sent, 100.0, BEFORE, after)
    assert [frame.judged for frame in recording.frames] == [True, False]
    assert recording.dropped == {"invalid": 1}


@pytest.mark.parametrize("counts", [{"overwritten": 45}, {"overwritten": 30, "transport": 15}])
def test_more_pictures_than_were_published_are_somebody_elses(counts):
    with pytest.raises(ReplayError, match="something else"):
        dropped(105, **counts)
