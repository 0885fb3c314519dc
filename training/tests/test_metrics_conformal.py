# SPDX-License-Identifier: MIT
"""The alert threshold's guarantee: what it promises on new frames holds on new frames."""

import numpy as np
import pytest

from eomt_training.metrics.conformal import control_risk
from eomt_training.metrics.keys import to_keys
from eomt_training.metrics.spool import Spool


def spool_of(frames):
    spool = Spool()
    for frame in frames:
        spool.add(to_keys(frame))
    return spool


def drawn(rng, count, pixels=200):
    """Frames that differ from each other: a hard one in ten fires much more than the others."""
    level = rng.normal(0, 0.3, (count, 1)) + 1.5 * (rng.random((count, 1)) < 0.1)
    return (rng.normal(size=(count, pixels)) + level).astype(np.float32)


@pytest.mark.parametrize("frames, rate", [(30, 0.05), (100, 0.02), (12, 0.01)])
def test_the_expected_rate_on_new_frames_is_as_guaranteed(frames, rate):
    rng = np.random.default_rng(0)
    new, seen, guaranteed = drawn(rng, 4000), [], []
    for _ in range(300):
        chosen = control_risk(spool_of(drawn(rng, frames)), rate)
        seen.append((new >= chosen.threshold).mean())
        guaranteed.append(chosen.guaranteed_rate)
    error = np.std(seen) / np.sqrt(len(seen)) + new.std() * 2e-3
    assert np.mean(seen) <= guaranteed[0] + 3 * error and len(set(guaranteed)) == 1
    assert np.mean(seen) > 0.3 * rate, "and it isn't kept by never firing"


def test_what_a_capped_threshold_lets_fire_is_no_guarantee():
    """A level read off the calibration frames, (n R + 1) / (n + 1), is often exceeded by new ones."""
    rng = np.random.default_rng(0)
    new, exceeded = (drawn(rng, 4000) >= 1).mean(), []
    for _ in range(200):
        chosen = control_risk(spool_of(drawn(rng, 200)), 0.02, highest=1.0)
        assert chosen.capped and chosen.guaranteed_rate is None and not chosen.within_target
        exceeded.append(new > (200 * chosen.mean_rate + 1) / 201)
    assert np.mean(exceeded) > 0.2


def test_the_lowest_threshold_by_hand():
    frames = [np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.1, 0.1, 0.4]), np.array([0.1, 0.2, 0.2, 0.2])]
    chosen = control_risk(spool_of(frames), 0.5)  # R <= (4 * 0.5 - 1) / 3 = 1/3
    # >= 0.4: R = (1/4 + 1/4 + 0) / 3 = 1/6; >= 0.3: (2/4 + 1/4) / 3 = 1/4; >= 0.2: (3 + 1 + 3) / 12 = 7/12
    assert np.float32(0.2) < chosen.threshold <= np.float32(0.3) and chosen.mean_rate == pytest.approx(1 / 4)
    assert chosen.threshold == np.nextafter(np.float32(0.2), np.float32(1)), "as low as it may be"
    assert chosen.within_target and chosen.guaranteed_rate == 0.5 and chosen.frames == 3


def test_too_few_frames_for_the_wanted_rate_are_told():
    frames = drawn(np.random.default_rng(2), 20)
    chosen = control_risk(spool_of(frames), 0.01)  # 1/21 > 0.01
    assert not chosen.within_target and chosen.guaranteed_rate == pytest.approx((20 * 0.01 + 1) / 21)
    assert (frames >= chosen.threshold).mean() <= 0.01


@pytest.mark.parametrize("rate", [0.0, 1.0, -1])
def test_impossible_rates_and_no_frames_are_named(rate):
    with pytest.raises(ValueError, match="share in"):
        control_risk(spool_of([np.zeros(3)]), rate)
    with pytest.raises(ValueError, match="no frame"):
        control_risk(spool_of([]), 0.1)
