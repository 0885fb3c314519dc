# SPDX-License-Identifier: MIT
"""The messages: constants equal the alerts' enums, nothing is lost on the wire, zero never means clear."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_anomaly.alerts import Level, Reason

msg = pytest.importorskip("eomt_anomaly_msgs.msg", reason="build ros2_ws and source tools/env.sh first")
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

from eomt_anomaly_msgs.srv import SetThreshold  # noqa: E402

INTERFACES = [
    msg.AnomalyHeatmap,
    msg.ModelInfo,
    msg.ObstacleAlert,
    msg.ObstacleAlertArray,
    msg.SemanticMask,
    SetThreshold.Request,
    SetThreshold.Response,
]
text = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)
score = st.floats(0, 1, width=32)


def constants(kind: type, prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): getattr(kind, name) for name in dir(kind) if name.startswith(prefix)}


def round_trip(message):
    return deserialize_message(serialize_message(message), type(message))


def test_level_constants_are_the_alerts_levels():
    assert constants(msg.ObstacleAlertArray, "LEVEL_") == {level.name: int(level) for level in Level}


def test_reason_constants_are_the_alerts_reasons():
    reasons = constants(msg.ObstacleAlertArray, "REASON_")
    assert reasons == {name: int(value) for name, value in Reason.__members__.items()}
    bits = [value for value in reasons.values() if value]
    assert sum(bits) == 2 ** len(bits) - 1  # one bit each, none twice


@pytest.mark.parametrize("kind", INTERFACES)
def test_an_empty_message_passes_the_wire(kind):
    assert round_trip(kind()) == kind()


def test_a_message_that_nobody_filled_in_says_unknown():
    empty = msg.ObstacleAlertArray()
    assert empty.level == msg.ObstacleAlertArray.LEVEL_UNKNOWN != msg.ObstacleAlertArray.LEVEL_CLEAR
    assert not msg.ObstacleAlert().position_valid
    assert msg.ObstacleAlert().position_source == msg.ObstacleAlert.POSITION_NONE


@settings(max_examples=50)
@given(
    camera=text,
    level=st.sampled_from(Level),
    reasons=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**64 - 1),
    heartbeat=st.booleans(),
    seconds=st.integers(-1, 2**31 - 1),
    peaks=st.lists(score, max_size=5),
)
def test_alerts_pass_the_wire_unchanged(camera, level, reasons, sequence, heartbeat, seconds, peaks):
    sent = msg.ObstacleAlertArray(
        camera=camera, level=int(level), reasons=reasons, sequence=sequence, heartbeat=heartbeat
    )
    sent.input_age.sec = seconds
    sent.alerts = [
        msg.ObstacleAlert(track_id=i, peak_score=peak, distance_m=float(i)) for i, peak in enumerate(peaks)
    ]
    assert round_trip(sent) == sent


def test_an_unknown_distance_stays_nan():
    assert math.isnan(round_trip(msg.ObstacleAlert(distance_m=math.nan)).distance_m)


@settings(max_examples=30)
@given(width=st.integers(1, 40), height=st.integers(1, 30), seed=st.binary(min_size=1, max_size=8))
def test_pictures_inside_messages_keep_every_byte(width, height, seed):
    sent = msg.SemanticMask(camera="front", model_id="m")
    sent.mask.width, sent.mask.height, sent.mask.step, sent.mask.encoding = width, height, width, "mono8"
    sent.mask.data = (seed * (width * height))[: width * height]
    received = round_trip(sent)
    assert bytes(received.mask.data) == bytes(sent.mask.data) and received == sent
