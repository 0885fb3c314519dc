# SPDX-License-Identifier: MIT
"""Hangs, signals, kills and failed starts of the detector's process, and how late its alerts are at worst."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from alert_bag import recording
from bag_tools import children_of
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_rig import detector, picture
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import LivelinessPolicy, QoSProfile
from std_msgs.msg import Header

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.autostart import FIRST_S, LONGEST_S, Autostart
from eomt_anomaly.ros.bag_io import Bag
from eomt_anomaly.ros.parameters import all_specs
from eomt_anomaly.ros.qos import MISSED_BEATS
from eomt_anomaly.ros.reaction import worst_case
from eomt_anomaly.ros.recorder import DEEP
from eomt_anomaly_msgs.msg import ObstacleAlertArray

UNKNOWN, CLEAR, CAUTION, STOP = Level
ALERTS = "/detector/front/alerts"
QUICK = {"monitor__clear_frames": 3}
SCHEDULING_S = 0.3   # three heartbeats: what a busy machine may keep the heartbeat or this reader waiting
DEFAULTS = {name: spec.default for name, spec in all_specs(["front"]).items()}


def clear(client):
    return client.level(CLEAR, meanwhile=lambda: client.send(picture()))


def shared_memory(pid):
    """The segments of Fast DDS that a process has mapped now. (Ports are shared.)"""
    return set(re.findall(r"/dev/shm/fast\w+_[0-9a-f]{16}\b", Path(f"/proc/{pid}/maps").read_text()))


# ---- hangs ----


def test_a_hung_build_is_unknown_and_then_the_process_ends_with_an_error():
    with detector(checkpoint="slow", build_timeout=3.0) as (process, client, log):
        client.level(UNKNOWN, reasons=Reason.WARMING_UP)
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 70 and "build_timeout" in log.read_text()
        assert {message.level for message in client.messages[ALERTS]} == {UNKNOWN}


def test_a_hung_rebuild_is_unknown_and_then_the_process_ends_with_an_error():
    with detector(checkpoint="rebuild", build_timeout=3.0, **QUICK) as (process, client, log):
        clear(client)
        client.send(picture(trick=4))      # memory runs out: a smaller engine is built
        client.level(UNKNOWN, reasons=Reason.WARMING_UP)
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 70 and "build_timeout" in log.read_text()


def test_native_code_that_keeps_pythons_lock_ends_the_process():
    with detector(worker_timeout=3.0, **QUICK) as (process, client, log):
        clear(client)
        client.send(picture(trick=6))
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 1 and "Timeout" in log.read_text() and "_one" in log.read_text()


def test_a_dead_worker_thread_ends_the_process():
    with detector(**QUICK) as (process, client, log):
        clear(client)
        client.send(picture(trick=7))
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 70 and "thread has died" in log.read_text()


def test_a_hung_worker_that_is_cleaned_up_still_ends_the_process_and_gets_no_second_engine():
    with detector(stall_timeout=0.3, worker_timeout=8.0, **QUICK) as (process, client, log):
        clear(client)
        client.send(picture(trick=2))
        client.level(UNKNOWN, reasons=Reason.STALLED_WORKER)

        def ask(transition):
            return client.call(ChangeState, "/detector/change_state", transition=Transition(id=transition))
        assert ask(Transition.TRANSITION_DEACTIVATE).success
        assert not ask(Transition.TRANSITION_CLEANUP).success and "left behind" in log.read_text()
        assert not ask(Transition.TRANSITION_CONFIGURE).success
        assert "still busy with its engine" in log.read_text() and process.poll() is None
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 70 and "inference has hung" in log.read_text()


def test_a_hung_executor_ends_the_process(tmp_path):
    mask = tmp_path / "mask.png"
    os.mkfifo(mask)                       # reading it never ends, as on a file system that is gone
    with detector(worker_timeout=3.0, front__ignore_mask=mask) as (process, client, log):
        client.until(lambda: process.poll() is not None)
        assert process.returncode == 70 and "the executor has hung" in log.read_text()
        assert {message.level for message in client.messages.get(ALERTS, [])} <= {UNKNOWN}


def test_neither_simulated_time_that_stands_still_nor_a_long_build_is_a_hung_executor():
    with detector(worker_timeout=2.0, checkpoint="slow", use_sim_time="true") as (process, client, log):
        client.level(UNKNOWN, reasons=Reason.WARMING_UP)
        client.spin(4.0)
        assert process.poll() is None
    with detector(worker_timeout=2.0, use_sim_time="true") as (process, client, log):
        client.until(lambda: "configured: fake" in log.read_text())
        client.spin(4.0)
        assert process.poll() is None


def test_a_hung_worker_loses_its_liveliness_while_heartbeats_go_on():
    with detector(stall_timeout=0.3, worker_timeout=60.0, **QUICK) as (process, client, log):
        alive, judged, beats = {}, [], []
        for topic, kind, lease in (("judged", Header, 1.0), ("alerts", ObstacleAlertArray, 0.5)):
            box = judged if kind is Header else beats
            profile = QoSProfile(depth=10, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
                                 liveliness_lease_duration=Duration(seconds=lease))
            client.node.create_subscription(
                kind, f"/detector/front/{topic}", box.append, profile,
                event_callbacks=SubscriptionEventCallbacks(
                    liveliness=lambda event, topic=topic: alive.update({topic: event.alive_count})))
        client.until(lambda: alive.get("alerts") == 1)
        clear(client)
        header = client.send(picture())
        client.until(lambda: header in judged)
        assert alive["judged"] == 1
        client.send(picture(trick=2))
        client.until(lambda: alive["judged"] == 0)
        seen, told = len(beats), len(judged)
        client.until(lambda: len(beats) > seen + 10)
        assert {m.level for m in beats[seen:]} == {UNKNOWN} and all(m.heartbeat for m in beats[seen:])
        assert alive["judged"] == 0 and len(judged) == told
        assert process.poll() is None


# ---- autostart ----


def test_autostart_waits_longer_after_each_failure_and_until_somebody_else_takes_over():
    now, results = [0.0], [False] * 8
    autostart = Autostart(lambda: results.pop(0), clock=lambda: now[0])
    assert autostart.step() is None and len(results) == 8   # nobody has asked for it
    autostart.begin()
    waits = []
    for _ in range(8):
        waits.append(autostart.step())
        assert autostart.step() is None                     # not before its time
        now[0] += waits[-1]
    assert waits == [min(FIRST_S * 2**n, LONGEST_S) for n in range(8)] and not results
    autostart.cancel()
    now[0] += 1000.0
    assert autostart.step() is None
    results[:] = [True]
    autostart.begin()
    assert autostart.step() is None and not results
    now[0] += 1000.0
    assert autostart.step() is None                         # it runs: there is nothing more to do


def test_a_failed_autostart_is_told_and_recovers_by_itself(tmp_path):
    checkpoint = tmp_path / "comes_later"
    with detector(checkpoint=checkpoint, **QUICK) as (process, client, log):
        diagnostics = client.listen("/diagnostics", DiagnosticArray)
        client.until(lambda: any("not there yet" in s.message for m in diagnostics for s in m.status))
        assert {m.level for m in client.messages.get(ALERTS, [])} <= {UNKNOWN}
        checkpoint.mkdir()
        clear(client)
        assert "next attempt in 1 s" in log.read_text() and process.poll() is None


def test_an_engine_whose_build_ends_its_thread_is_a_failed_configuration_and_tried_again():
    with detector(checkpoint="exits") as (process, client, log):
        client.until(lambda: "next attempt in 2 s" in log.read_text())
        assert "cannot configure" in log.read_text() and "told to exit" in log.read_text()
        assert client.level(UNKNOWN, reasons=Reason.INACTIVE) and process.poll() is None


def test_a_transition_by_hand_ends_autostart(tmp_path):
    checkpoint = tmp_path / "comes_later"
    with detector(checkpoint=checkpoint) as (process, client, log):
        client.until(lambda: "next attempt" in log.read_text())
        change = Transition(id=Transition.TRANSITION_CONFIGURE)
        assert not client.call(ChangeState, "/detector/change_state", transition=change).success
        attempts = log.read_text().count("cannot configure")
        checkpoint.mkdir()
        client.spin(3.0)                       # more than the wait that was due
        assert log.read_text().count("cannot configure") == attempts
        alert = client.level(UNKNOWN, reasons=Reason.INACTIVE)
        assert alert.reasons == Reason.INACTIVE


# ---- ends ----


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_batch_leaves_no_process_and_no_shared_memory(sign):
    with detector(**QUICK) as (process, client, log):
        clear(client)
        for _ in range(3):
            client.send(picture(trick=5))
        held, started = shared_memory(process.pid), children_of(process.pid)
        process.send_signal(sign)
        assert process.wait(20) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    assert held and not [file for file in held if Path(file).exists()]
    assert not [child for child in started if Path(f"/proc/{child}").exists()]


def judged_and_killed(process, client, box):
    """Judges twenty obstacles one by one, then SIGKILL: their stamps, and the shared memory left behind."""
    sent = []
    for _ in range(20):
        header = client.send(picture(obstacle=True))
        sent.append((header.stamp.sec, header.stamp.nanosec))
        client.until(lambda: box[-1].header.stamp == header.stamp)   # noqa: B023 (called at once)
    left = shared_memory(process.pid) - shared_memory(os.getpid())
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    client.spin(0.5)
    return sent, left


def test_a_kill_loses_nothing_that_was_said_before_it_and_a_new_process_goes_on():
    with detector(**QUICK) as (process, client, log):
        box = client.listen(ALERTS, ObstacleAlertArray, DEEP)
        clear(client)
        sent, left = judged_and_killed(process, client, box)
        before = list(box)
        first = before[0].sequence
        assert [m.sequence for m in before] == list(range(first, first + len(before)))
        judged = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in before if not m.heartbeat]
        assert judged[-20:] == sent
        domain = {"ROS_DOMAIN_ID": str(client.context.get_domain_id())}
        assert left and all(Path(file).exists() for file in left)
        for file in left:
            os.utime(f"{file}_el", (0, 0))   # as if it had been killed long ago
        with detector(environment=domain, **QUICK):
            client.until(lambda: any(m.level == CLEAR for m in box[len(before):]),
                         meanwhile=lambda: client.send(picture()))
            assert box[len(before)].level == UNKNOWN and box[len(before)].sequence < 50
    assert not any(Path(file).exists() for file in left)   # the next detector did, for the killed one


def test_a_bag_that_is_recorded_over_a_kill_and_a_restart_has_every_alert_that_came_before(tmp_path):
    with detector(**QUICK) as (process, client, log):
        box, domain = client.listen(ALERTS, ObstacleAlertArray, DEEP), client.context.get_domain_id()
        with recording(tmp_path / "bag", ALERTS, domain) as heard:
            client.until(lambda: client.node.count_subscribers(ALERTS) == 2)
            client.until(lambda: heard() > 0)   # the recorder finds the detector, late on a busy machine
            client.spin(0.5)                    # what was sent before that is in the box, too
            first = len(box)
            clear(client)
            _, left = judged_and_killed(process, client, box)
            before, of_old = len(box), heard()
            with detector(environment={"ROS_DOMAIN_ID": str(domain)}, **QUICK):
                client.until(lambda: heard() > of_old, meanwhile=lambda: client.send(picture()))
                met = len(box)                  # the recorder has met the new process, late on a busy machine
                client.until(lambda: any(m.level == CLEAR for m in box[met:]),
                             meanwhile=lambda: client.send(picture()))
                client.spin(0.5)
            after = len(box)
        for file in left:
            Path(file).unlink(missing_ok=True)
    with Bag(tmp_path / "bag") as bag:
        recorded = [bag.deserialize(record) for record in bag.records([ALERTS])]

    def told(messages):
        return [(m.sequence, m.level, m.heartbeat, m.header.stamp.sec, m.header.stamp.nanosec)
                for m in messages]
    kept = told(recorded)
    start = kept.index(told(box)[first])
    assert kept[start:start + before - first] == told(box[first:before])   # to the last one before the kill
    of_new, heard = told(box[before:after]), kept[start + before - first:]
    found = next(i for i, one in enumerate(of_new) if one in heard)   # when the recorder met the new process
    assert set(of_new[found:]) <= set(heard) and CLEAR in {m.level for m in box[before:after][found:]}


# ---- how late ----


def first_doubt(client, since, meanwhile=None):
    """Seconds from `since` (monotonic) to a message that is not CLEAR; none that is may come after it."""
    box = client.messages[ALERTS]
    seen = len(box)
    client.until(lambda: any(m.level != CLEAR for m in box[seen:]), meanwhile=meanwhile)
    took, seen = time.monotonic() - since, len(box)
    end = time.monotonic() + 0.5
    client.until(lambda: time.monotonic() > end, meanwhile=meanwhile)
    assert CLEAR not in {m.level for m in box[seen:]}
    return took


def test_the_worst_case_is_computed_told_and_kept():
    worst = worst_case(DEFAULTS)
    assert worst == pytest.approx({"not_clear": 1.1, "not_clear_beside": 3.3,
                                   "lost": 1.5, "lost_beside": 3.7})
    with detector() as (process, client, log):
        diagnostics = client.listen("/diagnostics", DiagnosticArray)
        values = client.until(lambda: {v.key: v.value for m in diagnostics for s in m.status for v in s.values
                                       if v.key.startswith("worst_case_")})
        assert {key: float(value) for key, value in values.items()} == {
            f"worst_case_{name}_s": pytest.approx(seconds, abs=1e-3) for name, seconds in worst.items()}

        clear(client)
        assert first_doubt(client, time.monotonic(), lambda: client.send(picture(obstacle=True))) \
            < worst["not_clear"] + SCHEDULING_S
        for trick in (None, 2):   # the camera stops; the engine hangs
            clear(client)
            start = time.monotonic()
            if trick:
                client.send(picture(obstacle=True, trick=trick))
            assert 0.5 < first_doubt(client, start) < worst["not_clear"] + SCHEDULING_S


def test_a_reader_with_a_deadline_hears_of_a_killed_process_in_time():
    with detector(**QUICK) as (process, client, log):
        missed = []
        client.node.create_subscription(
            ObstacleAlertArray, ALERTS, lambda _: None, QoSProfile(depth=10, deadline=Duration(seconds=0.5)),
            event_callbacks=SubscriptionEventCallbacks(deadline=lambda _: missed.append(time.monotonic())))
        clear(client)
        left = shared_memory(process.pid) - shared_memory(os.getpid())
        killed = time.monotonic()
        process.kill()
        client.until(lambda: any(moment > killed for moment in missed))
        took = next(moment for moment in missed if moment > killed) - killed
        assert took < MISSED_BEATS / DEFAULTS["heartbeat_rate"] + SCHEDULING_S
    for file in left:
        Path(file).unlink(missing_ok=True)
