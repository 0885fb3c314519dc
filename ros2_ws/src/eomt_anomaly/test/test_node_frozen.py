# SPDX-License-Identifier: MIT
"""A camera that sends one picture for ever is not CLEAR, however new its stamps are."""

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from diagnostic_msgs.msg import DiagnosticArray
from node_rig import detector, picture

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.frozen import STRIDE, Unchanged
from eomt_anomaly.ros.parameters import all_specs


@given(st.lists(st.integers(0, 1), min_size=1))
def test_time_runs_from_the_first_of_the_equal_pictures(kinds):
    unchanged, first = Unchanged(), 0
    for now, kind in enumerate(kinds):
        first = now if now and kind != kinds[now - 1] else first
        assert unchanged.seconds(array.array("B", [kind] * 9), float(now)) == now - first


@pytest.mark.parametrize("where", [0, 1, STRIDE, -1])
def test_one_bit_or_one_byte_more_is_another_picture(where):
    unchanged, data = Unchanged(), np.zeros(3 * STRIDE, np.uint8)
    other = data.copy()
    other[where] = 1
    pictures = data, data, other, other, other[:-1]
    assert [unchanged.seconds(one.tobytes(), now) for now, one in enumerate(pictures)] == [0, 1, 0, 1, 0]


def test_a_camera_that_hangs_is_unknown_until_its_pictures_change():
    with detector(monitor__clear_frames=3, frozen_timeout=0.5) as (_, client, _):
        diagnostics, sent = client.listen("/diagnostics", DiagnosticArray), [0]

        def send(changing=True):
            image = picture()
            sent[0] += changing
            image[-1, -1, 2] = sent[0] % 256
            client.send(image)

        client.level(Level.CLEAR, meanwhile=send)
        client.level(Level.UNKNOWN, reasons=Reason.STALE_INPUT, meanwhile=lambda: send(changing=False))
        client.until(lambda: any("set frozen_timeout to 0.0" in status.message for message in diagnostics
                                 for status in message.status), meanwhile=lambda: send(changing=False))
        client.level(Level.CLEAR, meanwhile=send)


def test_it_is_on_unless_switched_off():
    assert all_specs(["front"])["frozen_timeout"].default == 2.0
    with detector(monitor__clear_frames=3) as (_, client, _):      # 0 here
        client.level(Level.CLEAR, meanwhile=lambda: client.send(picture()))
        box = client.messages["/detector/front/alerts"]
        seen = len(box)
        end = client.node.get_clock().now().nanoseconds + 3e9
        client.until(lambda: client.node.get_clock().now().nanoseconds > end,
                     meanwhile=lambda: client.send(picture()))
        assert {message.level for message in box[seen:]} == {Level.CLEAR}
