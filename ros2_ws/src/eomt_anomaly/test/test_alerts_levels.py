# SPDX-License-Identifier: MIT
"""The level machine: raises at once, clears slowly, never says CLEAR without the frames to show for it."""
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eomt_anomaly.alerts import Level, LevelMachine, Reason

observations = st.sampled_from(list(Level))


class LevelMachineStates(RuleBasedStateMachine):
    """Any sequence of frames and resets, against the promises written out frame by frame."""

    @initialize(clear_frames=st.integers(1, 6))
    def start(self, clear_frames):
        self.machine = LevelMachine(clear_frames)
        self.clear_frames = clear_frames
        self.past = []

    @rule(observed=observations)
    def frame(self, observed):
        before = self.machine.level
        reasons = Reason.NONE if observed == Level.CLEAR else Reason.OBSTACLE
        level = self.machine.update(observed, reasons)
        self.past.append(observed)
        assert level == self.machine.level
        if observed >= Level.CAUTION:
            assert level >= observed, "an obstacle raises the level at once"
        if observed == Level.UNKNOWN:
            assert level != Level.CLEAR, "a frame that was not judged ends CLEAR at once"
        if before >= Level.CAUTION and level < before:
            assert all(seen < before for seen in self.past[-self.clear_frames:]), "it falls slowly"

    @rule()
    def reset(self):
        self.machine.reset()
        self.past = []
        assert self.machine.level == Level.UNKNOWN

    @invariant()
    def clear_needs_clean_frames(self):
        last = self.past[-self.clear_frames:]
        clean = len(last) == self.clear_frames and set(last) == {Level.CLEAR}
        assert (self.machine.level == Level.CLEAR) == clean

    @invariant()
    def a_level_has_its_reasons(self):
        assert (self.machine.reasons == Reason.NONE) == (self.machine.level == Level.CLEAR)


TestLevelMachineStates = LevelMachineStates.TestCase


@given(clear_frames=st.integers(1, 20))
def test_clear_after_exactly_n_clean_frames(clear_frames):
    machine = LevelMachine(clear_frames)
    assert machine.level == Level.UNKNOWN
    levels = [machine.update(Level.CLEAR) for _ in range(clear_frames)]
    assert levels == [Level.UNKNOWN] * (clear_frames - 1) + [Level.CLEAR]


def test_an_alarm_is_held_and_then_becomes_unknown_when_nothing_can_be_judged():
    machine = LevelMachine(3)
    machine.update(Level.STOP, Reason.OBSTACLE_IN_CORRIDOR)
    blind = [machine.update(Level.UNKNOWN, Reason.NO_DRIVABLE_SURFACE) for _ in range(3)]
    assert blind == [Level.STOP, Level.STOP, Level.UNKNOWN]
    assert machine.reasons == Reason.NO_DRIVABLE_SURFACE


def test_reasons_of_a_held_level_name_the_frame_that_holds_it():
    machine = LevelMachine(3)
    machine.update(Level.STOP, Reason.OBSTACLE | Reason.OBSTACLE_IN_CORRIDOR)
    machine.update(Level.CLEAR)
    assert machine.level == Level.STOP
    assert machine.reasons == Reason.OBSTACLE | Reason.OBSTACLE_IN_CORRIDOR


def test_warming_up_is_the_reason_before_the_first_clear():
    machine = LevelMachine(2)
    assert machine.reasons == Reason.WARMING_UP
    machine.update(Level.CLEAR)
    assert machine.reasons == Reason.WARMING_UP


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="clear_frames is 0"):
        LevelMachine(0)
