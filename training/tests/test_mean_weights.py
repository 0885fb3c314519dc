# SPDX-License-Identifier: MIT
"""The mean of checkpoints: exact, of like networks only, and with no threshold of another network."""

import json
from dataclasses import replace

import mean_weights
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.model.backbone_store import backbone_filename, tensor_digest
from eomt_training.evaluation.unseen import trained_with

TINY = EomtExtConfig.preset("tiny")


@pytest.fixture
def named_backbone(tmp_path, monkeypatch):
    """A tiny backbone on disk, where checkpoints look for it, and its reference."""
    state = EomtExt(TINY).backbone.state_dict()
    save_file(state, tmp_path / backbone_filename("tiny_backbone"))
    monkeypatch.setenv("EOMT_BACKBONE_DIR", str(tmp_path))
    return {"source": "tiny_backbone", "sha256": tensor_digest(state)}


def saved(folder, seed, config=TINY, backbone=None, **options):
    """A checkpoint with random weights, and a calibration of its own."""
    torch.manual_seed(seed)
    model = EomtExt(config)
    if config.backbone:
        model.backbone.load_state_dict(load_file(backbone))
    model.save_pretrained(folder, **options)
    (folder / "calibration.json").write_text('{"score": "eomt_ext", "threshold": 0.5}')
    return folder


def refused(capsys, *given):
    assert mean_weights.main([str(x) for x in given]) == 1
    return capsys.readouterr().err


def test_the_mean_is_exact_and_loads(tmp_path, capsys):
    folders = [saved(tmp_path / str(seed), seed) for seed in range(3)]
    assert mean_weights.main(["--output", str(tmp_path / "mean"), *map(str, folders)]) == 0
    stored = [load_file(folder / "model.safetensors") for folder in folders]
    made = load_file(tmp_path / "mean/model.safetensors")
    assert made.keys() == stored[0].keys()
    for name, tensor in made.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, torch.stack([s[name].float() for s in stored]).mean(0).half()), name
    assert EomtExt.from_pretrained(tmp_path / "mean").config == TINY
    hashes = [json.loads((f / "config.json").read_text())["weights_sha256"] for f in folders]
    sources = json.loads((tmp_path / "mean/made_with.json").read_text())["sources"]
    assert sources == [{"checkpoint": str(i), "weights_sha256": h} for i, h in enumerate(hashes)]
    assert not (tmp_path / "mean/calibration.json").exists()
    assert "no calibration.json" in capsys.readouterr().out


def test_what_the_sources_were_trained_with_is_not_forgotten(tmp_path):
    """evaluate.py --stamps alone would else paste kinds of object that COCO had in training."""
    a, b = saved(tmp_path / "run/checkpoint", 0), saved(tmp_path / "b", 1)
    config = {"data": {"paste_probability": 0.5, "coco_root": "data/COCO"}, "model": {"init": None}}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    mean_weights.write_mean([a, b], tmp_path / "mean")
    assert trained_with(tmp_path / "mean") == trained_with(a) == {"coco"}


def test_a_frozen_backbone_stays_out_of_the_file_as_in_the_sources(tmp_path, named_backbone):
    config, file = replace(TINY, backbone=named_backbone), tmp_path / "tiny_backbone.safetensors"
    a, b, c = (saved(tmp_path / str(seed), seed, config, file) for seed in range(3))
    mean_weights.write_mean([a, b, c], tmp_path / "mean")
    names = load_file(tmp_path / "mean/model.safetensors").keys()
    assert names == load_file(a / "model.safetensors").keys() and not any("backbone." in n for n in names)
    backbone = EomtExt.from_pretrained(tmp_path / "mean").backbone.state_dict()
    assert all(torch.equal(backbone[name], tensor) for name, tensor in load_file(file).items())
    whole = saved(tmp_path / "whole", 4, config, file, include_backbone=True)
    mean_weights.write_mean([a, whole], tmp_path / "mean2")
    names = load_file(tmp_path / "mean2/model.safetensors").keys()
    assert names == load_file(whole / "model.safetensors").keys()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"num_queries": 9}, "config.num_queries is 9, not 8"),
        ({"labels": TINY.labels[:-1]}, "config.labels has 18 entries, not 19"),
        (
            {"labels": (*TINY.labels[:2], replace(TINY.labels[2], name="tree"), *TINY.labels[3:])},
            "config.labels[2].name is 'tree', not 'class_2'",
        ),
        ({"backbone": {"source": "x", "sha256": "0" * 64}}, "config.backbone is {'source': 'x'"),
    ],
)
def test_networks_of_different_kinds_have_no_mean(tmp_path, capsys, change, said):
    a, b = saved(tmp_path / "a", 0), saved(tmp_path / "b", 1)
    config = replace(TINY, **change)
    c = tmp_path / "c"
    EomtExt(config).save_pretrained(c, include_backbone=True)
    error = refused(capsys, "--output", tmp_path / "mean", a, b, c)
    assert said in error and f"{c} is not of the kind of {a}" in error
    assert not (tmp_path / "mean").exists()


def test_what_is_no_mean_is_refused(tmp_path, capsys):
    a, b = saved(tmp_path / "a", 0), saved(tmp_path / "b", 1)
    new = tmp_path / "mean"
    assert "two checkpoints" in refused(capsys, "--output", new, a)
    assert f"{a} has the same weights as {a}" in refused(capsys, "--output", new, a, b, a)
    assert f"--output {a} holds something" in refused(capsys, "--output", a, a, b)
    assert "does not exist" in refused(capsys, "--output", new, a, tmp_path / "none")
    assert not new.exists()


def test_whole_numbers_must_be_equal():
    one, two = {"steps": torch.tensor([3])}, {"steps": torch.tensor([4])}
    assert mean_weights.mean([one, one], ["a", "b"]) == one
    with pytest.raises(ValueError, match="steps is torch.int64, which has no mean, and b has another"):
        mean_weights.mean([one, two], ["a", "b"])
