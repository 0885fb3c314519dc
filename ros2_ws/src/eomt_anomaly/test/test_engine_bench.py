# SPDX-License-Identifier: MIT
"""`python -m eomt_anomaly.runtime.bench`: the same weights in every contestant, and every number told."""

import json
import math
import sys
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from eomt_anomaly.model import EomtExtConfig
from eomt_anomaly.report.engine_page import NO_GPU, RANDOM
from eomt_anomaly.runtime import bench
from eomt_anomaly.runtime.benchmark import (
    arithmetic,
    contestants,
    graphs,
    hf,
    memory,
    timing,
)
from eomt_anomaly.runtime.benchmark.agreement import agreement
from eomt_anomaly.runtime.benchmark.setting import Setting, Skipped, randomise
from eomt_anomaly.runtime.pipeline import Prediction
from eomt_anomaly.runtime.preprocess import Normalizer, network_input

TINY = Setting(
    preset="tiny", size=(64, 128), side=64, queries=8, threads=1
)  # no resize: windows are the image's


@pytest.fixture(scope="module")
def model():
    return TINY.model()


@pytest.fixture(scope="module")
def reference(model, tmp_path_factory):
    return maps("ours exact", model, tmp_path_factory.mktemp("none"))


def maps(name, model, work, setting=TINY):
    contestant = contestants.build(name, setting, model, work)
    try:
        return contestant.run(setting.images())
    finally:
        contestant.close()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_gets_every_weight(model, attention):
    pytest.importorskip("transformers")
    from eomt_anomaly.runtime.benchmark.hf_weights import to_hf

    image = TINY.images()[0]
    normalize = Normalizer(model.config.pixel_mean, model.config.pixel_std, torch.float32)
    pixels = network_input(image, TINY.plan(16), normalize)
    with torch.inference_mode():
        ours, theirs = model(pixels), to_hf(model, 64, attention)(pixels)
    for a, b in (
        (ours.mask_logits, theirs.masks_queries_logits),
        (ours.class_logits, theirs.class_queries_logits),
    ):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max()


def test_the_naive_peer_gives_our_reference(model, reference, tmp_path):
    pytest.importorskip("transformers")
    found = maps("hf-eager", model, tmp_path)
    np.testing.assert_allclose(found[0].anomaly, reference[0].anomaly, rtol=1e-3, atol=1e-6)
    assert (found[0].class_map == reference[0].class_map).mean() > 0.999
    assert (
        len(np.unique(reference[0].class_map)) > 2 and np.ptp(reference[0].anomaly) > 0.3
    )  # they say something


def test_every_contestant_answers_the_same_image(model, reference, tmp_path):
    """Loose, because masks of 16 px are enlarged fourfold; swapped weights or windows are far outside."""
    for package in ("transformers", "onnxruntime", "openvino", "onnxscript"):
        pytest.importorskip(package)
    wanted = contestants.names(
        TINY,
        ["fp32", "bf16", "onnxruntime", "openvino"],
        [name for name in contestants.PEERS if name != "hf-compile"],
    )
    for name in wanted:
        found = agreement(reference, maps(name, model, tmp_path))
        assert found["argmax_percent"] > 80 and found["anomaly_mean_abs"] < 0.05, (name, found)
    fast = maps("ours fp32", model, tmp_path)[0]
    for name in ("ours onnxruntime", "ours openvino"):  # the same approximation around another network
        np.testing.assert_allclose(maps(name, model, tmp_path)[0].anomaly, fast.anomaly, rtol=1e-3, atol=1e-5)
    other = randomise(TINY.model(), seed=1)
    assert agreement(reference, maps("ours exact", other, tmp_path))["anomaly_mean_abs"] > 0.2


def test_openvino_is_told_its_precision(model, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(graphs, "write", lambda *_: tmp_path / "model.onnx")
    monkeypatch.setattr(graphs, "cpu_has_bf16", lambda: True)
    told = []
    monkeypatch.setattr(graphs, "open_session", lambda *options: told.append(options))
    for way, precision in (("openvino-bf16", "bf16"), ("openvino", "fp32"), ("onnxruntime", "fp32")):
        found = contestants.build(f"ours {way}", TINY, model, tmp_path)
        assert found.dtype == precision and precision in found.about and told[-1][3] == precision
        found.close()


@pytest.mark.parametrize("bf16, best", [(False, "onnxruntime"), (True, "openvino-bf16"), (True, "bf16")])
def test_backend_auto_is_the_fastest_and_says_so(model, monkeypatch, bf16, best):
    closed, now = [], [0.0]

    def build(name, *_):
        def run(images):
            now[0] += 0.1 if name == f"ours {best}" else 0.2
            return [
                Prediction(np.zeros(i.shape[:2], np.uint8), np.zeros(i.shape[:2], np.float32)) for i in images
            ]

        if name == "ours openvino":
            raise Skipped("not installed: openvino")
        dtype = "bf16" if "bf16" in name else "fp32"
        return contestants.Contestant(name, run, dtype, "stand-in", lambda: closed.append(name))

    monkeypatch.setattr(contestants, "build", build)
    monkeypatch.setattr(contestants, "choose_precision", lambda *_: "bf16" if bf16 else "fp32")
    monkeypatch.setattr(contestants, "fastest", partial(contestants.fastest, clock=lambda: now[0]))
    found = contestants._fastest(TINY, model, None)
    assert found.name == "ours backend-auto" and found.ours and "100.0 ms" in found.about
    assert f"ours {best}" in closed and len(closed) == (3 if bf16 else 2)
    assert ("openvino left out: not installed" in found.about) is not bf16


def test_peers_that_cannot_take_part_say_why(model, tmp_path, monkeypatch):
    with pytest.raises(Skipped, match="max-autotune is a peer on a GPU only"):
        contestants.build("hf-compile", TINY, model, tmp_path)
    monkeypatch.setattr(graphs, "cpu_has_bf16", lambda: False)
    with pytest.raises(Skipped, match="multiplies no bfloat16: .*AMX"):
        contestants.build("ours openvino-bf16", TINY, model, tmp_path)
    with pytest.raises(Skipped, match="'auto' is torch on a GPU"):
        contestants.build("ours backend-auto", Setting(device="cuda"), model, tmp_path)
    with pytest.raises(Skipped, match="fp16.*choose 'bf16'"):
        contestants.build("ours fp16", TINY, model, tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Skipped, match="not installed: onnxruntime; run `python3 -m pip install onnxruntime`"):
        contestants.build("onnxruntime", TINY, model, tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Skipped, match="run `python3 -m pip install transformers`"):
        hf.make_processor(TINY, model)
    with pytest.raises(Skipped, match="CPU only"):
        graphs.pipeline(Setting(device="cuda"), model, tmp_path, "onnxruntime")
    monkeypatch.undo()
    pytest.importorskip("transformers")
    scaled = EomtExtConfig.preset("tiny", patch_size=16, scale_mask_logits=True)
    with pytest.raises(Skipped, match="no place for .*scale_mask_logits=True; compare with --model"):
        contestants.build("hf-sdpa", TINY, type(model)(scaled), tmp_path)


def test_names():
    assert contestants.names(TINY, ["fp32", "exact", "fp32"], ["hf-sdpa"]) == [
        "ours fp32",
        "ours exact",
        "hf-sdpa",
    ]
    for ways, peers, message in (
        (["quick"], [], "unknown way of ours 'quick'"),
        ([], [], "give --ours auto"),
        (["fp32"], ["tensorflow"], "unknown peer 'tensorflow'"),
    ):
        with pytest.raises(ValueError, match=message):
            contestants.names(TINY, ways, peers)


def test_turns_change_and_warm_up_does_not_count():
    order = []
    runs = {name: lambda name=name: order.append(name) or {"work": len(order)} for name in "abc"}
    samples = timing.interleave(runs, rounds=3, warmup=1, pause_s=0)
    assert [order[i] for i in range(3, 12, 3)] == ["a", "b", "c"]  # who begins a round
    assert all(sorted(order[i : i + 3]) == ["a", "b", "c"] for i in range(0, 12, 3))
    assert all(len(s.wall) == len(s.cpu) == len(s.stages["work"]) == 3 for s in samples.values())
    assert min(samples["a"].stages["work"]) == 4  # the warm-up had 1 to 3


def test_ratios_are_of_the_same_round():
    found = timing.ratio([20.0, 200.0, 20.0, 2000.0, 20.0], [10.0, 100.0, 10.0, 1000.0, 10.0])
    assert found == {"median": 2.0, "interval": [2.0, 2.0]}
    low, high = timing.ratio([10, 20, 30, 40, 50], [10] * 5)["interval"]
    assert 1 <= low < 3 < high <= 5
    assert timing.ratio([3.0], [2.0]) == {"median": 1.5, "interval": None}
    assert timing.quantiles(range(1, 101)) == {
        "p50": 50,
        "p95": 95,
        "p99": 99,
        "mean": 50.5,
        "min": 1,
        "max": 100,
    }


def test_operations_are_those_of_the_formula():
    """A ViT block: 24 T D^2 + 4 T^2 D; attention must not be missing."""
    deep, shallow = (
        EomtExtConfig.preset("tiny", patch_size=16, pos_grid=4, num_layers=n, num_queries=8) for n in (5, 3)
    )
    tokens, d = 1 + 16, 32  # two more frozen blocks: no queries in them
    expected = 2 * 3 * (24 * tokens * d * d + 4 * tokens * tokens * d)
    shape = (3, 3, 64, 64)
    gained = arithmetic.network_gflop(deep, shape) - arithmetic.network_gflop(shallow, shape)
    assert math.isclose(1e9 * gained, expected, rel_tol=1e-6)
    blocks = arithmetic.parameters_m(deep) - arithmetic.parameters_m(shallow)
    assert math.isclose(1e6 * blocks, 2 * (12 * d * d + 15 * d))  # weights; biases, norms, LayerScale


def test_agreement_of_known_maps():
    one = Prediction(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32))
    other = Prediction(np.array([[0, 1], [0, 0]], np.uint8), np.array([[0.2, 0], [0, 0]], np.float32))
    found = agreement([one, one], [one, other])
    assert found == pytest.approx({"argmax_percent": 87.5, "anomaly_max_abs": 0.2, "anomaly_mean_abs": 0.025})
    with pytest.raises(ValueError, match="other sizes"):
        agreement([one], [one, one])


@pytest.mark.slow
def test_memory_is_of_a_process_of_its_own(tmp_path):
    big = Setting(preset="tiny", size=(512, 1024), side=64, queries=64, threads=1)
    found, exact, ours = (
        memory.peak(name, big, tmp_path) for name in ("ours fp32", "exact postprocess", "ours postprocess")
    )
    assert found["peak_mb"] == pytest.approx(found["built_mb"] + found["extra_mb"], abs=0.2)
    assert 50 < found["built_mb"] and 0 < found["extra_mb"] < 200
    image = 512 * 1024 * 4 / 1e6  # MB of a map in float32
    assert ours["extra_mb"] > image  # it returns 1.25 of them: the anomaly map and the class ids
    assert exact["extra_mb"] > 19 * image > ours["extra_mb"]  # it holds each of the 19 classes at full size
    with pytest.raises(memory.Failed, match="status 1: .*choose 'bf16'"):
        memory.peak("ours fp16", TINY, tmp_path)


def test_a_memory_measurement_that_never_ends_is_not_the_end_of_the_run(tmp_path):
    with pytest.raises(memory.Failed, match="not done after 0.01 s"):
        memory.peak("ours fp32", TINY, tmp_path, timeout_s=0.01)


def test_the_command_stores_every_field_and_the_page(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")

    def weighed(name, setting, work):  # `memory.peak` itself is tested above
        if name == "hf-eager":
            raise memory.Failed("its process ended with status -9: no message")
        return {"built_mb": 100.0, "peak_mb": 157.5, "extra_mb": 57.5}

    monkeypatch.setattr(memory, "peak", weighed)
    monkeypatch.setitem(arithmetic.SIDES, "cpu", 128)  # without bf16 in the processor, such products are slow
    peers, out = ["hf-eager", "hf-compile"], tmp_path / "a b"
    args = "--model tiny --image 64 128 --side 64 --queries 8 --threads 1 --rounds 3 --ours fp32 bf16 --peers"
    assert bench.main([*args.split(), *peers, "--output", str(out)]) == 0
    result = json.loads((out / "bench.json").read_text())
    there = {row["name"] for row in result["contestants"]}
    assert there | set(result["skipped"]) == {"ours fp32", "ours bf16", *peers}  # nobody is lost
    assert "GPU only" in result["skipped"]["hf-compile"]
    assert result["ours"] == "ours fp32" and result["contestants"][0]["ratio"]["median"] == 1
    for row in result["contestants"]:
        assert len(row["samples_ms"]) == 3 and row["ms"]["p50"] <= row["ms"]["p95"]
        assert {"preprocess", "forward", "postprocess"} <= set(row["stages_ms"])
        assert row["percent_of_gemm"] > 0 and row["agreement"]["argmax_percent"] > 50
        assert len(row["ratio"]["interval"]) == len(row["ratio_cpu"]["interval"]) == 2
    assert {"cpu", "cores", "amx", "load_average"} <= set(result["host"]) and "torch" in result["versions"]
    assert result["network"]["gflop"] > 0 and result["gemm_gflops"].keys() == {"fp32", "bf16"}
    assert result["stages"]["ratios"]["naive postprocess / ours"]["median"] > 0
    assert set(result["stages"]["memory"]) == {
        f"{who} postprocess" for who in ("ours", "exact", "naive", "transformers")
    }
    memories = {row["name"]: row["memory"] for row in result["contestants"]}
    assert memories["ours bf16"]["extra_mb"] == 57.5 and "status -9" in memories["hf-eager"]["failed"]
    slow = result["contestants"][2]
    assert slow["name"] == "hf-eager" and set(slow["ratio_stages"]) >= {
        "preprocess",
        "forward",
        "postprocess",
    }
    assert result["reference_classes"] > 1 and result["pipeline"] is None
    printed = capsys.readouterr().out
    for words in ("no figure here is of a GPU", "status -9", "+57.5 MB while it runs"):
        assert words in printed
    page = (out / "bench.html").read_text()
    HTMLParser().feed(page)
    for word in (*there, "hf-compile", "GPU only", NO_GPU, RANDOM, "Agreement", "<svg", "status -9", "57.5"):
        assert word in page
    assert "http" not in page.split("<body>")[1]  # nothing is fetched


def test_a_failing_first_contestant_ends_the_run(tmp_path, capsys):
    args = ["--model", "tiny", "--side", "64", "--image", "64", "128", "--output", str(tmp_path)]
    assert bench.main([*args, "--ours", "fp16", "--peers"]) == 1
    assert "ours fp16 cannot take part" in capsys.readouterr().err
    assert bench.main(["--model", "tiny", "--side", "65", "--image", "64", "128"]) == 1
    assert "side 65 is not a positive multiple of the patch size 16: give 64" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args, message",
    [
        (["--rounds", "0"], "not a positive integer"),
        (["--rounds", "many"], "invalid"),
        (["--threads", "-1"], "not a positive integer"),
        (["--image", "0", "5"], "not a positive integer"),
        (["--device", "tpu"], "give cpu, cuda or cuda:N"),
        (["--model", "huge"], "invalid choice"),
        (["--device", "cuda:99"], "no figure of a GPU can be had here"),
        (["--warmup", "0"], "not a positive"),
    ],
)
def test_nonsense_is_refused(args, message, capsys):
    with pytest.raises(SystemExit):
        bench.arguments(args)
    assert message in capsys.readouterr().err
