# SPDX-License-Identifier: MIT
"""What a judgement is worth: never CLEAR while anything is wrong."""

from hypothesis import given
from hypothesis import strategies as st

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.health import Health, Verdict

TIMEOUT = 1.0


def seen(now=0.0, age=0.1, level=Level.CLEAR, reasons=Reason.NONE):
    health = Health()
    health.arrival(now)
    health.judgement(now, age, level, reasons)
    return health


def test_a_fresh_judgement_stands():
    assert seen().verdict(0.5, TIMEOUT).level == Level.CLEAR
    verdict = seen(level=Level.STOP, reasons=Reason.OBSTACLE).verdict(0.5, TIMEOUT)
    assert (verdict.level, verdict.reasons) == (Level.STOP, Reason.OBSTACLE)


def test_before_anything_came():
    assert Health().verdict(0.0, TIMEOUT).reasons == Reason.NO_INPUT


def test_before_anything_was_judged():
    health = Health()
    health.arrival(0.0)
    assert health.verdict(0.1, TIMEOUT).reasons == Reason.WARMING_UP


def test_a_camera_that_stops_becomes_unknown_and_recovers():
    health = seen()
    verdict = health.verdict(1.5, TIMEOUT)
    assert (verdict.level, verdict.reasons) == (Level.UNKNOWN, Reason.STALE_INPUT)
    health.arrival(2.0)
    health.judgement(2.0, 0.1, Level.CLEAR, Reason.NONE)
    assert health.verdict(2.1, TIMEOUT).level == Level.CLEAR


def test_frames_that_arrive_but_are_old_are_stale():
    health = seen(age=3.0)
    assert health.verdict(0.0, TIMEOUT).reasons == Reason.STALE_INPUT


def test_a_clock_that_runs_ahead_lengthens_no_limit():
    health = Health()
    health.arrival(10.0)
    health.judgement(10.0, -0.9, Level.CLEAR, Reason.NONE)
    health.arrival(11.05)
    assert health.verdict(10.9, 1.0).level == Level.CLEAR
    assert health.verdict(11.05, 1.0) == Verdict(Level.UNKNOWN, Reason.STALE_INPUT)


def test_a_fault_lasts_until_the_next_judgement():
    health = seen()
    health.failed(Reason.INVALID_INPUT, "truncated")
    health.failed(Reason.INFERENCE_ERROR, "boom")
    assert health.verdict(0.1, TIMEOUT).reasons == Reason.INVALID_INPUT | Reason.INFERENCE_ERROR
    health.judgement(0.2, 0.1, Level.CLEAR, Reason.NONE)
    assert health.verdict(0.2, TIMEOUT).level == Level.CLEAR and health.text == ""


def test_inactive_says_only_that():
    assert seen().verdict(50.0, TIMEOUT, Reason.INACTIVE).reasons == Reason.INACTIVE


@given(gate=st.sampled_from([Reason.INACTIVE, Reason.DISABLED, Reason.WARMING_UP, Reason.STALLED_WORKER]),
       level=st.sampled_from(list(Level)), now=st.floats(0, 10))
def test_a_known_level_never_passes_a_closed_gate(gate, level, now):
    verdict = seen(level=level).verdict(now, TIMEOUT, gate)
    assert verdict.level == Level.UNKNOWN and verdict.reasons & gate


@given(st.lists(st.one_of(
    st.tuples(st.just("arrival"), st.floats(0, 2)),
    st.tuples(st.just("fault"), st.floats(0, 2)),
    st.tuples(st.just("judgement"), st.floats(0, 2), st.floats(0, 2))), max_size=30), st.floats(0, 3))
def test_clear_needs_a_recent_arrival_a_recent_frame_and_no_fault(events, wait):
    health, now, arrived, shows, fault = Health(), 0.0, None, None, False
    for name, pause, *age in events:
        now += pause
        if name == "arrival":
            arrived = now
            health.arrival(now)
        elif name == "fault":
            fault = True
            health.failed(Reason.INVALID_INPUT, "")
        else:
            shows, fault = now - age[0], False
            health.judgement(now, age[0], Level.CLEAR, Reason.NONE)
    now += wait
    verdict = health.verdict(now, TIMEOUT)
    sound = arrived is not None and shows is not None and not fault \
        and now - arrived <= TIMEOUT and now - shows <= TIMEOUT
    assert (verdict.level == Level.CLEAR) == sound
    assert bool(verdict.reasons) != sound
