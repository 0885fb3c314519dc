# SPDX-License-Identifier: MIT
"""Schedules against their formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_training.schedule import mask_probability, warmup_poly


def test_warmup_poly_follows_the_formula():
    assert warmup_poly(0, 2000) == pytest.approx(1 / 500)
    assert warmup_poly(499, 2000) == 1
    assert warmup_poly(1250, 2000) == pytest.approx(0.5**0.9)
    assert warmup_poly(2000, 2000) == 0
    # The second stage: nothing before `start`, then linear.
    assert warmup_poly(499, 3000, start=500, warmup=1000) == 0
    assert warmup_poly(999, 3000, start=500, warmup=1000) == pytest.approx(0.5)


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 100), st.integers(1, 600))
def test_warmup_poly_stays_in_range(step, total, start, warmup):
    assert 0 <= warmup_poly(step, total, start, warmup) <= 1


def test_mask_annealing_runs_block_by_block():
    total, blocks = 500, 3  # phases of 100 steps
    assert [mask_probability(0, total, i, blocks) for i in range(3)] == [1, 1, 1]
    assert mask_probability(150, total, 0, blocks) == pytest.approx(0.5**0.9)
    assert mask_probability(150, total, 1, blocks) == 1
    assert [mask_probability(400, total, i, blocks) for i in range(3)] == [0, 0, 0]


@given(st.integers(0, 999), st.integers(1, 6))
def test_mask_annealing_never_rises(step, blocks):
    for i in range(blocks):
        assert mask_probability(step + 1, 1000, i, blocks) <= mask_probability(step, 1000, i, blocks)
