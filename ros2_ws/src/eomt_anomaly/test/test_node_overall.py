# SPDX-License-Identifier: MIT
"""One level for the whole robot: CLEAR needs every camera, and one that sees an obstacle is heard at once."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from builtin_interfaces.msg import Duration, Time
from node_rig import detector, picture

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.health import Verdict
from eomt_anomaly.ros.overall import Overall, together
from eomt_anomaly_msgs.msg import ObstacleAlertArray

UNKNOWN, CLEAR, CAUTION, STOP = Level
WHY = {UNKNOWN: Reason.STALE_INPUT, CLEAR: Reason.NONE, CAUTION: Reason.OBSTACLE,
       STOP: Reason.OBSTACLE_IN_CORRIDOR}
ALL = "/detector/alerts"


@given(st.lists(st.sampled_from(Level), min_size=1))
def test_it_is_the_worst_level_with_every_reason(levels):
    whole = together(Verdict(level, WHY[level]) for level in levels)
    assert (whole.level == CLEAR) == (set(levels) == {CLEAR}) == (whole.reasons == Reason.NONE)
    assert (whole.level == STOP) == (STOP in levels)
    assert (whole.level == CAUTION) == (CAUTION in levels and not {STOP, UNKNOWN} & set(levels))
    assert all(WHY[level] in whole.reasons for level in levels)


def heard(beats=10.0):
    """An Overall of two cameras, and what it published."""
    box = []
    clock = SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Time(sec=99)))
    node = SimpleNamespace(parameters={"heartbeat_rate": beats}, get_clock=lambda: clock,
                           create_publisher=lambda *_: SimpleNamespace(publish=box.append))
    return Overall(node, ["front", "rear"]), box


def says(camera, level, stamp=5, age=0):
    message = ObstacleAlertArray(camera=camera, level=level, reasons=int(WHY[Level(level)]), model_id="m")
    message.header.stamp.sec, message.input_age = stamp, Duration(sec=age)
    return message


def test_a_camera_that_has_not_spoken_or_falls_silent_is_unknown():
    overall, box = heard(beats=100.0)
    overall.beat()
    overall.hear(says("front", CLEAR))
    assert [(m.level, m.reasons, m.header.stamp.sec) for m in box] == [(UNKNOWN, Reason.NO_INPUT, 99)]
    overall.hear(says("rear", CLEAR, stamp=3, age=2))
    assert (box[-1].level, box[-1].heartbeat, box[-1].camera, box[-1].model_id) == (CLEAR, False, "", "m")
    assert box[-1].header.stamp.sec == 3 and box[-1].input_age.sec == 2, "of the older picture"
    time.sleep(0.06)      # more than five beats
    overall.hear(says("rear", CLEAR))
    assert (box[-1].level, box[-1].reasons) == (UNKNOWN, Reason.STALE_INPUT)
    assert box[-1].input_age.sec == 0 and box[-1].input_age.nanosec > 0.06e9, "it grows while nobody speaks"
    overall.beat()
    assert [m.sequence for m in box] == [0, 1, 2, 3] and box[-1].heartbeat


def test_there_is_no_age_while_a_camera_has_none():
    overall, box = heard()
    overall.hear(says("front", CLEAR, age=2))
    overall.hear(says("rear", UNKNOWN, age=-1))      # it has judged nothing yet
    assert box[-1].level == UNKNOWN and box[-1].input_age.sec == -1


def test_only_what_changes_is_told_between_the_beats():
    overall, box = heard(beats=0.1)
    for level in (CLEAR, CLEAR, STOP, STOP, CAUTION):
        overall.hear(says("front", level))
        overall.hear(says("rear", CLEAR))
    assert [m.level for m in box] == [UNKNOWN, CLEAR, STOP, CAUTION]


def test_two_cameras_of_a_running_node_are_one_level():
    with detector(cameras="[front, rear]", monitor__clear_frames=3) as (_, client, _):
        box = client.listen(ALL)
        client.level(UNKNOWN, topic=ALL, reasons=Reason.NO_INPUT, meanwhile=lambda: client.send(picture()))

        def both(obstacle=False):
            client.send(picture(), "/front/image_raw")
            client.send(picture(obstacle), "/rear/image_raw")

        client.level(CLEAR, topic=ALL, meanwhile=both)
        client.level(STOP, topic=ALL, reasons=Reason.OBSTACLE, meanwhile=lambda: both(obstacle=True))
        client.level(CLEAR, topic=ALL, meanwhile=both)
        client.level(UNKNOWN, topic=ALL, reasons=Reason.STALE_INPUT, meanwhile=lambda: client.send(picture()))
        assert [m.sequence for m in box] == list(range(box[0].sequence, box[0].sequence + len(box)))
        assert not any(m.alerts for m in box) and {m.camera for m in box} == {""}
