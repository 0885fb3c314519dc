# SPDX-License-Identifier: MIT
"""The engine as users meet it: any picture in, maps out, clear errors; the CUDA pipeline's logic on a CPU."""

import contextlib
import copy
import json
import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_reference import naive, picture, tiny_model
from torch import nn

from eomt_anomaly.model import EomtExt
from eomt_anomaly.runtime import Engine, InvalidImage, NonFiniteOutput, upsample
from eomt_anomaly.runtime import checkpoints as checkpoints_module
from eomt_anomaly.runtime.cuda import CudaPipeline
from eomt_anomaly.runtime.network import DTYPES, prepare
from eomt_anomaly.runtime.pipeline import Setup
from eomt_anomaly.runtime.preprocess import Normalizer, network_input, plan
from eomt_anomaly.runtime.streams import InlineStreams

MODEL = tiny_model()


@pytest.fixture(scope="module")
def engine():
    with Engine(MODEL, device="cpu", precision="fp32") as engine:
        yield engine


def cuda_twin(precision="fp32", mode="rectangle", slots=3, model=MODEL):
    network = prepare(model, precision, torch.device("cpu"))
    setup = Setup(network, DTYPES[precision], precision == "exact", "eomt_ext", 56, mode, None)
    return CudaPipeline(setup, InlineStreams(), slots)


def same(a, b, tolerance=1e-5):
    return (a.class_map == b.class_map).mean() > 0.995 and np.abs(a.anomaly - b.anomaly).max() < tolerance


@pytest.mark.parametrize("decoder", ["joint", "cross_attention"])
@pytest.mark.parametrize("size", [(56, 56), (90, 161), (200, 120)])
def test_exact_is_the_model_and_the_naive_reference(size, decoder):
    model, image = tiny_model(decoder=decoder), picture(*size)
    p = plan(*size, 56, 14)
    config = model.config
    with torch.inference_mode():
        normalize = Normalizer(config.pixel_mean, config.pixel_std, torch.float32)
        output = model(network_input(image, p, normalize))
    parts = (x[0].numpy().astype(np.float64) for x in (
        output.mask_logits, output.class_logits, output.anomaly_logits))
    semantic, anomaly = naive(*parts, size)
    assert len(np.unique(semantic.argmax(0))) > 1 and np.ptp(anomaly) > 0.05   # something to agree on
    with Engine(model, device="cpu", precision="exact") as engine:
        got = engine.infer([image])[0]
    np.testing.assert_allclose(got.anomaly, anomaly, atol=1e-4)
    assert (got.class_map == semantic.argmax(0)).mean() > 0.999
    with Engine(model, device="cpu", precision="fp32") as engine:
        fast = engine.infer([image])[0]
    assert (fast.class_map == got.class_map).mean() > 0.9 and np.abs(fast.anomaly - got.anomaly).mean() < 0.05


@pytest.fixture(scope="module")
def engines():
    """One for each mode."""
    made = {mode: Engine(MODEL, device="cpu", precision="fp32", mode=mode)
            for mode in ("rectangle", "windows")}
    yield made
    for engine in made.values():
        engine.close()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 400), turn=st.booleans())
def test_any_size(engines, height, width, turn):
    size = (width, height) if turn else (height, width)
    mode = "windows" if height > 60 and max(size) <= 16 * min(size) else "rectangle"
    got = engines[mode].infer([picture(*size)])[0]
    assert got.class_map.shape == got.anomaly.shape == size
    assert got.class_map.dtype == np.uint8 and got.anomaly.dtype == np.float32
    assert got.class_map.max() < 5 and 0 <= got.anomaly.min() and got.anomaly.max() < 1


def test_a_mixed_batch_is_each_image_alone(engine):
    images = [picture(*size, seed=i) for i, size in enumerate([(60, 80), (33, 200), (60, 80), (5, 5)])]
    together = engine.infer(images)
    for image, got in zip(images, together):
        assert same(engine.infer([image])[0], got)
        assert set(got.timings_ms) == {"preprocess", "forward", "postprocess", "total"}
    assert engine.infer([]) == []


def test_the_model_handed_in_is_left_as_it_was():
    before = {k: v.clone() for k, v in MODEL.state_dict().items()}
    with Engine(MODEL, device="cpu", precision="bf16") as engine:
        engine.infer([picture(30, 40)])
    assert all(torch.equal(v, before[k]) for k, v in MODEL.state_dict().items())


FLOAT32 = {"CUDA products": torch.backends.cuda.matmul, "cuDNN convolutions": torch.backends.cudnn.conv,
           "cuDNN recurrence": torch.backends.cudnn.rnn, "CPU products": torch.backends.mkldnn.matmul,
           "CPU convolutions": torch.backends.mkldnn.conv, "CPU recurrence": torch.backends.mkldnn.rnn}


@pytest.fixture
def float32_settings():
    """torch's settings of float32's precision as they were, after a test."""
    before = {name: operations.fp32_precision for name, operations in FLOAT32.items()}
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = "none"
    for name, operations in FLOAT32.items():
        operations.fp32_precision = before[name]


def lower(way):
    if way == "fit.py's":
        torch.set_float32_matmul_precision("high")
    elif way == "lowest":
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
    elif way == "newer":
        torch.backends.fp32_precision = "tf32"
        for operations in FLOAT32.values():
            operations.fp32_precision = "tf32"


@pytest.mark.parametrize("precision", ["exact", "fp32"])
@pytest.mark.parametrize("way", ["torch's own", "fit.py's", "lowest", "newer"])
def test_float32_is_not_tf32_whatever_the_process_asked_for(way, precision, float32_settings):
    """What a GPU would multiply with is a setting of the process; it can be read where there is none."""
    lower(way)
    with Engine(MODEL, device="cpu", precision=precision):
        pass
    assert {name: operations.fp32_precision for name, operations in FLOAT32.items()} == dict.fromkeys(
        FLOAT32, "ieee")
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32, "and torch can tell: convolutions and recurrence agree"


class Elsewhere(EomtExt):
    """A model on another device, which only moving it brings here (`meta` stands in for CUDA)."""

    def to(self, *args, **kwargs):
        if self.class_head.weight.is_meta:
            self.to_empty(device="cpu").load_state_dict(MODEL.state_dict())
        return super().to(*args, **kwargs)


@pytest.mark.parametrize("precision", ["exact", "fp32", "bf16"])
def test_a_model_from_another_device_is_moved_before_anything_is_made_of_its_weights(precision):
    model, cpu, raw = Elsewhere(MODEL.config), torch.device("cpu"), precision != "exact"
    nn.Module.to(model, "meta")
    pixels = torch.randint(-128, 128, (1, 3, 56, 56), dtype=torch.int8)
    pixels = pixels if raw else pixels.float()
    with torch.inference_mode():
        got, want = (prepare(m, precision, cpu, raw)(pixels).mask_logits for m in (model, MODEL))
    assert torch.equal(got, want) and model.class_head.weight.is_meta, "the model itself stays there"


def test_bf16_is_close_to_fp32(engine):
    image = picture(90, 160)
    want = engine.infer([image])[0]
    with Engine(MODEL, device="cpu", precision="bf16") as other:
        got = other.infer([image])[0]
    assert other.precision == "bf16"
    assert (got.class_map == want.class_map).mean() > 0.95
    assert np.abs(got.anomaly - want.anomaly).mean() < 0.03


@pytest.mark.parametrize("dense", [False, True])
def test_the_bf16_network_of_a_cpu_rounds_no_worse_than_torch_does(dense):
    model = tiny_model(dense_anomaly=dense)
    pixels = torch.randn(2, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = model(pixels)
        torchs = copy.deepcopy(model).bfloat16()(pixels.bfloat16())
        ours = prepare(model, "bf16", torch.device("cpu"))(pixels.bfloat16())
    for part in ("mask_logits", "class_logits", "anomaly_logits"):
        reference = getattr(want, part)
        error, allowed = ((getattr(x, part).float() - reference).abs().mean() for x in (ours, torchs))
        assert error < max(1.5 * allowed, 1e-3 * reference.abs().mean()), part
    assert ours.mask_logits.dtype == torch.float32


@pytest.mark.parametrize("image, words", [
    (np.zeros((8, 8, 3), np.float32), "float32"), (np.zeros((8, 8), np.uint8), "(8, 8)"),
    (np.zeros((8, 8, 4), np.uint8), "(8, 8, 4)"), (np.zeros((0, 8, 3), np.uint8), "at least 1 px"),
    ([[1]], "list"), (None, "NoneType")])
def test_bad_images_are_refused_with_the_reason(engine, image, words):
    with pytest.raises(InvalidImage) as error:
        engine.infer([picture(8, 8), image])
    assert words in str(error.value) and isinstance(error.value, ValueError)


@pytest.mark.parametrize("twin", [False, True], ids=["cpu", "cuda"])
def test_a_picture_of_too_many_windows_is_refused_and_the_next_one_is_not(twin):
    with Engine(MODEL, device="cpu", precision="fp32", mode="windows") as engine:
        pipeline = cuda_twin(mode="windows") if twin else engine._pipeline
        with pytest.raises(InvalidImage, match="2x2000 px and would need 1000 windows"):
            pipeline.result(pipeline.submit([picture(56, 84), picture(2, 2000)]))
        assert pipeline.result(pipeline.submit([picture(56, 84)]))[0].anomaly.shape == (56, 84)


def test_views_of_other_pictures_are_read_rightly(engine):
    image = picture(60, 80)
    padded = np.zeros((60, 99, 3), np.uint8)
    padded[:, :80] = image
    assert same(engine.infer([padded[:, :80]])[0], engine.infer([image])[0])
    assert same(engine.infer([image[:, ::-1]])[0], engine.infer([image[:, ::-1].copy()])[0])
    frozen = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    assert same(engine.infer([frozen])[0], engine.infer([image])[0])


@pytest.mark.parametrize("parameter", ["class_head.bias", "mask_head.fc3.bias", "anomaly_head.fc2.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_gives_nan_is_not_believed(parameter, value):
    broken = tiny_model()
    broken.get_parameter(parameter).data[0] = value
    with Engine(broken, device="cpu", precision="fp32") as engine, pytest.raises(NonFiniteOutput):
        engine.infer([picture(30, 40)])
    twin = cuda_twin(model=broken)
    with pytest.raises(NonFiniteOutput):
        twin.result(twin.submit([picture(30, 40)]))


def test_submissions_overlap_and_keep_their_order(engine):
    images = [picture(40 + i, 60, seed=i) for i in range(5)]
    tickets = [engine.submit([image]) for image in images]
    for image, ticket in reversed(list(zip(images, tickets))):
        assert same(engine.result(ticket)[0], engine.infer([image])[0])


def test_any_thread_may_call(engine):
    image, results = picture(60, 80), {}
    want = engine.infer([image])[0]

    def work(i):
        results[i] = engine.infer([image])[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4 and all(same(want, r) for r in results.values())


@pytest.mark.parametrize("precision", ["fp32", "exact"])
@pytest.mark.parametrize("mode", ["rectangle", "windows"])
def test_cuda_pipeline_gives_what_the_cpu_pipeline_gives(precision, mode):
    """Run inline on the CPU: numbers, grouping, order; a missing wait between streams cannot show."""
    images = [picture(*size, seed=i) for i, size in enumerate([(56, 84), (90, 161), (56, 84), (30, 20)])]
    twin = cuda_twin(precision, mode)
    with Engine(MODEL, device="cpu", precision=precision, mode=mode) as engine:
        for got, want in zip(twin.result(twin.submit(images)), engine.infer(images)):
            assert got.anomaly.shape == want.anomaly.shape and got.class_map.dtype == np.uint8
            assert np.abs(got.anomaly - want.anomaly).max() < 3e-3            # bytes are rounded otherwise
            assert (got.class_map == want.class_map).mean() > 0.99
            assert set(got.timings_ms) == {"upload", "compute", "download", "total"}


def test_modes_of_the_caller_do_not_reach_the_cuda_pipeline():
    """Its work runs in the caller's thread, where torch keeps them; that of a CPU has a thread of its own."""
    image, twin = picture(60, 80), cuda_twin()
    want = cuda_twin().result(cuda_twin().submit([image]))[0]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = [twin.result(twin.submit([image]))[0] for _ in range(3)]     # eager, captured, replayed
    outside = [twin.result(twin.submit([image]))[0] for _ in range(3)]        # the same buffers once more
    for got in inside + outside:
        assert np.array_equal(got.class_map, want.class_map) and np.array_equal(got.anomaly, want.anomaly)


class Timetable(InlineStreams):
    """Each queue has a clock of its own, which work moves on by a time we know."""

    TAKES = {"copy_in": 1.0, "compute": 10.0, "copy_out": 2.0}

    def __init__(self):
        super().__init__()
        self.clock = dict.fromkeys(self.TAKES, 0.0)

    @contextlib.contextmanager
    def on(self, queue):
        yield
        self.clock[queue] += self.TAKES[queue]

    def mark(self, queue):
        return self.clock[queue]

    def wait(self, queue, event):
        self.clock[queue] = max(self.clock[queue], event)

    def milliseconds(self, start, end):
        return end - start


def test_times_of_the_cuda_pipeline_are_of_a_batchs_own_work():
    """The second batch is uploaded at once and waits for the first one's network: no time of its own."""
    setup = Setup(prepare(MODEL, "fp32", torch.device("cpu")), torch.float32, False, "eomt_ext", 56,
                  "rectangle", None)
    pipeline = CudaPipeline(setup, Timetable(), graphs=False)
    handles = [pipeline.submit([picture(40, 60)] * count) for count in (1, 1, 2)]
    for handle, share in zip(handles, (1, 1, 2)):
        for prediction in pipeline.result(handle):
            assert prediction.timings_ms == {
                "upload": 1 / share, "compute": 10 / share, "download": 2 / share, "total": 13 / share}


class Ordered(InlineStreams):
    """Queues as a GPU has them: work sees what another queue, or the host, waited for, and nothing else."""

    def __init__(self):
        super().__init__()
        self.seen = {name: frozenset() for name in ("copy_in", "compute", "copy_out", "host")}
        self.work, self.kept = [], []

    @contextlib.contextmanager
    def on(self, queue):
        self.work.append((queue, self.seen[queue], self.seen["host"]))
        yield
        self.seen[queue] |= {len(self.work) - 1}

    def mark(self, queue):
        return self.seen[queue]

    def wait(self, queue, event):
        self.seen[queue] |= event

    def finish(self, event):
        self.seen["host"] |= event

    def milliseconds(self, start, end):
        return 0.0

    def keep(self, tensor, queue):
        self.kept.append((queue, tensor.numel()))


def test_no_stream_of_the_cuda_pipeline_runs_ahead_of_what_it_reads_or_overwrites():
    """On a GPU a missing wait shows as another picture's maps, now and then; here nothing would differ."""
    setup = Setup(prepare(MODEL, "fp32", torch.device("cpu")), torch.float32, False, "eomt_ext", 56,
                  "rectangle", None)
    streams = Ordered()
    pipeline = CudaPipeline(setup, streams, slots=1, graphs=False)
    for _ in range(3):
        pipeline.submit([picture(40, 60)])
    assert [queue for queue, *_ in streams.work] == ["copy_in", "compute", "copy_out"] * 3
    for number, (queue, seen, host) in enumerate(streams.work):
        if queue == "copy_in":
            assert host >= set(range(number)), "both of the slot's buffers are free"
        else:
            assert number - 1 in seen
    assert streams.kept == [("compute", 3 * 40 * 60), ("copy_out", 5 * 40 * 60 + 1)] * 3


def test_cuda_ring_is_reused_and_results_outlive_it():
    twin = cuda_twin(slots=2)
    images = [picture(20 + 9 * i, 50, seed=i) for i in range(6)]
    handles = [twin.submit([image, image]) for image in images]               # three times around the ring
    for image, handle in reversed(list(zip(images, handles))):
        alone = twin.result(twin.submit([image]))[0]
        for got in twin.result(handle) + twin.result(handle):
            assert same(got, alone)
    twin.close()


def test_checkpoint_folder_identity_and_calibration(tmp_path):
    MODEL.save_pretrained(tmp_path / "mine", dtype=torch.float32)
    with Engine(tmp_path / "mine", device="cpu", precision="fp32") as plain:
        assert plain.threshold is None and plain.calibration == {} and plain.score == "eomt_ext"
        assert plain.model_id == f"mine-{plain.checkpoint_sha256[:8]}" and len(plain.checkpoint_sha256) == 64
        assert [label.name for label in plain.labels] == [f"c{i}" for i in range(5)]
        assert plain.drivable_ids == (2,)
        assert plain.device == "cpu" and plain.short_side == 56
        assert plain.grid == 56 // MODEL.config.patch_size and not plain.batched
        image = picture(40, 70)
        with Engine(MODEL, device="cpu", precision="fp32") as memory:
            assert same(plain.infer([image])[0], memory.infer([image])[0])
    calibration = {"score": "rba", "threshold": 0.4, "method": "quantile", "dataset": "x"}
    (tmp_path / "mine" / "calibration.json").write_text(json.dumps(calibration))
    with Engine(str(tmp_path / "mine"), device="cpu") as engine:
        assert (engine.score, engine.threshold, engine.calibration) == ("rba", 0.4, calibration)
    with Engine(tmp_path / "mine", device="cpu", score="msp") as engine:
        assert engine.threshold is None                # a threshold of another score would mean nothing


def test_the_calibration_of_the_size_it_runs_at_counts(tmp_path):
    MODEL.save_pretrained(tmp_path, dtype=torch.float32)
    small = {"score": "eomt_ext", "threshold": 0.3, "short_side": 28}
    large = {"score": "eomt_ext", "threshold": 0.4, "short_side": 56, "other_sizes": [small]}
    (tmp_path / "calibration.json").write_text(json.dumps(large))
    for short_side, threshold, made_at in ((None, 0.4, 56), (28, 0.3, 28), (42, 0.4, 56)):
        with Engine(tmp_path, device="cpu", short_side=short_side) as engine:
            assert (engine.threshold, engine.calibration["short_side"]) == (threshold, made_at)
    with Engine(tmp_path, device="cpu", score="msp", short_side=28) as engine:
        assert engine.threshold is None


@pytest.mark.parametrize("text", ["{", "[]", '{"score": "best", "threshold": 0.5}', '{"score": "rba"}',
                                  '{"score": "rba", "threshold": 1.5}', '{"score": "rba", "threshold": NaN}',
                                  '{"score": "rba", "threshold": 0.5, "weights_sha256": "of another"}',
                                  '{"score": "rba", "threshold": 0.5, "other_sizes": {}}',
                                  '{"score": "rba", "threshold": 0.5, "other_sizes": [{"threshold": 0.5}]}'])
def test_a_bad_calibration_is_refused(tmp_path, text):
    MODEL.save_pretrained(tmp_path)
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match="calibration"):
        Engine(tmp_path, device="cpu")


@pytest.mark.parametrize("checkpoint", ["", None])
def test_no_checkpoint_means_the_one_in_the_package(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setattr(checkpoints_module, "default_checkpoint", lambda: tmp_path / "default")
    with pytest.raises(FileNotFoundError, match="default"):
        Engine(checkpoint, device="cpu")
    MODEL.save_pretrained(tmp_path / "default")
    with Engine(checkpoint, device="cpu") as engine:
        assert engine.model_id.startswith("default-")


@pytest.mark.parametrize("options, words", [
    ({"backend": "tensorrt"}, "torch"), ({"precision": "int8"}, "bf16"), ({"precision": "fp16"}, "CUDA"),
    ({"device": "tpu9"}, "cpu"), ({"mode": "tiles"}, "windows"), ({"score": "best"}, "eomt_ext"),
    ({"short_side": 0}, "short_side"), ({"threads": 0}, "threads"), ({"max_tokens": -1}, "max_tokens"),
    ({"device": "cuda:99"}, "CUDA device")])
def test_unknown_settings_are_named_with_the_choices(options, words):
    with pytest.raises(ValueError, match=words):
        Engine(MODEL, **{"device": "cpu", **options})


def test_the_first_frame_finds_the_upsampling_compiled_whatever_its_size(monkeypatch):
    for options in ({}, {"mode": "windows"}, {"precision": "exact"}):
        compiled = upsample._compiled(upsample._enlarge_rows.py_func)
        monkeypatch.setattr(upsample, "_enlarge_rows", compiled)
        with Engine(MODEL, device="cpu", **{"precision": "fp32", **options}) as engine:
            engine._pipeline._worker.submit(lambda: None).result(60)         # what was queued at the start
            before = list(compiled.signatures)
            assert len(before) == ("precision" not in options)
            engine.infer([picture(40, 60), picture(90, 300), picture(300, 90)])
            assert compiled.signatures == before, "nothing was left to compile"


def test_short_side_threads_warmup_and_close():
    engine = Engine(MODEL, device="cpu", precision="fp32", short_side=28, threads=1)
    engine.warmup([(60, 80), (33, 33)])
    assert engine.infer([picture(60, 80)])[0].anomaly.shape == (60, 80)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.infer([picture(8, 8)])


@pytest.mark.parametrize("case", ["default", "chosen", "no home"])
def test_what_the_compiler_made_outlives_the_machines_restart(case, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere" if case == "chosen" else "")
    if case == "no home":
        (tmp_path / ".cache").write_text("a file where the folder should be")
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    with Engine(MODEL, device="cpu", precision="fp32", compile=True):
        home = str(tmp_path / ".cache/eomt_anomaly/inductor")
        kept = {"default": home, "chosen": "/elsewhere", "no home": ""}
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == kept[case] and len(compiled) == 1
