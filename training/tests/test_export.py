# SPDX-License-Identifier: MIT
"""`export.py`: tiny random networks in ONNX Runtime and OpenVINO, file by file as users get them."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_reference import picture, tiny_model

pytest.importorskip("onnxscript", reason="pip install -r requirements/export.txt")
pytest.importorskip("onnxruntime", reason="pip install -r requirements/export.txt")
pytest.importorskip("openvino", reason="pip install -r requirements/export.txt")

import onnx

from eomt_anomaly.model import EomtExt
from eomt_anomaly.runtime import Engine, InvalidImage, NonFiniteOutput
from eomt_anomaly.runtime import engine as engine_module
from eomt_anomaly.runtime.backends import open_session
from eomt_anomaly.runtime.cpu import CpuPipeline
from eomt_anomaly.runtime.exported import open_exported
from eomt_anomaly.runtime.network import cpu_has_bf16, prepare
from eomt_anomaly.runtime.pipeline import Setup
from eomt_training.export import ExportGraph
from eomt_training.export import folder as folder_module
from eomt_training.export.parity import difference

SCRIPT = Path(__file__).resolve().parents[1] / "export.py"
spec = importlib.util.spec_from_file_location("export_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

BACKENDS = ("onnxruntime", "openvino")
SIZE, MAPS = (56, 84), (90, 135)  # input; output of the graph that has its post-processing inside
CALIBRATION = {"score": "eomt_ext", "threshold": 0.25, "dataset": "none", "short_side": 56}


def export(checkpoint, output, *options):
    size = ("--height", str(SIZE[0]), "--width", str(SIZE[1]))
    return script.main(["--checkpoint", str(checkpoint), "--output", str(output), *size, *options])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A joint decoder with detail features, calibrated."""
    folder = tmp_path_factory.mktemp("checkpoints") / "joint"
    tiny_model(detail_layer=0, upscale_channels=(24, 16)).save_pretrained(folder, dtype=torch.float32)
    (folder / "calibration.json").write_text(json.dumps(CALIBRATION))
    return folder


@pytest.fixture(scope="module")
def plain(checkpoint, tmp_path_factory):
    """The network alone."""
    output = tmp_path_factory.mktemp("exports") / "plain"
    assert export(checkpoint, output) == 0
    return output


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """Pre- and post-processing inside."""
    output = tmp_path_factory.mktemp("exports") / "whole"
    assert export(checkpoint, output, "--preprocess", "--postprocess", f"{MAPS[0]}x{MAPS[1]}") == 0
    return output


def agree(got, want, tolerance=1e-3, share=0.999):
    assert got.class_map.dtype == np.uint8 and got.anomaly.dtype == np.float32
    assert got.class_map.shape == want.class_map.shape == got.anomaly.shape
    assert (got.class_map == want.class_map).mean() >= share
    np.testing.assert_allclose(got.anomaly, want.anomaly, atol=tolerance)


def test_a_folder_says_what_is_in_it(plain, whole, checkpoint):
    for folder in (plain, whole):
        parity = json.loads((folder / "parity.json").read_text())
        for backend in BACKENDS:
            assert parity[backend]["passed"] and parity[backend]["batches"] == [1, 3]
            assert 0 < parity[backend]["error"] <= parity["tolerance"] == 1e-3
        assert b"site-packages" not in (folder / "model.onnx").read_bytes()  # no path of its maker's machine
        assert (folder / "calibration.json").read_text() == (checkpoint / "calibration.json").read_text()
    for folder, inside in ((plain, (False, None, None)), (whole, (True, MAPS, "eomt_ext"))):
        exported = open_exported(folder)
        assert exported.size == SIZE and exported.config.labels[2].drivable
        assert (exported.preprocess, exported.output_size, exported.score) == inside


def test_uint8_is_cast_as_tensorrt_asks(whole):
    """TensorRT converts uint8 from and to floats only, and an input of it before anything else is done."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(whole / "model.onnx")).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    takes_image = [(node.op_type, kinds[node.output[0]]) for node in graph.node if "image" in node.input]
    assert takes_image == [("Cast", onnx.TensorProto.FLOAT)]
    (to_uint8,) = [node for node in graph.node if kinds.get(node.output[0]) == onnx.TensorProto.UINT8]
    assert to_uint8.op_type == "Cast" and kinds[to_uint8.input[0]] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_torchs_logits(plain, checkpoint, backend, batch):
    pixels = torch.randn(batch, 3, *SIZE, generator=torch.Generator().manual_seed(batch))
    with Engine(checkpoint, device="cpu", precision="exact") as engine, torch.inference_mode():
        want = ExportGraph(engine._pipeline.setup.network, False, None, "eomt_ext")(pixels)
    got = open_session(backend, plain / "model.onnx")(pixels.numpy())
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a.numpy(), rtol=1e-3, atol=1e-3)
        assert np.ptp(b) > 0.1  # something to agree on


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "exact"])
def test_the_engine_gives_what_torch_gives(plain, checkpoint, backend, precision):
    image = picture(112, 168)  # the export's aspect
    with Engine(checkpoint, device="cpu", precision=precision) as engine:
        want, identity = engine.infer([image])[0], engine.checkpoint_sha256
    with Engine(plain, backend=backend, precision=precision, threads=1) as engine:
        engine.warmup([(112, 168)])
        agree(engine.infer([image])[0], want)
        assert (engine.device, engine.precision, engine.short_side) == ("cpu", precision, 56)
        assert engine.zoom == 1, "it knows no other size to look again at"
        assert (engine.threshold, engine.score) == (0.25, "eomt_ext") and engine.drivable_ids == (2,)
        assert engine.checkpoint_sha256 == identity and engine.model_id == f"plain-{identity[:8]}"
    with pytest.raises(RuntimeError, match="closed"):
        engine.infer([image])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["rectangle", "windows"])
def test_other_aspects_and_scores_are_as_torch_shows_them_through_the_same_windows(
    plain, checkpoint, backend, mode
):
    images = [picture(*size, seed=i) for i, size in enumerate([(60, 200), (200, 60), (60, 84), (3, 3)])]
    network = prepare(EomtExt.from_pretrained(checkpoint), "fp32", torch.device("cpu"))
    torch_pipeline = CpuPipeline(Setup(network, torch.float32, False, "rba", 56, mode, None, SIZE))
    wanted = torch_pipeline.result(torch_pipeline.submit(images))
    torch_pipeline.close()
    with Engine(plain, backend=backend, score="rba", mode=mode) as engine:
        assert engine.threshold is None  # of another score
        for want, got in zip(wanted, engine.infer(images), strict=True):
            agree(got, want, share=0.995)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [MAPS, (180, 270)])
def test_processing_inside_the_graph_is_the_engines_own(whole, plain, backend, size):
    image = picture(*size)
    with Engine(plain, backend=backend) as outside, Engine(whole, backend=backend) as inside:
        assert inside.threshold == outside.threshold == 0.25
        want, got = outside.infer([image])[0], inside.infer([image])[0]
    if size == MAPS:
        agree(got, want)
    else:  # the graph's maps, enlarged
        agree(got, want, tolerance=0.05, share=0.95)


@pytest.mark.skipif(not cpu_has_bf16(), reason="needs a CPU with AMX or AVX512-BF16")
def test_openvino_computes_in_bf16_on_request(plain, whole):
    image = picture(*MAPS)
    for folder in (plain, whole):
        with (
            Engine(folder, backend="openvino") as fp32,
            Engine(folder, backend="openvino", precision="bf16") as bf16,
        ):
            assert (fp32.precision, bf16.precision) == ("fp32", "bf16")
            want, got = fp32.infer([image])[0], bf16.infer([image])[0]
        assert 0 < np.abs(got.anomaly - want.anomaly).mean() < 0.03  # another arithmetic, the same network
        assert (got.class_map == want.class_map).mean() > 0.95


def test_a_cpu_without_bf16_is_told_so(plain, monkeypatch):
    monkeypatch.setattr(engine_module, "cpu_has_bf16", lambda: False)
    with pytest.raises(ValueError, match="precision='bf16' does not go with backend 'openvino'.*'fp32'"):
        Engine(plain, backend="openvino", precision="bf16")


def test_an_image_that_the_graphs_maps_cannot_show_is_refused(whole):
    with Engine(whole, backend="onnxruntime") as engine, pytest.raises(InvalidImage, match="90x400.*56x84"):
        engine.infer([picture(90, 400)])


@pytest.mark.parametrize("kind", ["plain", "whole"])
def test_what_is_not_finite_is_not_believed(request, kind, tmp_path, monkeypatch):
    """The parity check would refuse such a network, so it is asked for no backend here."""
    broken = tiny_model()
    broken.class_head.bias.data[0] = float("nan")
    options = (MAPS, "eomt_ext") if kind == "whole" else (None, "eomt_ext")
    graph = ExportGraph(broken, kind == "whole", *options).eval()
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "broken")
    with Engine(folder, backend="onnxruntime") as engine, torch.inference_mode():
        engine._pipeline.setup.network.session = lambda x: [y.numpy() for y in graph(torch.from_numpy(x))]
        with pytest.raises(NonFiniteOutput):
            engine.infer([picture(*MAPS)])


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "export.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_folder_is_refused(plain, tmp_path, name, damage):
    folder = shutil.copytree(plain, tmp_path / "damaged")
    data = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "truncated":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:  # a label, a weight, the size
        altered = data.replace(b'"c1"', b'"cx"').replace(b'"height": 56', b'"height": 57')
        (folder / name).write_bytes(altered if altered != data else data[:-200] + b"\x01" * 200)
    with pytest.raises((ValueError, FileNotFoundError), match="damaged"):
        Engine(folder, backend="onnxruntime")


def test_files_of_two_exports_do_not_mix(plain, whole, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "mixed")
    shutil.copyfile(whole / "model.onnx", folder / "model.onnx")
    with pytest.raises(ValueError, match="mixed.*model.onnx has sha256.*export the checkpoint again"):
        Engine(folder, backend="openvino")


@pytest.mark.parametrize("options, words", [
    ({"precision": "bf16"}, "precision='bf16'.*'fp32'.*backend='torch'"),
    ({"device": "cuda"}, "device='cuda'.*'cpu'"), ({"short_side": 70}, "short_side=70.*56"),
    ({"backbone": "x"}, "backbone='x'"), ({"compile": True}, "compile"),
    ({"max_tokens": 9}, "max_tokens=9"),
    ({"backend": "tensorrt"}, "torch, onnxruntime, openvino, auto")])  # fmt: skip
def test_options_that_an_export_cannot_follow_are_named(plain, options, words):
    with pytest.raises(ValueError, match=words):
        Engine(plain, **{"backend": "onnxruntime", **options})


def test_torch_runs_an_export_that_has_its_weights(plain, checkpoint, tmp_path):
    images = [picture(56, 84)]
    with Engine(plain, "cpu", "fp32", short_side=56) as of_export:
        got = of_export.infer(images)[0]
    with Engine(checkpoint, "cpu", "fp32", short_side=56) as of_checkpoint:
        agree(got, of_checkpoint.infer(images)[0], tolerance=0, share=1)
    folder = shutil.copytree(plain, tmp_path / "graph")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="exported graph.*backend='onnxruntime'"):
        Engine(folder, "cpu")


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_auto_measures_every_backend_and_runs_one(plain, precision):
    with Engine(plain, "cpu", precision, "auto") as engine:
        assert set(engine.choice.milliseconds) == {"torch", *BACKENDS}, engine.choice
        assert engine.backend == min(engine.choice.milliseconds, key=engine.choice.milliseconds.get)
        assert engine.short_side == min(SIZE)
        got = engine.infer([picture(90, 135)])[0]
    with Engine(plain, "cpu", engine.choice.precision, engine.backend, min(SIZE)) as alone:
        agree(got, alone.infer([picture(90, 135)])[0])


def test_auto_leaves_out_what_cannot_follow_an_option(plain):
    with Engine(plain, "cpu", "fp32", "auto", short_side=70) as engine:
        assert engine.backend == "torch" and engine.short_side == 70
        assert "short_side=70 does not go with" in engine.choice.left_out["openvino"]


@pytest.mark.parametrize("options", [{"score": "rba"}, {"precision": "exact"}])
def test_post_processing_inside_is_not_changed_outside(whole, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*does not go with"):
        Engine(whole, backend="openvino", **options)


def test_the_command_refuses_what_it_cannot_do(checkpoint, tmp_path, capsys, monkeypatch):
    def refused(words, *options, output=tmp_path / "out"):
        assert script.main(["--checkpoint", str(checkpoint), "--output", str(output), *options]) == 1
        assert words in capsys.readouterr().err and not (output / "export.json").exists()

    refused("height 60 is not a multiple of the patch size 14: give 56", "--height", "60", "--width", "84")
    right = ("--height", "56", "--width", "84")
    refused("exists and is no export", *right, output=checkpoint)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused("pip install tensorrt", *right, "--tensorrt", "2")
    for wrong in (["--postprocess", "big"], ["--score", "rba"], ["--tensorrt", "0"], ["--check", "torch"]):
        with pytest.raises(SystemExit):
            export(checkpoint, tmp_path / "out", *wrong)


def test_a_backend_that_disagrees_leaves_nothing_behind(checkpoint, plain, tmp_path, capsys, monkeypatch):
    """The graph of another network under this one's name."""
    other = shutil.copytree(checkpoint, tmp_path / "other")
    tiny_model(seed=7, detail_layer=0, upscale_channels=(24, 16)).save_pretrained(other)
    (other / "calibration.json").unlink()
    fake = plain / "model.onnx"
    monkeypatch.setattr(folder_module, "write_graph", lambda graph, size, path: shutil.copy(fake, path))
    assert export(other, tmp_path / "out", "--check", "onnxruntime") == 1
    assert "onnxruntime differs from torch by more than 0.001" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other"]


def test_differences_are_absolute_below_one_and_relative_above():
    a, b = np.float32([0.5, 100]), np.float32([0.5004, 100.05])
    assert difference(a, b)["error"] == pytest.approx(5e-4, rel=1e-2)
    assert difference(a, b)["max_abs"] == pytest.approx(0.05, rel=1e-2)
    assert difference(np.uint8([1, 2, 3, 4]), np.uint8([1, 2, 3, 5])) == {"error": 0.25}
    assert np.isnan(difference(a, np.float32([np.nan, 1]))["error"])
    with pytest.raises(ValueError, match=r"\(1,\).*\(2,\)"):
        difference(a, b[:1])


@pytest.mark.slow
def test_the_other_decoder_with_maps_at_the_networks_size(tmp_path):
    tiny_model(decoder="cross_attention", num_register_tokens=2).save_pretrained(tmp_path / "cross")
    assert export(tmp_path / "cross", tmp_path / "out", "--postprocess", "--score", "msp") == 0
    image = picture(*SIZE)
    with Engine(tmp_path / "cross", device="cpu", precision="fp32", score="msp") as engine:
        want = engine.infer([image])[0]
    for backend in BACKENDS:
        with Engine(tmp_path / "out", backend=backend) as engine:
            agree(engine.infer([image])[0], want)
            assert (engine.score, engine.threshold) == ("msp", None)   # not what calibration or config say
