# SPDX-License-Identifier: MIT
"""The second look: where its windows lie, and what it makes of the first one."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime_reference import picture, tiny_model

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.cuda import CudaPipeline
from eomt_anomaly.runtime.network import prepare
from eomt_anomaly.runtime.second_look import (
    FARTHER,
    MOST,
    STEPS,
    ZOOM,
    boxes_of_all_windows,
    look_again,
    windows,
    zoom,
)
from eomt_anomaly.runtime.streams import InlineStreams


@st.composite
def pictures_with_boxes(draw):
    height, width = draw(st.integers(8, 800)), draw(st.integers(8, 800))
    boxes = []
    for _ in range(draw(st.integers(1, 8))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))))
    return height, width, boxes, draw(st.sampled_from((1.0, 16 / 9, 0.75)))


@given(pictures_with_boxes())
def test_windows_lie_in_the_picture_and_boxes_in_windows(drawn):
    height, width, boxes, aspect = drawn
    found = windows(boxes, height, width, ZOOM, aspect)
    largest = min(height, width / aspect)
    assert 1 <= len(found) <= MOST
    for x, y, w, h in found:
        assert 0 <= x and 0 <= y and x + w <= width and y + h <= height and w > 0 and h > 0
        assert int(largest / ZOOM) <= h <= largest and abs(w - h * aspect) <= 1 + aspect
    assert len({h for *_, h in found}) <= STEPS
    x, y, w, h = boxes[0]
    if w <= int(int(largest / ZOOM) * aspect) and h <= int(largest / ZOOM):
        assert any(a <= x and b <= y and x + w <= a + c and y + h <= b + d for a, b, c, d in found)


def test_two_boxes_side_by_side_share_a_window():
    assert len(windows([(100, 100, 10, 10), (120, 104, 10, 10)], 360, 640)) == 1
    assert len(windows([(100, 100, 10, 10), (500, 104, 10, 10)], 360, 640)) == 2


class Bright:
    """An engine for which brightness is anomaly; it keeps the images it was given, and has memory for one."""

    aspect, zoom = 1.0, ZOOM

    def __init__(self):
        self.images = []

    def infer(self, images):
        assert len(images) == 1
        self.images += images
        return [SimpleNamespace(anomaly=np.asarray(image)[..., 0].astype(np.float32) / 255)
                for image in images]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_inside_windows_the_looks_are_averaged_and_outside_the_first_stays(kind):
    image = np.zeros((80, 160, 3), np.uint8)
    image[30:40, 20:30] = 255
    first = np.full((80, 160), 0.6, np.float32)
    kept, engine = first.copy(), Bright()
    box = (20, 30, 10, 10)
    refined = look_again(engine, kind(image), first, [box])
    (x, y, w, h), = windows([box], 80, 160)
    assert [tuple(seen.shape) for seen in engine.images] == [(h, w, 3)]
    assert refined.dtype == np.float32 and np.array_equal(first, kept)
    expected = first.copy()
    expected[y:y + h, x:x + w] = 0.3
    expected[30:40, 20:30] = 0.8
    assert np.allclose(refined, expected)


@pytest.mark.parametrize("seen", [(0.4, 0.8), (0.8, 0.4)])
def test_where_windows_overlap_the_higher_second_value_counts(seen):
    class Told(Bright):
        def infer(self, images):
            super().infer(images)
            value = seen[len(self.images) - 1]
            return [SimpleNamespace(anomaly=np.full(images[0].shape[:2], value, np.float32))]
    boxes = [(40, 30, 10, 10), (70, 30, 10, 10)]
    one, two = windows(boxes, 80, 160)
    refined = look_again(Told(), np.zeros((80, 160, 3), np.uint8), np.zeros((80, 160), np.float32), boxes)
    assert one[0] + one[2] > two[0], "they overlap"
    places = one[0], two[0], two[0] + two[2] - 1           # the first window's, both windows', the second's
    assert np.allclose([refined[40, x] for x in places], [seen[0] / 2, 0.4, seen[1] / 2])


def test_a_network_looks_from_closer_until_things_are_as_large_as_in_training_and_else_from_farther():
    assert zoom(252, 476) == 2.0 and zoom(364, 476) == pytest.approx(1.25 * 476 / 364)
    assert zoom(476, 476) == zoom(640, 476) == FARTHER


def test_from_farther_only_the_boxes_and_what_is_around_them_is_averaged():
    class Distant(Bright):
        zoom = FARTHER

        def infer_farther(self, image):
            return self.infer([image])[0]

    image, engine = np.full((80, 160, 3), 51, np.uint8), Distant()
    first = np.full((80, 160), 0.6, np.float32)
    kept = first.copy()
    refined = look_again(engine, image, first, [(20, 30, 10, 20), (150, 70, 10, 10)])
    expected = first.copy()
    expected[20:60, 15:35] = expected[65:80, 145:160] = 0.4      # twice the boxes, where there is room
    assert refined.dtype == np.float32 and np.allclose(refined, expected) and np.array_equal(first, kept)
    assert len(engine.images) == 1, "one look for all boxes"


def test_what_can_look_from_nowhere_else_gives_the_first_map_back():
    engine, first = Bright(), np.zeros((80, 160), np.float32)
    engine.zoom = 1.0
    assert look_again(engine, np.zeros((80, 160, 3), np.uint8), first, [(1, 1, 5, 5)]) is first
    assert not engine.images


@pytest.mark.parametrize("device", ["cpu", "cuda twin"])
def test_from_farther_the_engine_is_one_of_half_the_size(device):
    model, image = tiny_model(), picture(90, 120)
    with Engine(model, device="cpu", precision="fp32", short_side=28) as small:
        expected = small.infer([image])[0].anomaly
    with Engine(model, device="cpu", precision="fp32") as engine:
        if device != "cpu":
            network = prepare(model, "fp32", torch.device("cpu"))
            setup = replace(engine._pipeline.setup, network=network, raw_pixels=False)
            engine._pipeline = CudaPipeline(setup, InlineStreams())
            engine._farther = engine._pipeline.at(30)
        first = engine.infer([image])[0].anomaly
        for _ in range(3):                                       # eager, captured, replayed
            refined = engine.look_again(image, first, [(0, 0, 120, 90)])
            np.testing.assert_allclose(refined, (first + expected) / 2, atol=3e-3)
        assert engine.zoom == FARTHER and np.abs(first - expected).max() > 0.02
    with pytest.raises(RuntimeError, match="closed"):
        engine.infer_farther(image)


def test_an_engine_that_looks_from_closer_says_that_it_cannot_from_farther():
    model = EomtExt(EomtExtConfig.preset("tiny", image_size=56))
    with Engine(model, device="cpu", precision="fp32", short_side=28) as engine, \
            pytest.raises(ValueError, match="zoom is 2"):
        engine.infer_farther(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize("short_side, look", [(28, "closer"), (56, "farther")])
def test_a_second_look_meets_no_input_that_the_warm_up_has_not_met(short_side, look):
    """Else torch.compile begins in the midst of a drive, and its half a minute looks like a hang."""
    inputs = set()
    with Engine(EomtExt(EomtExtConfig.preset("tiny", image_size=56)), device="cpu", precision="fp32",
                short_side=short_side) as engine:
        engine._pipeline.setup.network.register_forward_pre_hook(
            lambda network, arguments: inputs.add(arguments[0].shape))
        engine.warmup([(90, 160)])
        warm = set(inputs)
        for size in (8, 40, 70):
            engine.look_again(np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160), np.float32),
                              [(10, 10, size, size), (150 - size, 80 - size, size, 9)])
    assert inputs == warm and (engine.zoom > 1) == (look == "closer")


def test_on_a_gpu_a_drive_meets_no_batch_and_no_window_that_the_warm_up_has_not_met():
    """Else a CUDA graph is captured in the very frame in which something new appears."""
    model = EomtExt(EomtExtConfig.preset("tiny", image_size=56))
    with Engine(model, device="cpu", precision="fp32", short_side=28) as engine:
        setup = replace(engine._pipeline.setup, network=prepare(model, "fp32", torch.device("cpu")),
                        raw_pixels=False)
        engine._pipeline, engine.batched = CudaPipeline(setup, InlineStreams()), True
        engine.warmup([(90, 160)], batch=3)
        warm = engine._pipeline.replayed()
        for size in (1, 8, 25, 29, 34, 40, 44, 70, 90):
            engine.look_again(np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160), np.float32),
                              [(10, 0, size, size), (150 - size, 0, size, 9)])
        for count in (1, 2, 3):
            engine.infer([picture(90, 160)] * count)
        assert set(engine._pipeline.replayed()) == set(warm) == set(engine._pipeline._run._shapes)
        assert len(warm) == 3 + STEPS // 2 + 1


@given(st.integers(160, 2000), st.integers(160, 2000), st.floats(1.01, 2.0), st.floats(0.5, 3.0))
def test_boxes_of_all_windows_have_the_sizes_that_windows_gives(height, width, closer, aspect):
    def sizes(boxes):
        return {windows([box], height, width, closer, aspect)[0][2:] for box in boxes}

    known = sizes(boxes_of_all_windows(height, width, closer, aspect))
    assert sizes([(0, 0, extent, extent) for extent in range(1, max(height, width) + 1, 7)]) <= known


def test_the_engine_sees_the_window_as_an_image_of_its_own():
    torch.manual_seed(0)
    model = EomtExt(EomtExtConfig.preset("tiny", image_size=56)).eval()
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    box = (50, 40, 8, 8)
    with Engine(model, device="cpu", precision="fp32", short_side=28) as engine:
        first = engine.infer([image])[0].anomaly
        refined = engine.look_again(image, first, [box])
        (x, y, w, h), = windows([box], 90, 120, engine.zoom)
        inside = np.s_[y:y + h, x:x + w]
        window = engine.infer([np.ascontiguousarray(image[inside])])[0].anomaly
    assert engine.zoom == 2.0 and (w, h) == (45, 45)
    assert np.array_equal(refined[inside], (first[inside] + window) / 2)
    refined[inside] = first[inside]
    assert np.array_equal(refined, first)
