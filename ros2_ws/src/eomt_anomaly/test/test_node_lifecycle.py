# SPDX-License-Identifier: MIT
"""Transitions that are not possible now, with the rclpy of every supported release."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from eomt_anomaly.ros.node import Detector, RCLError

CHANGE = "_LifecycleNodeMixin__change_state"   # what the service ~/change_state and trigger_... call


def test_a_transition_that_jazzy_raises_for_is_refused(monkeypatch):
    """Its rclpy lets rcl's error out of the service's callback, and so out of spin_once (rclpy#1209)."""
    def jazzy(self, transition_id):
        raise RCLError("Transition is not registered.")

    assert hasattr(LifecycleNode, CHANGE)
    said = []
    monkeypatch.setattr(LifecycleNode, CHANGE, jazzy)
    monkeypatch.setattr(Detector, "get_logger", lambda self: SimpleNamespace(error=said.append))
    assert Detector.__new__(Detector).trigger_activate() == TransitionCallbackReturn.ERROR
    assert "transition 3 is not possible now: Transition is not registered." in said[0]
