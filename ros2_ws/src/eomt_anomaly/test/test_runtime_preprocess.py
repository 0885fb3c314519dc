# SPDX-License-Identifier: MIT
"""Geometry and normalisation of the network's input."""

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from runtime_reference import picture

from eomt_anomaly.runtime import InvalidImage
from eomt_anomaly.runtime.preprocess import (
    MOST_WINDOWS,
    WIDEST,
    Normalizer,
    cover,
    network_input,
    plan,
    resize,
    resize_on_device,
)

SIDES, SMALL = st.integers(1, 5000), st.integers(1, 90)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@given(SIDES, SIDES, st.sampled_from((14, 28, 56, 100, 476)), st.sampled_from((14, 16)))
def test_rectangle_is_whole_patches_bounded_and_keeps_the_aspect(height, width, side, patch):
    p = plan(height, width, side, patch)
    rows, columns = p.window[0] / patch, p.window[1] / patch
    grid = max(1, round(side / patch))
    assert rows >= 1 and columns >= 1 and rows == int(rows) and columns == int(columns)
    assert rows * columns <= WIDEST * grid * grid
    if max(height, width) <= WIDEST * min(height, width) / 1.2:
        assert min(rows, columns) == grid
        assert max(rows, columns) == pytest.approx(grid * max(height, width) / min(height, width), abs=0.51)
    assert p.scaled == p.window and p.corners == ((0, 0),) and p.image == (height, width)


@given(SIDES, SIDES, st.integers(1, 300))
def test_max_tokens_is_never_exceeded(height, width, limit):
    p = plan(height, width, 476, 14, max_tokens=limit)
    assert p.window[0] * p.window[1] <= limit * 14 * 14


def test_common_sizes():
    assert plan(360, 640, 476, 14).window == (476, 840)
    assert plan(1024, 2048, 476, 14).window == (476, 952)
    assert plan(360, 640, 252, 14).window == (252, 448)


@given(st.integers(1, 600), st.integers(1, 600), st.sampled_from((28, 56)))
def test_windows_cover_every_pixel_with_squares(height, width, side):
    try:
        p = plan(height, width, side, 14, mode="windows")
    except InvalidImage:                            # see the next test
        reject()
    seen = np.zeros(p.scaled, int)
    for crop in p.crops():
        assert seen[crop].shape == (side, side) == p.window
        seen[crop] += 1
    assert seen.min() == 1 or len(p.corners) > 1 and seen.min() >= 1
    assert min(p.scaled) == side


@pytest.mark.parametrize("height, width", [(10, 161), (161, 10), (1, 1000), (10, 10_000)])
def test_windows_are_not_without_end(height, width):
    words = f"{height}x{width} px and would need .* windows .*mode='rectangle'"
    for show in (lambda h, w: plan(h, w, 476, 14, "windows"), lambda h, w: cover(h, w, (56, 56), slack=13)):
        with pytest.raises(InvalidImage, match=words):
            show(height, width)
        assert len(show(10, 160).corners) == len(show(160, 10).corners) == MOST_WINDOWS
    assert len(plan(height, width, 476, 14).corners) == 1, "a rectangle is shrunk instead"


def test_the_last_window_ends_where_the_image_does():
    """At 56x171 the last start is 114.99999999999999 in floats: a column that nobody saw would be NaN."""
    assert plan(56, 171, 56, 14, mode="windows").corners[-1] == (0, 115)


def test_published_window_example():
    p = plan(1024, 2048, 1024, 16, mode="windows")
    assert p.scaled == (1024, 2048) and p.corners == ((0, 0), (0, 1024))


@pytest.mark.parametrize("writeable", [True, False])
def test_normalisation(writeable):
    image = picture(28, 42)
    image.flags.writeable = writeable
    got = network_input(image, plan(28, 42, 28, 14), Normalizer(MEAN, STD, torch.float32))
    want = (image / 255 - np.array(MEAN)) / np.array(STD)
    assert got.shape == (1, 3, 28, 42)
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), want, atol=1e-5)


def test_shrinking_averages_areas():
    image = np.zeros((56, 56, 3), np.uint8)
    image[::2, ::2] = 200                                    # a quarter of the pixels: 50 on average
    got = network_input(image, plan(56, 56, 28, 14), Normalizer((0, 0, 0), (1, 1, 1), torch.float32))
    np.testing.assert_allclose(got.numpy(), 50 / 255, atol=1e-6)


@given(st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL))
def test_a_gpu_resizes_as_the_cpu_does(size, wanted):
    """Thresholds are calibrated on one and used on the other. Here and there a byte is rounded otherwise."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    on_device = resize_on_device(torch.from_numpy(image).permute(2, 0, 1)[None].float(), wanted)
    assert on_device.shape == (1, 3, *wanted)
    off = np.abs(on_device[0].permute(1, 2, 0).numpy() - resize(image, wanted))
    assert off.max() <= 1 and np.array_equal(on_device, on_device.round())
