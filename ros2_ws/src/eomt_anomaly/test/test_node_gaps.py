# SPDX-License-Identifier: MIT
"""Pictures that DDS lost are counted by their publisher's numbers, and nothing else is taken for lost."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from diagnostic_msgs.msg import DiagnosticArray
from node_rig import detector, picture

from eomt_anomaly.alerts import Level
from eomt_anomaly.ros.gaps import Gaps


@given(st.sets(st.integers(1, 2**40), min_size=1))
def test_of_one_publisher_what_came_and_what_was_lost_is_all_that_was_sent(came):
    gaps, numbers = Gaps(lambda: ["camera"]), sorted(came)
    lost = [gaps.before(number) for number in numbers]
    assert lost[0] == 0 and sum(lost) + len(numbers) == numbers[-1] - numbers[0] + 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 1000))))
def test_numbers_of_two_publishers_tell_nothing(messages):
    gaps = Gaps(lambda: "ab")
    assert not any(gaps.before(number) for _, number in messages)


def test_another_publisher_begins_another_count():
    publishers = ["a"]
    gaps = Gaps(lambda: publishers)
    assert [gaps.before(n) for n in (1, 2, 5)] == [0, 0, 2]
    publishers[:] = ["b"]
    assert [gaps.before(n) for n in (900, 901, 903, 1)] == [0, 0, 1, 0]      # it ran before it was heard
    assert [gaps.before(n) for n in (2, 4)] == [0, 1]                        # the same one, numbered anew


def test_a_middleware_without_numbers_counts_nothing():
    gaps = Gaps(lambda: ["camera"])
    assert [gaps.before(n) for n in (None, None, 3, None, 7)] == [0] * 5


def test_pictures_that_pass_while_the_process_stands_still_are_in_its_books():
    with detector(monitor__clear_frames=3) as (process, client, _):
        diagnostics, sent = client.listen("/diagnostics", DiagnosticArray), [0]

        def send():
            client.send(picture())
            sent[0] += 1

        def account():
            found = [status.values for message in diagnostics[-1:] for status in message.status
                     if status.name.endswith("front")]
            return {pair.key: int(pair.value) for pair in found[0] if pair.value.isdigit()} if found else None

        def settled():
            diagnostics.clear()
            return client.until(lambda: (found := account()) and not found["frames_pending"] and found)

        client.level(Level.CLEAR, meanwhile=send)
        before, already = settled(), sent[0]
        os.kill(process.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                send()
                client.spin(0.02)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        client.spin(0.5)
        send()      # a loss is noticed when the next picture comes
        client.spin(0.5)
        after = settled()
        assert sent[0] - already == after["frames_in"] - before["frames_in"] == 21
        assert after["dropped_transport"] - before.get("dropped_transport", 0) >= 10
        dropped = sum(count for key, count in after.items() if key.startswith("dropped_"))
        assert after["frames_in"] == after["frames_out"] + dropped
