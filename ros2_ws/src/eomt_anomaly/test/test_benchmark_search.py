# SPDX-License-Identifier: MIT
"""The search finds the capacity of simulated systems, in few probes, also where one probe is disturbed."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from eomt_anomaly.ros.benchmark.search import search  # noqa: E402

RATES = st.floats(0.5, 200.0)
quick = settings(max_examples=100, deadline=None)


def newest_only(service_s, hz, frames=400):
    """Share of the frames that a worker with one slot for the newest frame never gets to."""
    free, waiting, judged = 0.0, None, 0
    for index in range(frames):
        now = index / hz
        while waiting is not None and free <= now:
            free, waiting, judged = max(free, waiting) + service_s, None, judged + 1
        waiting = now
    return 1 - (judged + 1) / frames


@quick
@given(capacity=RATES, start=RATES)
def test_the_limit_lies_between_the_two_rates(capacity, start):
    found = search(lambda hz: (hz <= capacity, hz), start, most=30, tolerance=0.05)
    assert found.converged
    assert found.sustained <= capacity < found.failed <= found.sustained * 1.05
    assert all(held == (hz <= capacity) and hz == what for hz, held, what in found.probes)
    assert (
        len(found.probes) <= 3 + abs(capacity / start > 1) + 8 + 9
    )  # doublings over a range of 400, then halves


@quick
@given(service=st.floats(0.005, 2.0), wrong=st.floats(0.2, 5.0))
def test_it_finds_what_a_node_with_one_slot_a_camera_can_do(service, wrong):
    found = search(
        lambda hz: (newest_only(service, hz) <= 0.01, None),
        wrong / service,
        most=25,
        tolerance=0.03,
        highest=1e4,
    )
    assert found.converged
    assert 0.97 < found.sustained * service < 1.04  # 1 % may be lost, so a little more than 1 / service holds


@quick
@given(capacity=RATES, disturbed=st.integers(0, 8))
def test_one_disturbed_probe_does_not_set_the_limit(capacity, disturbed):
    count = -1

    def probe(hz):
        nonlocal count
        count += 1
        return hz <= capacity and count != disturbed, None

    found = search(probe, min(2.2 * capacity, 999.0), most=40, tolerance=0.05)
    assert found.converged and found.sustained <= capacity < found.failed <= found.sustained * 1.05


@quick
@given(capacity=RATES, start=RATES, most=st.integers(1, 6))
def test_it_never_takes_more_probes_than_allowed_and_claims_no_more_than_it_saw(capacity, start, most):
    found = search(lambda hz: (hz <= capacity, None), start, most=most)
    assert len(found.probes) <= 17  # 9 doublings or halvings over a range of 400, 5 bisections, and again


def test_the_ends_of_the_range_end_the_search():
    assert search(lambda hz: (True, None), 4, highest=100).sustained == 100
    nothing = search(lambda hz: (False, None), 4, lowest=0.5, most=50)
    assert (nothing.sustained, nothing.failed, len(nothing.probes)) == (None, 0.5, 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"start": 0}, "start is 0"),
        ({"start": 2000}, "2000 Hz"),
        ({"tolerance": 0}, "tolerance"),
        ({"most": 0}, "most"),
    ],
)
def test_impossible_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        search(lambda hz: (True, None), **({"start": 1} | arguments))
