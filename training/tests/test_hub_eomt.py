# SPDX-License-Identifier: MIT
"""docs/cityscapes.md in miniature: a trained EoMT gets an anomaly head and a threshold, and serves."""

import json
import os

import evaluate
import fit
import hub_eomt
import numpy as np
import pytest
import torch
from recipe_runs import TRAINING
from transformers import EomtConfig, EomtForUniversalSegmentation

from eomt_anomaly.model import EomtExt
from eomt_anomaly.runtime import Engine
from eomt_training.labels import CITYSCAPES
from eomt_training.lightning_module import EomtExtModule

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "num_register_tokens": 4,
    "num_blocks": 1, "num_queries": 8, "patch_size": 16, "image_size": 64,
}  # fmt: skip


def downloaded(folder, names=None):
    """What a download leaves: a random EoMT for Cityscapes, in miniature."""
    torch.manual_seed(0)
    names = names or [label.name for label in CITYSCAPES]
    theirs = EomtForUniversalSegmentation(EomtConfig(**SHAPE, id2label=dict(enumerate(names)))).eval()
    theirs.attn_mask_probs.zero_()
    theirs.save_pretrained(folder)
    return theirs


def adopt(copy, output, *options):
    command = ["owner/eomt", "--labels", "cityscapes", "--from", copy, "--output", output, *options]
    return hub_eomt.main([str(word) for word in command])


def test_from_a_download_to_a_calibrated_checkpoint(
    cityscapes_root, stamps_root, tmp_path, monkeypatch, capsys
):
    theirs = downloaded(tmp_path / "hub")
    adopted = tmp_path / "adopted"
    assert adopt(tmp_path / "hub", adopted) == 0
    assert "randomly initialised: anomaly_head" in capsys.readouterr().out
    assert "owner/eomt" in (adopted / "README.md").read_text()

    recipe = {
        "model.init": adopted, "model.options": {"image_size": 64}, "model.loss.num_points": 256,
        "model.warmup": 1, "data.root": cityscapes_root, "data.stamps_root": stamps_root,
        "data.coco_root": "null", "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "data.paste_probability": 1, "trainer.max_steps": 3, "trainer.val_check_interval": 3,
        "trainer.default_root_dir": tmp_path / "runs", "trainer.precision": "32-true",
        "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false",
    }  # fmt: skip
    options = [f"--{k}={json.dumps(v) if isinstance(v, dict) else v}" for k, v in recipe.items()]
    fit.main(["fit", "--config", str(TRAINING / "configs/cityscapes/anomaly_head.yaml"), *options])
    trained = tmp_path / "runs/version_0/checkpoint"
    before, after = EomtExt.from_pretrained(adopted), EomtExt.from_pretrained(trained)
    changed = {n for n, t in after.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
    assert changed and all(name.startswith("anomaly_head.") for name in changed)
    assert (before.config.score, after.config.score) == ("max_entropy", "eomt_ext")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(
            after(pixels).mask_logits, theirs(pixels).masks_queries_logits, atol=0.02
        )  # fp16

    monkeypatch.chdir(tmp_path)
    calibrate = [
        "calibrate",
        "--checkpoint",
        trained,
        "--data",
        "cityscapes",
        "--root",
        cityscapes_root,
        "--fpr",
        0.3,
    ]
    assert evaluate.main([str(x) for x in calibrate] + ["--device", "cpu"]) == 0
    prediction = Engine(trained, device="cpu").infer([np.zeros((64, 128, 3), np.uint8)])[0]
    assert prediction.class_map.shape == (64, 128) and os.path.getsize(trained / "calibration.json")


def test_classes_of_other_names_are_refused_unless_vouched_for(tmp_path, capsys):
    names = [label.name for label in CITYSCAPES]
    hub, output = tmp_path / "hub", tmp_path / "out"
    downloaded(hub, ["Side walk", "road", *names[2:]])
    assert adopt(hub, output) == 1
    assert "0: 'Side walk', ours 'road'; 1: 'road', ours 'sidewalk'" in capsys.readouterr().err
    assert not output.exists()
    assert adopt(hub, output, "--same-order") == 0
    downloaded(hub, [f"LABEL_{i}" for i in range(19)])
    assert adopt(hub, output) == 0


def test_what_cannot_be_had_is_one_sentence(tmp_path, capsys):
    torch.save({"q.weight": torch.zeros(2, 2)}, tmp_path / "weights.bin")
    (tmp_path / "page.bin").write_text("<html>")
    torch.save([1, 2], tmp_path / "list.bin")
    for copy in (tmp_path / "none", tmp_path, *sorted(tmp_path.glob("*.bin"))):
        assert adopt(copy, tmp_path / "out") == 1
        assert "hub_eomt: owner/eomt: " in capsys.readouterr().err


def test_the_architecture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="model.size = null takes the architecture of model.init"):
        EomtExtModule(size=None)
