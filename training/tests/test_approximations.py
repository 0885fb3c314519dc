# SPDX-License-Identifier: MIT
"""`approximations.py`: the verdict, and the engine's ways on miniatures and a tiny untrained network."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.runtime import Prediction
from eomt_anomaly.runtime import network as engine_network
from eomt_training.data.folders import Sample
from eomt_training.evaluation import approximations
from eomt_training.evaluation.approximations import Way, compare, in_force, is_default, judged, ways
from eomt_training.labels import CAMVID

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("approximations_script", ROOT / "training/approximations.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

REFERENCE = {"miou": 70.0, "auprc": 90.0, "fpr95": 5.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    options = {"labels": CAMVID, "num_queries": 8, "image_size": 56, "upscale_channels": (24, 16)}
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    EomtExt(EomtExtConfig.preset("tiny", **options)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "change, exceeds",
    [
        ({}, []),
        ({"miou": 69.8, "auprc": 90.5, "fpr95": 4.5}, []),
        ({"miou": 69.79}, ["miou"]),
        ({"miou": 70.21}, ["miou"]),
        ({"auprc": 89.49, "fpr95": 5.51}, ["auprc", "fpr95"]),
        ({"miou": float("nan")}, ["miou"]),
    ],
)
def test_the_limits_hold_in_both_directions_and_nan_is_within_none(change, exceeds):
    found = judged(REFERENCE | change, REFERENCE)
    assert found["exceeds"] == exceeds and found["within"] is (not exceeds)


class Says:
    """An engine that gives one prediction, whatever it sees."""

    def __init__(self, class_map, anomaly, ms):
        self.prediction = Prediction(np.uint8(class_map), np.float32(anomaly), {"total": ms})

    def infer(self, images):
        assert [image.shape for image in images] == [(2, 2, 3)]
        return [self.prediction]


def test_differences_are_counted_by_hand():
    labels = np.array([[0, 1], [254, 255]], np.uint8)  # two classes, an outlier, void
    frames = [Sample(np.zeros((2, 2, 3), np.uint8), labels, "f")] * 2
    right = Says([[0, 1], [0, 0]], [[0.1, 0.2], [0.9, 0.0]], 10)
    wrong = Says([[0, 0], [0, 1]], [[0.1, 0.6], [0.5, 0.0]], 4)
    rows = compare({"exact": right.infer, "other": wrong.infer}, frames, 2)
    assert rows["exact"] == {"miou": 100, "auprc": 100, "fpr95": 0, "agreement": 100, "anomaly_max": 0,
                             "anomaly_mean": 0, "ms": 10, "exceeds": [], "within": True,
                             "difference": {"miou": 0, "auprc": 0, "fpr95": 0}}  # fmt: skip
    other = rows["other"]
    assert (other["miou"], other["agreement"], other["ms"]) == (25, 50, 4)  # IoU 1/2 and 0; void counts here
    assert (other["auprc"], other["fpr95"]) == (50, 50)  # one normal pixel of two above the outlier
    assert other["anomaly_max"] == pytest.approx(0.4) and other["anomaly_mean"] == pytest.approx(0.2)
    assert other["exceeds"] == ["miou", "auprc", "fpr95"] and other["difference"]["fpr95"] == 50


def test_the_script_measures_every_way_on_the_same_frames(
    checkpoint, camvid_root, stamps_root, tmp_path, capsys
):
    output = tmp_path / "out" / "approximations.json"
    names = ["fp32", "bf16", "windows", "bf16 windows", "smaller"]
    status = script.main(["--checkpoint", str(checkpoint), "--root", str(camvid_root), "--stamps",
                          str(stamps_root), "--every", "2", "--device", "cpu", "--output", str(output),
                          "--ways", *names])  # fmt: skip
    result = json.loads(output.read_text())
    assert list(result["ways"]) == ["exact", *names] and result["frames"] == 2
    assert [n for n, row in result["ways"].items() if row["default"]] == [result["default"]]
    assert status == (0 if result["default_within"] else script.BEYOND_LIMITS)
    reference = result["ways"]["exact"]
    assert reference["agreement"] == 100 and reference["anomaly_max"] == 0 and reference["within"]
    assert result["ways"]["fp32"]["agreement"] > 90 and result["ways"]["fp32"]["anomaly_max"] > 0
    assert result["ways"]["smaller"]["options"]["short_side"] == 42
    printed = capsys.readouterr().out
    assert all(f"| `{name}`" in printed for name in result["ways"]) and ", the default |" in printed


def test_bad_input_is_named_with_its_remedy(checkpoint, camvid_root, stamps_root, capsys):
    def said(*options):
        given = ["--checkpoint", str(checkpoint), "--root", str(camvid_root), "--device", "cpu", *options]
        assert script.main(given) == 1
        return capsys.readouterr().err

    assert "give --stamps" in said()
    assert "--ways half: choose from 'exact', 'fp32'" in said("--stamps", str(stamps_root), "--ways", "half")
    assert "the checkpoint's classes are not those of ade20k" in said("--data", "ade20k")


@pytest.mark.parametrize("has_bf16, name", [(True, "bf16"), (False, "fp32")])
def test_what_is_called_the_default_is_what_an_engine_without_options_does(
    monkeypatch, checkpoint, has_bf16, name
):
    monkeypatch.setattr(engine_network, "cpu_has_bf16", lambda: has_bf16)
    assert [way.name for way in ways("cpu", 56, 14) if is_default(way, "cpu")] == [name]
    with approximations.Engine(checkpoint, device="cpu") as engine:
        assert engine.precision == in_force({}, "cpu")["precision"] == name


def test_ways_are_engine_options_and_fp16_is_for_gpus(tmp_path):
    names = [way.name for way in ways("cpu", 476, 14, tmp_path)]
    assert names[0] == "exact" and "fp16" not in names and {"onnxruntime", "openvino"} < set(names)
    on_gpu = {way.name: way.options for way in ways("cuda", 476, 14, tmp_path)}
    assert all(on_gpu[name]["device"] == "cpu" for name in ("onnxruntime", "openvino"))  # exports run there
    assert in_force(on_gpu["openvino"], "cuda") == in_force(on_gpu["openvino"], "cpu")
    assert Way("smaller", "as exact, at 364 px", {"precision": "exact", "short_side": 364}) in ways(
        "cpu", 476, 14
    )


def test_the_manual_vouches_for_what_the_engine_does_by_default():
    """docs/runtime.md has a verdict for each way that is a default: yes, or no and why it stays."""
    text = (ROOT / "docs/runtime.md").read_text()
    section = text.split("## Quality of what is approximated")[1].split("\n## ")[0]
    verdicts = dict(re.findall(r"^\| `([^`]+)`[^|]*\|.*\| ([^|]+) \|$", section, re.MULTILINE))
    for way in ("bf16", "fp32"):  # the defaults of processors with and without bfloat16
        assert way in verdicts, f"docs/runtime.md has no row for {way}"
        assert re.fullmatch(r"yes|no: .*; stays the default because .*", verdicts[way]), verdicts[way]
