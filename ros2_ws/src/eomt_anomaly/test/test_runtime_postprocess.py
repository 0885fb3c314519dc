# SPDX-License-Identifier: MIT
"""From logits to maps: against a plain reference, in memory, and for every score."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from runtime_reference import enlarge, join, naive, softmax

from eomt_anomaly.model import EomtExtOutput
from eomt_anomaly.model.scores import SCORES
from eomt_anomaly.runtime import InvalidImage, upsample
from eomt_anomaly.runtime.postprocess import exact, finish, finish_on_device, finite, fuse, publish
from eomt_anomaly.runtime.preprocess import Plan, cover, plan


def logits(queries=20, classes=6, size=(16, 24), sharp=6.0, seed=0, count=1):
    """Smooth random masks of contiguous regions, a few confident queries: shaped like a trained network's."""
    random = np.random.default_rng(seed)
    masks = enlarge(random.normal(0, 1, (count * queries, 4, 6)), size).reshape(count, queries, *size)
    return EomtExtOutput(torch.tensor(sharp * masks - 2, dtype=torch.float32),
                         torch.tensor(random.normal(0, 3, (count, queries, classes + 1))).float(),
                         torch.tensor(random.normal(0, 2, (count, queries, 3))).float())


def numpy_logits(output, i=0):
    return tuple(x[i].numpy().astype(np.float64) for x in
                 (output.mask_logits, output.class_logits, output.anomaly_logits))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1000))
def test_exact_is_the_naive_reference(height, width, seed):
    p, output = plan(height, width, 56, 14), logits(seed=seed)
    semantic, want = naive(*numpy_logits(output), (height, width))
    class_map, anomaly = (x.numpy() for x in exact(output, p, "eomt_ext"))
    np.testing.assert_allclose(anomaly, want, atol=1e-5)
    chosen = np.take_along_axis(semantic, class_map[None].astype(int), 0)[0]
    np.testing.assert_allclose(chosen, semantic.max(0), atol=1e-4)                # equal but for ties


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1000))
def test_fast_is_the_sum_at_mask_resolution_enlarged(height, width, seed):
    p, output = plan(height, width, 56, 14), logits(seed=seed)
    masks, classes, anomalies = numpy_logits(output)
    masks = 1 / (1 + np.exp(-masks))
    semantic = enlarge(np.tensordot(softmax(classes)[:, :-1].T, masks, 1), (height, width))
    want = 1 - np.exp(-enlarge(np.tensordot(softmax(anomalies)[None, :, 1], masks, 1), (height, width))[0])
    maps = fuse(output, "eomt_ext")
    for class_map, anomaly in (finish(maps.numpy(), p, "eomt_ext"), finish_on_device(maps, p, "eomt_ext")):
        class_map, anomaly = np.asarray(class_map), np.asarray(anomaly)
        assert class_map.dtype == np.uint8 and anomaly.dtype == np.float32
        np.testing.assert_allclose(anomaly, want, atol=2e-5)
        chosen = np.take_along_axis(semantic, class_map[None].astype(int), 0)[0]
        np.testing.assert_allclose(chosen, semantic.max(0), atol=1e-4)


@pytest.mark.parametrize("sharp, least, most", [(1.0, 0.999, 0.01), (6.0, 0.99, 0.08), (20.0, 0.95, 0.4)])
def test_fast_agrees_with_exact(sharp, least, most):
    """The price of speed: the sharper the masks, the more border pixels differ (docs/runtime.md)."""
    p, output = plan(128, 192, 56, 14), logits(queries=60, classes=11, size=(32, 48), sharp=sharp)
    want_class, want = (x.numpy() for x in exact(output, p, "eomt_ext"))
    got_class, got = finish(fuse(output, "eomt_ext").numpy(), p, "eomt_ext")
    assert (got_class == want_class).mean() >= least
    assert np.abs(got - want).max() <= most and np.abs(got - want).mean() <= most / 10


@pytest.mark.parametrize("score", SCORES)
def test_every_score_is_published_in_the_unit_interval_with_its_ranking(score):
    output = logits()
    raw = SCORES[score](output.mask_logits, output.class_logits, output.anomaly_logits)[0].numpy()
    p = plan(16, 24, 56, 14)                                   # mask size = image size: no enlarging
    _, slow = exact(output, p, score)
    _, fast = finish(fuse(output, score).numpy(), p, score)
    for anomaly in (slow.numpy(), fast):
        assert anomaly.min() >= 0 and anomaly.max() < 1
        order = np.argsort(raw.ravel(), kind="stable")
        assert (np.diff(anomaly.ravel()[order]) >= -1e-6).all()


@pytest.mark.parametrize("score", SCORES)
def test_published_scores_stay_below_one_whatever_comes(score):
    x = publish(score, torch.tensor([0.0, 1.0, 50.0, 1000.0]))
    assert (0 <= x).all() and (x < 1).all() and (x.diff() >= 0).all()
    assert x[0] == (0 if score in ("eomt_ext", "msp", "max_entropy") else 0.5), "the scale of thresholds"


@pytest.mark.parametrize("part", ["mask_logits", "class_logits", "anomaly_logits"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_seen_in_any_image_of_a_batch(part, value):
    output = logits(count=3)
    assert finite(output)
    getattr(output, part)[2].view(-1)[-1] = value
    assert not finite(output)


def test_windows_are_enlarged_first_and_then_averaged():
    p = plan(56, 100, 56, 14, mode="windows")
    assert p.corners == ((0, 0), (0, 44))
    maps = np.stack([np.full((2, 16, 16), value, np.float32) for value in (1, 3)])
    joined = -np.log1p(-finish(maps, p, "eomt_ext")[1])
    for columns, value in ((slice(44), 1), (slice(44, 56), 2), (slice(56, None), 3)):
        np.testing.assert_allclose(joined[:, columns], value, rtol=1e-5)


sides = st.integers(1, 70)
sizes = st.tuples(sides, sides)


@st.composite
def plans(draw):
    """One window; several beside or below each other; a grid of them; enlarged or shrunk."""
    image, window = draw(sizes), draw(sizes)
    kind = draw(st.sampled_from(("rectangle", "windows", "cover", "grid")))
    try:
        if kind == "cover":
            return cover(*image, window)
        if kind != "grid":
            return plan(*image, draw(sides), 14, kind)
    except InvalidImage:     # too many windows
        reject()
    starts = [(0, draw(st.integers(1, side))) for side in window]
    scaled = tuple(start[1] + side for start, side in zip(starts, window))
    return Plan(image, scaled, window, tuple((y, x) for y in starts[0] for x in starts[1]))


@pytest.fixture(scope="module")
def tiny_strips():
    """So that small images have many, which end anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsample, "STRIP", 7)
        yield


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(p=plans(), size=sizes, classes=st.integers(1, 8), seed=st.integers(0, 1000))
def test_strips_are_opencvs_bilinear_interpolation(tiny_strips, p, size, classes, seed):
    maps = np.random.default_rng(seed).random((len(p.corners), classes + 1, *size), np.float32)
    class_map, anomaly = finish(maps, p, "eomt_ext")
    want = np.stack([join(maps[:, k], p) for k in range(classes + 1)])                       # [C+1,H,W]
    np.testing.assert_allclose(anomaly, 1 - np.exp(-want[-1]), atol=1e-5)
    chosen = np.take_along_axis(want[:-1], class_map[None].astype(int), 0)[0]
    np.testing.assert_allclose(chosen, want[:-1].max(0), atol=1e-5)                          # but for ties


def test_the_first_of_equal_classes_is_chosen_in_every_strip_and_on_a_gpu():
    p, maps = plan(300, 200, 56, 14), np.ones((1, 5, 8, 8), np.float32)
    for highest, chosen in ((0, 0), (2, 3)):
        maps[:, 3] = highest
        for class_map, _ in (finish(maps, p, "eomt_ext"),
                             finish_on_device(torch.tensor(maps), p, "eomt_ext")):
            assert (class_map == chosen).all()


@pytest.mark.parametrize("threads", (1, 3))
def test_as_many_threads_work_as_torch_uses_and_change_no_map(threads, monkeypatch):
    p, before, asked, workers = plan(500, 400, 56, 14), torch.get_num_threads(), [], upsample._workers
    maps = fuse(logits(), "eomt_ext").numpy()
    want = finish(maps, p, "eomt_ext")
    monkeypatch.setattr(upsample, "_workers", lambda count: asked.append(count) or workers(count))
    torch.set_num_threads(threads)
    try:
        for got, same in zip(finish(maps, p, "eomt_ext"), want):
            np.testing.assert_array_equal(got, same)
    finally:
        torch.set_num_threads(before)
    assert asked == [threads]


def test_kernels_compile_where_nothing_can_be_kept():
    """Code without a file: Numba has no place for its cache, as where no folder can be written."""
    space = {}
    exec("def fill(x):\n    x[:] = 1", space)
    x = np.zeros(2, np.float32)
    upsample._compiled(space["fill"])(x)
    assert (x == 1).all()


def test_kernels_that_cannot_be_loaded_are_compiled_anew(monkeypatch, caplog):
    """As where a power cut left Numba's file empty: every later start and picture failed."""
    class Kept:
        def __call__(self, *arguments):
            raise EOFError("Ran out of input")

        @staticmethod
        def py_func(maps, row_indices, row_weights, column_indices, column_weights, best, last):
            best[:] = 7

    monkeypatch.setattr(upsample, "_enlarge_rows", Kept())
    upsample.warm_up()
    best, _ = upsample.enlarge(np.zeros((1, 2, 1, 1), np.float32), Plan((2, 3), (2, 3), (2, 3)))
    assert best.tolist() == [[7, 7, 7], [7, 7, 7]]
    assert "EOFError: Ran out of input" in caplog.text and "NUMBA_CACHE_DIR" in caplog.text


def test_a_process_that_ends_while_the_kernels_warm_up_says_nothing(monkeypatch, caplog):
    """As a script that only reads an engine's threshold: nothing is wrong with what Numba keeps."""
    class Ended:
        def map(self, *_):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    kernel = upsample._enlarge_rows
    monkeypatch.setattr(upsample, "_workers", lambda _: Ended())
    upsample.warm_up()
    assert not caplog.records and upsample._enlarge_rows is kernel


def test_windows_fast_on_device_and_exact_agree():
    p, output = plan(57, 130, 56, 14, mode="windows"), logits(size=(16, 16), sharp=1.0, count=3)
    assert len(p.corners) == 3
    want_class, want = (x.numpy() for x in exact(output, p, "eomt_ext"))
    maps = fuse(output, "eomt_ext")
    for class_map, anomaly in (finish(maps.numpy(), p, "eomt_ext"), finish_on_device(maps, p, "eomt_ext")):
        assert (np.asarray(class_map) == want_class).mean() > 0.98
        assert np.abs(np.asarray(anomaly) - want).max() < 0.03


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_extra_memory_for_two_megapixels_stays_below_100_mb():
    """Peak resident memory of a fresh process beyond the network's output; 100 queries, 19 classes."""
    code = textwrap.dedent("""
        import numpy as np, torch
        from eomt_anomaly.model import EomtExtOutput
        from eomt_anomaly.runtime.preprocess import *
        from eomt_anomaly.runtime.postprocess import *
        def memory(key):
            return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith(key)) / 1024
        normalize = Normalizer((.5, .5, .5), (.2, .2, .2), torch.float32)
        def run(mode, height, width, side):
            p = plan(height, width, side, 14, mode)
            image = np.ones((height, width, 3), np.uint8)
            h, w = (s // 14 * 4 for s in p.window)
            n = len(p.corners)
            output = EomtExtOutput(torch.randn(n, 100, h, w), torch.randn(n, 100, 20), torch.randn(n, 100, 3))
            before = memory("VmRSS")
            network_input(image, p, normalize)
            finish(fuse(output, "eomt_ext").numpy(), p, "eomt_ext")
            return memory("VmHWM") - before
        run("windows", 64, 128, 56)                         # loads libraries and starts threads
        print(run("rectangle", 1024, 2048, 476), run("windows", 1024, 2048, 476))
    """)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert max(map(float, out.stdout.split())) < 100, out.stdout
