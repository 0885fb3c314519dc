# SPDX-License-Identifier: MIT
"""Faults in what comes while it runs: odd streams, parameter storms, readers, transitions, clocks."""

import array
import random
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_rig import detector, picture
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.conversions import ENCODINGS
from eomt_anomaly.ros.publishers import DENSE
from eomt_anomaly_msgs.srv import SetThreshold

UNKNOWN, CLEAR, CAUTION, STOP = Level
ALERTS = "/detector/front/alerts"
QUICK = {"monitor__clear_frames": 3}


@pytest.fixture(scope="module")
def node():
    """One detector for the tests that leave it as they found it: (client, log)."""
    with detector(**QUICK) as (process, client, log):
        client.listen(ALERTS)
        client.listen("/diagnostics", DiagnosticArray)
        yield client, log
        assert process.poll() is None and "Traceback" not in log.read_text()


def clear(client):
    return client.level(CLEAR, meanwhile=lambda: client.send(picture()))


def same_stamp(message, header):
    return message.header.stamp == header.stamp


def grey(client, encoding, width, height):
    """A picture in which every byte is 100, as a message that fits the encoding."""
    layout = ENCODINGS.get(encoding)
    channels, sample, planar = (layout.channels, layout.sample, layout.planar) if layout else (4, 4, False)
    step = width * channels * sample
    msg = Image(header=client.stamp(), encoding=encoding, width=width, height=height, step=step)
    msg.data = array.array("B", bytes([100]) * (step * (height + planar * height // 2)))
    return msg


# ---- streams ----


def test_resolution_and_encoding_may_change_with_every_picture(node):
    client, _ = node
    box = client.messages[ALERTS]
    for number, encoding in enumerate(ENCODINGS):
        width, height = ((80, 60), (160, 120), (40, 32))[number % 3]
        sent = []

        def send():
            sent.append(grey(client, encoding, width, height))    # noqa: B023 (called in this turn)
            client.publisher(Image, "/front/image_raw").publish(sent[-1])    # noqa: B023
        client.until(lambda: any(not m.heartbeat and same_stamp(m, s.header)
                                 for m in box for s in sent), meanwhile=send, every=0.1)    # noqa: B023
        assert not box[-1].reasons & Reason.INVALID_INPUT, encoding
    clear(client)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "8UC3", "16UC4", "64FC2", "bayer_xxxx8", ""])
def test_an_encoding_that_cannot_be_used_is_refused_by_name(node, encoding):
    client, _ = node
    clear(client)
    publish = client.publisher(Image, "/front/image_raw").publish
    client.level(UNKNOWN, reasons=Reason.INVALID_INPUT,
                 meanwhile=lambda: publish(grey(client, encoding, 80, 60)))
    diagnostics = client.messages["/diagnostics"]
    client.until(lambda: any(f"encoding '{encoding}'" in s.message for m in diagnostics for s in m.status),
                 meanwhile=lambda: publish(grey(client, encoding, 80, 60)))
    clear(client)


def test_a_corrupt_jpeg_is_unknown_and_then_forgiven():
    with detector(front__image_topic="front/image_raw/compressed", **QUICK) as (_, client, _):
        client.level(CLEAR, meanwhile=lambda: client.send_jpeg(picture()))
        client.level(UNKNOWN, reasons=Reason.INVALID_INPUT,
                     meanwhile=lambda: client.send_jpeg(picture(), damage=lambda data: data[:-200]))
        client.level(CLEAR, meanwhile=lambda: client.send_jpeg(picture()))


def test_a_jpeg_whose_middle_is_lost_is_unknown_though_it_has_its_end_mark():
    with detector(front__image_topic="front/image_raw/compressed", **QUICK) as (_, client, _):
        diagnostics = client.listen("/diagnostics", DiagnosticArray)
        for lost in (b"", bytes(200)):
            def damage(data, lost=lost):
                return data[:-202] + lost + data[-2:]
            client.level(CLEAR, meanwhile=lambda: client.send_jpeg(picture()))
            client.level(UNKNOWN, reasons=Reason.INVALID_INPUT,
                         meanwhile=lambda: client.send_jpeg(picture(), damage=damage))   # noqa: B023 (at once)
        client.until(lambda: any("cannot be decoded" in s.message for m in diagnostics for s in m.status),
                     meanwhile=lambda: client.send_jpeg(picture(), damage=damage))


# ---- those who listen and those who set ----


def test_readers_that_join_and_leave_disturb_nothing(node):
    client, _ = node
    clear(client)
    box, chance, readers = client.messages[ALERTS], random.Random(7), {}
    first, seen = box[-1].sequence, {name: 0 for name in DENSE}

    def count(name):
        def took(_):
            seen[name] += 1
        return took

    def toggle():
        client.send_info()
        client.send(picture(obstacle=True))
        name = chance.choice(list(DENSE))
        if name in readers:
            client.node.destroy_subscription(readers.pop(name))
        else:
            readers[name] = client.node.create_subscription(
                DENSE[name], f"/detector/front/{name}", count(name), 1)
    without_place = DENSE.keys() - {"markers", "obstacles"}   # these need the camera's height
    client.until(lambda: all(seen[name] for name in without_place), meanwhile=toggle, every=0.1)
    for reader in readers.values():
        client.node.destroy_subscription(reader)
    assert [m.sequence for m in box if m.sequence >= first] == list(range(first, box[-1].sequence + 1))
    clear(client)


def test_a_storm_of_parameters_and_services_while_it_runs(node):
    client, _ = node
    clear(client)
    box, chance = client.messages[ALERTS], random.Random(3)
    first = box[-1].sequence
    double, whole = ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_INTEGER
    values = [("max_age", "double_value", double, (0.2, 0.5, -1.0)),
              ("max_batch", "integer_value", whole, (1, 4, 0, 99)),
              ("threshold", "double_value", double, (-1.0, 0.3, 0.7, 2.0, float("nan"))),
              ("monitor.clear_frames", "integer_value", whole, (1, 3, 0)),
              ("overlay_rate", "double_value", double, (0.0, 30.0, -3.0)),
              ("front.pitch_deg", "double_value", double, (-5.0, 5.0, 400.0))]
    clients = {kind: client.node.create_client(kind, f"/detector/{name}") for kind, name in (
        (SetParameters, "set_parameters"), (SetThreshold, "set_threshold"), (Trigger, "reset"),
        (SetBool, "enable"))}
    client.until(lambda: all(each.service_is_ready() for each in clients.values()))
    answers, rejected = [], 0

    def one():
        name, field, kind, choices = chance.choice(values)
        value = ParameterValue(type=kind, **{field: chance.choice(choices)})
        request = SetParameters.Request(parameters=[ParameterMsg(name=name, value=value)])
        answers.append(clients[SetParameters].call_async(request))
        kind = chance.choice([SetThreshold, Trigger, SetBool, None])
        request = {SetThreshold: SetThreshold.Request(threshold=chance.choice([0.2, 0.9, 7.0])),
                   Trigger: Trigger.Request(), SetBool: SetBool.Request(data=chance.random() < 0.7)}
        if kind:
            answers.append(clients[kind].call_async(request[kind]))
        client.send(picture(obstacle=chance.random() < 0.3))
    client.until(lambda: len(answers) >= 150, meanwhile=one, every=0.02)
    client.until(lambda: all(answer.done() for answer in answers))
    for answer in answers:
        for result in getattr(answer.result(), "results", []):
            rejected += not result.successful
            assert result.successful or result.reason
    assert rejected > 5
    restore = [("max_age", "double_value", double, 0.5), ("max_batch", "integer_value", whole, 4),
               ("threshold", "double_value", double, -1.0), ("overlay_rate", "double_value", double, 10.0),
               ("monitor.clear_frames", "integer_value", whole, 3),
               ("front.pitch_deg", "double_value", double, 0.0)]
    done = client.call(SetParameters, "/detector/set_parameters", parameters=[
        ParameterMsg(name=name, value=ParameterValue(type=kind, **{field: value}))
        for name, field, kind, value in restore])
    assert all(result.successful for result in done.results)
    client.call(SetBool, "/detector/enable", data=True)
    clear(client)
    storm = [m for m in box if m.sequence >= first]
    assert [m.sequence for m in storm] == list(range(first, first + len(storm)))
    assert all((m.reasons == 0) == (m.level == CLEAR) for m in storm)


# ---- transitions ----

MOVES = {   # (state, transition) → state; all others must be refused
    (State.PRIMARY_STATE_UNCONFIGURED, Transition.TRANSITION_CONFIGURE): State.PRIMARY_STATE_INACTIVE,
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP): State.PRIMARY_STATE_UNCONFIGURED,
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_ACTIVATE): State.PRIMARY_STATE_ACTIVE,
    (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_DEACTIVATE): State.PRIMARY_STATE_INACTIVE,
}
TO_ACTIVE = {State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_CONFIGURE,
             State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_ACTIVATE}


@settings(max_examples=6, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from([Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP,
                                       Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE]),
                      min_size=1, max_size=6))
def test_transitions_in_any_order_while_a_picture_is_judged(node, steps):
    client, _ = node
    box, state = client.messages[ALERTS], State.PRIMARY_STATE_ACTIVE

    def take(step):
        nonlocal state
        if state == State.PRIMARY_STATE_ACTIVE:
            client.send(picture(trick=5))              # 0.3 s of work
        else:
            client.spin(0.05)
        legal = (state, step) in MOVES
        done = client.call(ChangeState, "/detector/change_state", transition=Transition(id=step)).success
        assert done == legal
        state = MOVES.get((state, step), state)
        assert client.call(GetState, "/detector/get_state").current_state.id == state
        if state != State.PRIMARY_STATE_ACTIVE:
            assert client.level(UNKNOWN, reasons=Reason.INACTIVE).alerts == []
    for step in steps:
        take(step)
    while state in TO_ACTIVE:
        take(TO_ACTIVE[state])
    clear(client)
    assert all(m.level == UNKNOWN for m in box if m.reasons & Reason.INACTIVE)


# ---- clocks ----


def test_a_simulated_clock_that_leaps_or_stands_is_never_clear_for_it():
    with detector(use_sim_time="true", **QUICK) as (process, client, log):
        box, now = client.listen(ALERTS), [1000.0]

        def tick(pictures=True, step=0.1):
            now[0] += step
            stamp = Time(sec=int(now[0]), nanosec=int(now[0] % 1 * 1e9))
            client.publisher(Clock, "/clock").publish(Clock(clock=stamp))
            client.spin(0.02)
            if pictures:
                header = client.stamp()
                header.stamp = stamp
                client.send(picture(), header=header)
        client.level(CLEAR, meanwhile=tick, every=0.1)
        now[0] += 100.0                                   # forward: somebody seeks in the bag
        start = len(box)
        client.until(lambda: any(m.reasons & Reason.TIME_JUMP for m in box[start:]), meanwhile=tick,
                     every=0.1)
        client.level(CLEAR, meanwhile=tick, every=0.1)
        now[0] -= 0.5                                     # back by less than a second
        start = len(box)
        client.until(lambda: any(m.level == UNKNOWN for m in box[start:]), meanwhile=tick, every=0.1)
        client.level(CLEAR, meanwhile=tick, every=0.1)
        alert = client.level(UNKNOWN, reasons=Reason.STALE_INPUT)   # the clock and the pictures stand still
        assert alert.heartbeat
        beats = len(box)
        client.until(lambda: len(box) > beats + 10, seconds=20)      # and the heartbeat goes on
        assert {m.level for m in box[beats:]} == {UNKNOWN}
        client.level(CLEAR, meanwhile=tick, every=0.1)
        assert process.poll() is None and "Traceback" not in log.read_text()


def test_the_heartbeat_beats_in_every_period_while_pictures_come(node):
    client, _ = node
    clear(client)
    box = client.messages[ALERTS]
    start, end = len(box), time.monotonic() + 3.0
    client.until(lambda: time.monotonic() > end, meanwhile=lambda: client.send(picture()), every=0.13)
    assert sum(m.heartbeat for m in box[start:]) >= 20   # of 30: a busy machine may lose some
