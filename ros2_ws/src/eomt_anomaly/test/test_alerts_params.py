# SPDX-License-Identifier: MIT
"""Parameters are checked by name."""
import math

import numpy as np
import pytest

from eomt_anomaly.alerts import RANGES, Monitor, MonitorParams, Reason
from eomt_anomaly.alerts.params import WHOLE


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
    ({"grid": -1}, "grid is -1"), ({"grid": 18.0}, "grid is 18.0"),
    ({"confirm_hits": 6, "confirm_window": 5}, "confirm_hits ≤ confirm_window"),
    ({"caution_hits": 4}, "caution_hits ≤ confirm_hits"), ({"clear_frames": 2.5}, "whole number"),
])
def test_values_that_do_not_fit_together_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        params(**changes)


@pytest.mark.parametrize(("limits", "smallest"), [
    ({"min_area_fraction": 0.01}, 2304),                     # 640x360 px
    ({"min_area_px": 5000}, 5000),
    ({"grid": 18}, 300),                                     # patches of 20 px at 252 px: 0.75 of 400
    ({"grid": 18, "min_area_patches": 2.0}, 800),
    ({"grid": 34}, 138.24),                                  # of 10.6 px at 476 px: the fraction is larger
    ({"grid": 0, "min_area_patches": 100.0}, 138.24),        # not known: no limit
])
def test_the_smallest_region_is_the_largest_of_its_limits(limits, smallest):
    assert params(**limits).smallest_region_px(360, 640) == pytest.approx(smallest)
    assert params(**limits).smallest_region_px(640, 360) == pytest.approx(smallest)


def test_whole_numbers_of_any_kind_are_taken():
    """As YAML has them: 5.0 is a number of frames."""
    taken = params(**{name: float(getattr(params(), name)) for name in WHOLE})
    assert taken == params()
    road, quiet = np.full((96, 1280), 3, np.uint8), np.zeros((96, 1280), np.float32)
    assert Monitor(taken).update(road, quiet, 0.0).reasons == Reason.WARMING_UP


def test_defaults_lie_within_their_ranges_and_ids_of_any_integer_kind_are_taken():
    assert params(drivable_ids=np.array([3, 4])).drivable_ids == (3, 4)
    assert set(RANGES) == set(MonitorParams.__dataclass_fields__) - {"drivable_ids", "corridor", "grid"}
