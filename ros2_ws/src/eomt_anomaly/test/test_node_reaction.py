# SPDX-License-Identifier: MIT
"""The limits that the node computes from its parameters hold for all that it accepts, without DDS."""
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from alerts_scenes import scene
from hypothesis import example, given
from hypothesis import strategies as st
from rclpy.parameter import Parameter

from eomt_anomaly.alerts import Level, Monitor, Reason
from eomt_anomaly.ros.health import Health
from eomt_anomaly.ros.parameters import Parameters
from eomt_anomaly.ros.qos import MISSED_BEATS
from eomt_anomaly.ros.reaction import worst_case

IN_THE_WAY, BESIDE = (76, 70, 8, 6), (25, 60, 8, 6)


class Node:
    """What Parameters asks of its node."""

    def __init__(self, values):
        self._values, self._declared = values, {}

    def declare_parameter(self, name, default, descriptor):
        self._declared[name] = Parameter(name, value=self._values.get(name, default))
        return self._declared[name]

    def get_parameter(self, name):
        return self._declared[name]


def first_doubt(parameters, box, gaps, latency, phase):
    """Seconds to the first message that is not CLEAR, and to the last one before it, for an obstacle that
    appears right after a clean frame.

    gaps: seconds between the frames from then on, the last one for ever. latency: seconds from the stamp of a
    frame to its judgement. phase: when the first heartbeat comes. Transport and scheduling take no time.
    """
    monitor, health = Monitor(parameters.monitor((3,), 0.5)), Health()
    period, stale = 1.0 / parameters["heartbeat_rate"], parameters["stale_timeout"]

    def judge(stamp, *obstacles):
        result = monitor.update(*scene(*obstacles), stamp)
        health.arrival(stamp)
        health.judgement(stamp + latency, latency, result.level, result.reasons)
        return health.verdict(stamp + latency, stale).level
    clean = [judge(-0.01 * n) for n in range(parameters["monitor.clear_frames"] - 1, -1, -1)]
    assert clean[-1] == Level.CLEAR
    stamp, beats, said = 0.0, 0, latency
    for number in range(1000):
        stamp += gaps[min(number, len(gaps) - 1)]
        while (beat := phase + beats * period) < stamp + latency:
            if beat > latency:
                if health.verdict(beat, stale).level != Level.CLEAR:
                    return beat, said
                said = beat
            beats += 1
        if judge(stamp, box) != Level.CLEAR:
            return stamp + latency, said
        said = stamp + latency
    raise AssertionError("CLEAR for ever")


@given(stale=st.sampled_from([0.5, 1.0, 3.0, 30.0]), max_gap=st.sampled_from([0.2, 2.0]),
       clear_frames=st.integers(1, 3), caution_hits=st.integers(1, 3),
       box=st.sampled_from([IN_THE_WAY, BESIDE]), gaps=st.lists(st.floats(0.02, 4.0), min_size=1, max_size=8),
       late=st.floats(0, 0.9), phase=st.floats(0, 0.1))
@example(stale=3.0, max_gap=2.0, clear_frames=1, caution_hits=1, box=BESIDE, gaps=[2.5], late=0.1, phase=0)
@example(stale=1.0, max_gap=2.0, clear_frames=1, caution_hits=1, box=BESIDE, gaps=[0.99], late=0, phase=0)
@example(stale=1.0, max_gap=2.0, clear_frames=1, caution_hits=1, box=BESIDE, gaps=[1.1], late=0, phase=0)
def test_no_accepted_parameters_break_the_worst_case(stale, max_gap, clear_frames, caution_hits, box, gaps,
                                                     late, phase):
    parameters = Parameters(Node({
        "stale_timeout": stale, "monitor.max_gap_s": max_gap, "monitor.clear_frames": clear_frames,
        "monitor.caution_hits": caution_hits}))
    limits, where = worst_case(parameters), "" if box == IN_THE_WAY else "_beside"
    took, said = first_doubt(parameters, box, gaps, min(late * stale, min(gaps)), phase)
    assert took <= limits["not_clear" + where] + 1e-6
    missed = said + MISSED_BEATS / parameters["heartbeat_rate"]     # had the process died before it
    assert missed <= limits["lost" + where] + 1e-6


def test_a_stale_timeout_above_the_gap_is_accepted_and_safe_at_the_start_and_later():
    """`make demo` on a CPU has it; the Monitor, not a rule for parameters, keeps the promise."""
    parameters = Parameters(Node({"stale_timeout": 3.0, "monitor.max_gap_s": 2.0, "monitor.clear_frames": 1}))
    later = [Parameter("stale_timeout", value=10.0), Parameter("monitor.max_gap_s", value=0.5)]
    assert parameters.refusal(later, configured=True) == ""
    monitor = Monitor(parameters.monitor((3,), 0.5, {change.name: change.value for change in later}))
    results = [monitor.update(*scene(BESIDE), 0.6 * n) for n in range(20)]
    assert {(r.level, r.reasons) for r in results[1:]} == {(Level.UNKNOWN, Reason.TIME_JUMP)}
