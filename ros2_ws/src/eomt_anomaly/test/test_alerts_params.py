# SPDX-License-Identifier: MIT
"""Parameters are checked by name, and the reaction times they promise are those the Monitor keeps."""
import itertools
import math

import numpy as np
import pytest
from alerts_scenes import scene

from eomt_anomaly.alerts import RANGES, Level, Monitor, MonitorParams

IN_THE_WAY = (70, 70, 20, 12)


def params(**changes):
    values = {"drivable_ids": (3,), "threshold": 0.5, "min_area_px": 9, "caution_area_fraction": 0.5}
    return MonitorParams(**{**values, **changes})


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("wrong", [-1, 1e9, math.nan, "many", None])
def test_a_value_out_of_range_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=name):
        params(**{name: wrong})


@pytest.mark.parametrize(("changes", "named"), [
    ({"drivable_ids": ()}, "drivable_ids"), ({"drivable_ids": (255,)}, "drivable_ids"),
    ({"confirm_hits": 6, "confirm_window": 5}, "confirm_hits ≤ confirm_window"),
    ({"caution_hits": 4}, "caution_hits ≤ confirm_hits"), ({"clear_frames": 2.5}, "whole number"),
])
def test_values_that_do_not_fit_together_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        params(**changes)


def test_defaults_lie_within_their_ranges_and_ids_of_any_integer_kind_are_taken():
    assert params(drivable_ids=np.array([3, 4])).drivable_ids == (3, 4)
    assert set(RANGES) == set(MonitorParams.__dataclass_fields__) - {"drivable_ids", "corridor"}


def frames_until(monitor, start_s, wanted, *obstacles, limit=100):
    """Feed the same scene until `wanted` says yes to the level; the number of frames it took."""
    for n in range(1, limit):
        if wanted(monitor.update(*scene(*obstacles), start_s + n * 0.1).level):
            return n
    raise AssertionError("it never came")


@pytest.mark.parametrize("changes", [
    {}, {"confirm_hits": 1, "confirm_window": 1}, {"confirm_hits": 4, "confirm_window": 6, "caution_hits": 2},
    {"coast_frames": 0, "clear_frames": 1}, {"coast_frames": 0, "confirm_hits": 2, "confirm_window": 8},
])
def test_reaction_frames_are_kept(changes):
    promised = params(**changes).reaction_frames()

    def ready():
        monitor = Monitor(params(**changes))
        frames_until(monitor, 0, lambda level: level == Level.CLEAR)
        return monitor

    assert frames_until(ready(), 10, lambda level: level >= Level.CAUTION, IN_THE_WAY) == promised.caution
    monitor = ready()
    assert frames_until(monitor, 10.9, lambda level: level == Level.STOP, IN_THE_WAY) == promised.stop
    assert frames_until(monitor, 12.2, lambda level: level == Level.CLEAR) <= promised.clear


def test_the_worst_clearing_time_is_reached():
    monitor = Monitor(params())
    frames_until(monitor, 0, lambda level: level == Level.STOP, IN_THE_WAY)
    assert frames_until(monitor, 1, lambda level: level == Level.CLEAR) == params().reaction_frames().clear


def test_stop_within_the_window_whichever_frames_are_missed():
    p = params(confirm_hits=3, confirm_window=5)
    for pattern in itertools.product((True, False), repeat=4):
        if sum(pattern) < 2:
            continue
        monitor = Monitor(p)
        levels = [monitor.update(*scene(*[IN_THE_WAY] * seen), 0.1 * i).level
                  for i, seen in enumerate((True, *pattern))]
        assert Level.STOP in levels[:p.reaction_frames().stop_with_misses]


def test_reaction_seconds():
    assert params().reaction_frames().seconds(10) == pytest.approx(
        {"caution": 0.1, "stop": 0.3, "stop_with_misses": 0.5, "clear": 1.4})
