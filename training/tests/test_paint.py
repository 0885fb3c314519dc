# SPDX-License-Identifier: MIT
"""Painted roads: seeded, only on the surface, visible, and never a change of label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_training.data import paint
from eomt_training.data.folders import Sample
from eomt_training.data.paint import View, paint_road


def road(height=90, width=160, horizon=36):
    labels = np.full((height, width), 5, np.uint8)
    labels[horizon:, 20:140] = 3
    image = np.random.default_rng(0).integers(90, 130, (height, width, 3)).astype(np.uint8)
    return Sample(image, labels, "road")


def test_paint_stays_on_the_surface_and_the_labels_stay():
    before, changed = road(), 0
    for seed in range(30):
        after = paint_road(before, np.random.default_rng(seed), (3,))
        difference = (after.image != before.image).any(axis=2)
        changed += difference.any()
        assert not difference[before.labels != 3].any()
        np.testing.assert_array_equal(after.labels, before.labels)
    assert changed > 25


def test_the_same_seed_paints_the_same():
    one, two = (paint_road(road(), np.random.default_rng(7), (3,)).image for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_without_a_road_nothing_is_painted():
    sample = road()
    assert paint_road(sample, np.random.default_rng(0), (9,)) is sample


@pytest.mark.parametrize("kind", paint.KINDS[1:], ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_kind_lies_on_the_ground(kind, seed):
    view = View(focal=500.0, horizon=100.0, centre=320.0)
    for corners, colour in kind(view, np.random.default_rng(seed)):
        assert np.isfinite(corners).all() and (corners[:, 1] > view.horizon).all()
        assert corners.shape[1] == 2 and colour.shape == (3,)


def test_a_kerb_gets_narrower_with_distance():
    view = View(focal=500.0, horizon=100.0, centre=320.0)
    parts = paint.kerb(view, np.random.default_rng(3))
    widths = [abs(corners[-1, 0] - corners[0, 0]) for corners, _ in parts]
    assert widths[0] > 3 * widths[-1] and np.all(np.diff(widths) < 0)
    assert not np.array_equal(parts[0][1], parts[1][1]) and np.array_equal(parts[0][1], parts[2][1])


def test_stains_are_grey_or_brown():
    view, brown = View(focal=500.0, horizon=100.0, centre=320.0), 0
    for seed in range(40):
        for _, (red, green, blue) in paint.patch(view, np.random.default_rng(seed)):
            assert red >= max(green, blue)
            brown += red > green
    assert brown
