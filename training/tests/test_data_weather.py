# SPDX-License-Identifier: MIT
"""Degradations keep size and type, follow the seed, grow with severity, and leave the road visible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_training.data.weather import DEGRADATIONS, degraded


def street(height=72, width=96):
    """Sky over a road with a lighter marking, with texture."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[: int(0.4 * height)] = (150, 190, 230)
    image[int(0.5 * height) :, width // 2 : width // 2 + 6] = 210
    return image + np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DEGRADATIONS),
    st.floats(0, 1),
    st.integers(0, 10_000),
    st.sampled_from([(1, 1), (7, 40), (60, 33)]),
)
def test_every_picture_keeps_its_size_and_type(kind, severity, seed, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    before = image.copy()
    out = degraded(image, kind, severity, seed)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert (image == before).all(), "the source is untouched"
    assert (out == degraded(image, kind, severity, seed)).all(), "the same seed gives the same picture"


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_severity_starts_near_nothing_and_grows(kind):
    image = street()

    def change(severity):
        return np.mean(
            [
                np.abs(degraded(image, kind, severity, (seed, 7)) - image.astype(int)).mean()
                for seed in range(8)
            ]
        )

    assert change(0) < 6 and change(0) < change(0.4) < change(1.0) and change(1.0) > 4


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_the_road_stays_visible_at_full_severity(kind):
    image = street(144, 192)
    for seed in range(5):
        grey = degraded(image, kind, 1.0, seed).astype(float).mean(2)
        near = grey[110:]
        assert near[:, 96:102].mean() > near[:, 60:90].mean() + 3, "the marking is brighter than the road"


def test_named_errors():
    image = street()
    with pytest.raises(ValueError, match="unknown degradation 'hail': choose one of dark"):
        degraded(image, "hail", 0.5, 0)
    with pytest.raises(ValueError, match=r"severity = 3: give a number in \[0, 1\]"):
        degraded(image, "fog", 3, 0)
    with pytest.raises(ValueError, match="float64"):
        degraded(image / 255, "fog", 0.5, 0)
