# SPDX-License-Identifier: MIT
"""`evaluate.py`: what cannot go well is told before anything is measured, and nothing measured is lost."""

import json
from types import SimpleNamespace

import evaluate
import pytest
import torch

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_training.evaluation import commands, maps
from eomt_training.labels import CAMVID, CITYSCAPES


def save_tiny(folder, labels=CAMVID, score="eomt_ext"):
    torch.manual_seed(0)
    options = {"num_queries": 4, "image_size": 56, "upscale_channels": (24, 16)}
    EomtExt(EomtExtConfig.preset("tiny", labels=labels, score=score, **options)).save_pretrained(folder)
    return folder


@pytest.fixture
def common(tmp_path, camvid_root, monkeypatch):
    """Arguments of every command, and an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return ["--checkpoint", str(save_tiny(tmp_path / "tiny")), "--root", str(camvid_root), "--device", "cpu"]


def test_what_cannot_be_measured_is_told_before_anything_is(common, tmp_path, monkeypatch, capsys):
    """A typing mistake in the last option must not cost the hours of the first measurement."""
    save_tiny(tmp_path / "streets", CITYSCAPES)
    (tmp_path / "old.csv").write_text("a,b\n")
    monkeypatch.setattr(commands, "evaluate_semantic", lambda *_: pytest.fail("measured"))
    for options, message in (
        (["--baseline", "nowhere"], "nowhere is not a checkpoint"),
        (["--baseline", "a=tiny", "a=tiny"], "two models are called 'a'"),
        (["--baseline", "streets"], "classes are not those of camvid"),
        (["--degraded", "fog", "locusts"], "locusts"),
        (["--degraded", "fog", "--severity", "2"], "severity = 2"),
        (["--results", "old.csv"], "old.csv has other columns"),
        (["--every", "0"], "--every 0"),
        (["--every", "-1"], "--every -1"),
        (["--short-side", "-8"], "short side -8"),
    ):
        assert evaluate.main(["semantic", *common, *options]) == 1, options
        assert message in capsys.readouterr().err


def test_a_baseline_s_folder_may_have_an_equals_sign(common, tmp_path):
    save_tiny(tmp_path / "lr=0.1")
    for baseline, name in (("lr=0.1", "lr=0.1"), ("slow=lr=0.1", "slow")):
        options = ["--results", "", "--output", "out.json", "--baseline", baseline]
        assert evaluate.main(["semantic", *common, *options, "--every", "4"]) == 0
        assert list(json.loads((tmp_path / "out.json").read_text())["baselines"]) == [name]


@pytest.mark.parametrize(
    "command, options",
    [
        ("control", ["--degraded", "dark"]),
        ("calibrate", ["--degraded", "dark"]),
        ("calibrate", ["--threshold", "0.5"]),
        ("calibrate", ["--baseline", "tiny"]),
        ("control", ["--report", "out"]),
        ("semantic", ["--stamps", "stamps"]),
        ("semantic", ["--fpr", "0.1"]),
        ("calibrate", ["--temperature", "2"]),
        ("anomaly", ["--predictions", "pictures"]),
    ],
)
def test_an_option_that_the_command_would_not_heed_is_refused(common, command, options, capsys):
    with pytest.raises(SystemExit):
        evaluate.main([command, *common, *options])
    assert f"{options[0]} is an option of" in capsys.readouterr().err


def test_an_anomaly_head_that_was_never_trained_is_not_measured(common, tmp_path, capsys):
    save_tiny(tmp_path / "tiny", score="eam")
    for command, options in (("control", ["--threshold", "0.5"]), ("calibrate", [])):
        assert evaluate.main([command, *common, *options]) == 1
        assert "no trained anomaly head" in capsys.readouterr().err


def test_control_says_what_it_lacks(common, capsys):
    assert evaluate.main(["control", *common]) == 1
    error = capsys.readouterr().err
    assert "tiny has no calibration.json of eomt_ext: give --threshold, or calibrate it first" in error
    assert evaluate.main(["control", *common, "--threshold", "0.5", "--every", "4"]) == 1
    assert "1 frame: segments are pasted from one frame into another" in capsys.readouterr().err


def test_frames_without_an_anomaly_are_told_with_their_pixels(common, camvid_root, capsys):
    assert evaluate.main(["anomaly", *common, "--left-out", "bicyclist", "--results", ""]) == 1
    assert f"there are {4 * 47 * 64} normal and 0 anomalous pixels" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named(common, capsys, device):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["semantic", *common, "--device", device])
    assert stop.value.code == 2 and f"'{device}' cannot be used here" in capsys.readouterr().err


def test_maps_that_the_disk_cannot_hold_are_told_after_the_first_frame(common, tmp_path, monkeypatch, capsys):
    """Eight scores of 500 Cityscapes frames take some 66 GB; the disk would be full after hours."""
    monkeypatch.setattr(maps.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    options = ["--left-out", "car", "--scores", "rba", "msp", "--results", "", "--output", "out.json"]
    assert evaluate.main(["anomaly", *common, *options]) == 1
    labelled = 47 * 64 + 27 * 64  # the frame's; again those of road and cars
    needed = 4 * (48 * 64 * (2 * 4 + 2) + labelled * 2 * 4)  # maps; pixels
    told = capsys.readouterr().err
    assert f"4 frames need {needed / 1e9:.3g} GB" in told and "set TMPDIR" in told
    assert not list(tmp_path.glob("out.json"))
