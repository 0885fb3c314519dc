# SPDX-License-Identifier: MIT
"""The reaction times that the parameters promise are exactly those of the Monitor at the worst phase."""
import copy
import itertools

import pytest
from alerts_scenes import scene
from hypothesis import example, given
from hypothesis import strategies as st

from eomt_anomaly.alerts import Level, Monitor, MonitorParams

IN_THE_WAY, BESIDE = (76, 70, 8, 6), (25, 60, 8, 6)  # too small to raise at first sight for their size
CASES = [
    {}, {"confirm_hits": 1, "confirm_window": 1}, {"confirm_hits": 4, "confirm_window": 6, "caution_hits": 2},
    {"coast_frames": 0, "clear_frames": 1}, {"coast_frames": 0, "confirm_hits": 2, "confirm_window": 7},
]
each_case = pytest.mark.parametrize("changes", CASES)


def params(**changes):
    return MonitorParams(drivable_ids=(3,), threshold=0.5, **changes)


class Road:
    """A Monitor whose newest frame made the level CLEAR: what comes now comes at the worst phase."""

    def __init__(self, p):
        self.monitor, self.frames = Monitor(p), 0
        for _ in range(p.clear_frames):
            level = self.show(None)
        assert level == Level.CLEAR

    def show(self, box, gap_s=0.1):
        self.frames += 1
        self.now = gap_s + (self.now if self.frames > 1 else 0.0)
        return self.monitor.update(*scene(*[box] * (box is not None)), self.now).level


def first(levels, wanted):
    """Number of the first of `levels` that is at least `wanted`, from 1."""
    return next(n for n, level in enumerate(levels, 1) if level >= wanted)


def sightings(p):
    """Every way to see an obstacle, or to miss it, in one window of confirmation, seen in its first frame."""
    return [(True, *rest) for rest in itertools.product((True, False), repeat=p.confirm_window - 1)]


@each_case
def test_caution_and_stop_for_an_obstacle_that_every_frame_shows(changes):
    p = params(**changes)
    promised, ahead, beside = p.reaction_frames(), Road(p), Road(p)
    levels = [ahead.show(IN_THE_WAY) for _ in range(20)]
    assert (first(levels, Level.CAUTION), first(levels, Level.STOP)) == (promised.caution, promised.stop)
    levels = [beside.show(BESIDE) for _ in range(20)]
    assert first(levels, Level.CAUTION) == promised.caution_beside and Level.STOP not in levels


@each_case
def test_stop_for_an_obstacle_that_is_missed_as_often_as_confirmation_allows(changes):
    p, took = params(**changes), []
    road = Road(p)
    for pattern in sightings(p):
        if sum(pattern) >= p.confirm_hits:
            trial = copy.deepcopy(road)
            took.append(first([trial.show(IN_THE_WAY if seen else None) for seen in pattern], Level.STOP))
    assert max(took) == p.reaction_frames().stop_with_misses


@each_case
@pytest.mark.parametrize("box", [IN_THE_WAY, BESIDE])
def test_clear_after_an_obstacle_however_often_it_was_seen(changes, box):
    p, took = params(**changes), []
    road, promised = Road(p), p.reaction_frames().clear
    for pattern in {seen[:len(seen) - seen[::-1].index(True)] for seen in sightings(p)}:  # to the last sight
        trial = copy.deepcopy(road)
        if [trial.show(box if seen else None) for seen in pattern][-1] > Level.CLEAR:
            took.append([trial.show(None) for _ in range(promised)].index(Level.CLEAR) + 1)
    unconfirmed_raises = box == IN_THE_WAY
    assert max(took) == (promised if unconfirmed_raises else p.coast_frames + p.clear_frames)


@given(gaps=st.lists(st.sampled_from([0.1, 1.9, 2.1, 5.0]), min_size=1, max_size=12),
       clear_frames=st.integers(1, 4), caution_hits=st.integers(1, 3),
       box=st.sampled_from([IN_THE_WAY, BESIDE]))
@example(gaps=[3.0] * 9, clear_frames=1, caution_hits=1, box=BESIDE)
def test_no_pauses_between_frames_let_an_obstacle_pass_as_clear(gaps, clear_frames, caution_hits, box):
    p = params(clear_frames=clear_frames, caution_hits=caution_hits)
    promised, road = p.reaction_frames(), Road(p)
    limit = promised.caution if box == IN_THE_WAY else promised.caution_beside
    levels = [road.show(box, gap_s) for gap_s in gaps]
    for start in range(len(levels) - limit + 1):
        assert set(levels[start:start + limit]) != {Level.CLEAR}


def test_reaction_seconds():
    assert params().reaction_frames().seconds(10) == pytest.approx(
        {"caution": 0.1, "caution_beside": 0.3, "stop": 0.3, "stop_with_misses": 0.5, "clear": 1.4})
