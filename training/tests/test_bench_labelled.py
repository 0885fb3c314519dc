# SPDX-License-Identifier: MIT
"""`bench_labelled.py`: the benchmark's contestants on miniatures, with a random plain EoMT for weights."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.runtime import bench
from eomt_anomaly.runtime.benchmark import arithmetic, contestants
from eomt_anomaly.runtime.benchmark.setting import Skipped, randomise
from eomt_training.labels import CAMVID

SCRIPT = Path(__file__).resolve().parents[1] / "bench_labelled.py"
spec = importlib.util.spec_from_file_location("bench_labelled_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

pytestmark = pytest.mark.slow  # a benchmark run and two exports
PEERS = ("hf-eager", "hf-sdpa", "openvino")


def benchmark(folder, *peers, **options):
    """The benchmark's own run with a checkpoint; its windows are the miniatures' own pixels."""
    config = {"labels": CAMVID, "patch_size": 8, "pos_grid": 6, "num_queries": 8, "image_size": 48, **options}
    randomise(EomtExt(EomtExtConfig.preset("tiny", **config)), 0).save_pretrained(folder / "tiny")
    args = f"--checkpoint {folder / 'tiny'} --image 48 64 --side 48 --ours fp32 --rounds 1 --no-memory"
    call = [*args.split(), "--no-stages", "--output", str(folder), "--peers", *peers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(arithmetic.SIDES, "cpu", 128)
        assert bench.main(call) == 0
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    for package in ("transformers", "openvino", "onnxscript"):
        pytest.importorskip(package)
    return benchmark(tmp_path_factory.mktemp("plain"), *PEERS)


@pytest.fixture
def out(plain, tmp_path):
    return Path(shutil.copytree(plain, tmp_path / "out"))


@pytest.fixture
def label(camvid_root, stamps_root):
    def run(folder, *options):
        data = ["--root", str(camvid_root), "--stamps", str(stamps_root), "--every", "2"]
        return script.main(["--bench", str(folder), *data, *options])

    return run


def test_peers_with_the_same_weights_have_the_reference_s_quality(out, label, capsys):
    before = json.loads((out / "bench.json").read_text())
    assert label(out) == 0
    result = json.loads((out / "bench.json").read_text())
    found = result.pop("labelled")
    assert result == before and found["frames"] == 2 and found["pasted"] and not found["skipped"]
    rows = found["contestants"]
    assert list(rows) == ["ours exact", "ours fp32", *PEERS]
    reference, naive = rows["ours exact"], rows["hf-eager"]
    assert 0 < reference["miou"] < 100 and 0 < reference["auprc"] < 100 and reference["anomaly_max"] == 0
    assert 0 < naive["anomaly_max"] < 1e-3 and naive["agreement"] > 99.9  # the same, computed by others
    assert all(abs(d) < 0.01 for d in naive["difference"].values()) and naive["within"]
    careful = rows["hf-sdpa"]  # another anomaly map, and each peer that has it has the same one
    assert careful["anomaly_max"] > 1e-3
    assert rows["openvino"]["auprc"] == pytest.approx(careful["auprc"], abs=0.5)
    printed, page = capsys.readouterr().out, (out / "bench.html").read_text()
    assert "| `hf-eager` | transformers, eager, fp32" in printed and "Quality on labelled frames" in page
    assert f"{naive['auprc']:.2f} (" in page and "2 frames of camvid val, unseen objects pasted" in page


def test_who_cannot_take_part_is_named_and_the_others_go_on(
    tmp_path, out, label, camvid_root, monkeypatch, capsys
):
    pytest.importorskip("transformers")
    assert label(benchmark(tmp_path, "hf-eager", upscale_channels=(24, 16))) == 0
    printed = capsys.readouterr().out
    assert "not here: hf-eager: transformers' EoMT has no place for" in printed and "`ours fp32`" in printed

    def gone(*_):
        raise Skipped("not installed: openvino")

    monkeypatch.setitem(contestants.PEERS, "openvino", gone)
    monkeypatch.setitem(contestants.PEERS, "hf-sdpa", lambda *_: (lambda images: 1 / 0, "fp32", "broken"))
    assert label(out) == 0
    found = json.loads((out / "bench.json").read_text())["labelled"]
    assert found["skipped"] == {"openvino": "not installed: openvino",
                                "hf-sdpa": "failed: ZeroDivisionError: division by zero"}  # fmt: skip
    assert list(found["contestants"]) == ["ours exact", "ours fp32", "hf-eager"]
    assert "not installed: openvino" in (out / "bench.html").read_text()


def test_bad_input_is_named_with_its_remedy_and_costs_nothing(out, label, tmp_path, capsys):
    def said(folder, *options):
        assert label(folder, *options) == 1
        return capsys.readouterr().err

    before = (out / "bench.json").read_text()
    assert "the checkpoint's classes are not those of ade20k" in said(out, "--data", "ade20k")
    assert (out / "bench.json").read_text() == before
    assert "bench.json is missing: run `python -m eomt_anomaly.runtime.bench" in said(tmp_path)
    result = json.loads(before)
    for change, message in (
        ({"setting": {**result["setting"], "checkpoint": None}}, "of random weights, which have learned no"),
        ({"format": "other/1"}, "is 'other/1', not"),
    ):
        (out / "bench.json").write_text(json.dumps(result | change))
        assert message in said(out)
