# SPDX-License-Identifier: MIT
"""Parameters that cannot be are refused with their name, at the start and later. Live: test_node_live.py."""
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.parameter import Parameter
from test_node_reaction import Node

from eomt_anomaly.ros.parameters import Parameters


@pytest.mark.parametrize("name", ["front.image_topic", "front.camera_info_topic"])
def test_a_topic_that_is_no_name_is_refused_with_the_parameter_and_the_place(name):
    with pytest.raises(ValueError, match=rf"{name}: .*must not contain(.|\n)*'/cam/image raw'"):
        Parameters(Node({name: "/cam/image raw"}))
    parameters = Parameters(Node({name: "/cam/image/"}))      # the last slash is left out
    assert parameters.refusal([Parameter(name, value="/1st/image")], configured=False).startswith(f"{name}: ")
    empty = parameters.refusal([Parameter(name, value="")], configured=False)
    assert ("must not be empty" in empty) == (name == "front.image_topic")   # the other is beside it then
