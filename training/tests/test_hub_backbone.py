# SPDX-License-Identifier: MIT
"""A backbone from the hub: converted, kept, found by training, and named by its digest."""

import os
import subprocess
import sys
from pathlib import Path

import hub_backbone
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from eomt_anomaly.model import EomtExt
from eomt_training.lightning_module import EomtExtModule

FIT = Path(__file__).resolve().parents[1] / "fit.py"


@pytest.fixture(scope="module")
def hub_copy(tmp_path_factory):
    """What a download leaves: a random Dinov2Model of the preset `tiny`'s shape."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**shape, image_size=112, patch_size=14)).save_pretrained(folder)
    return folder


def test_a_hub_backbone_trains_and_its_checkpoint_names_it(hub_copy, tmp_path, capsys):
    store = tmp_path / "store"
    assert hub_backbone.main(["owner/tiny", "--from", str(hub_copy), "--output", str(store)]) == 0
    module = EomtExtModule(size="tiny", backbone="owner/tiny", backbone_dir=str(store))
    named = module.net.config.backbone
    assert named["source"] == "owner/tiny" and named["sha256"] in capsys.readouterr().out
    theirs = Dinov2Model.from_pretrained(hub_copy).state_dict()
    ours = module.net.backbone.state_dict()
    assert torch.equal(ours["patch_embed.weight"], theirs["embeddings.patch_embeddings.projection.weight"])
    module.net.save_pretrained(tmp_path / "checkpoint", backbone=store)
    again = EomtExt.from_pretrained(tmp_path / "checkpoint", backbone=store)
    assert torch.equal(again.backbone.patch_embed.weight, module.net.backbone.patch_embed.weight)


def test_a_run_whose_backbone_lies_elsewhere_saves_its_checkpoint(hub_copy, camvid_root, tmp_path):
    assert hub_backbone.main(["owner/tiny", "--from", str(hub_copy), "--output", str(tmp_path)]) == 0
    options = {
        "data.camvid_root": camvid_root,
        "data.drives_root": "null",
        "data.stamps_root": "null",
        "data.image_size": 56,
        "data.batch_size": 2,
        "model.size": "tiny",
        "model.backbone": "owner/tiny",
        "model.backbone_dir": tmp_path,
        "model.options": (
            '{"num_queries": 8, "detail_layer": 1, "upscale_channels": [24, 16], "image_size": 56}'
        ),
        "model.loss.num_points": 64,
        "trainer.max_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.default_root_dir": tmp_path / "runs",
    }
    command = [sys.executable, str(FIT), "fit", "--config", str(FIT.parent / "configs/camvid/small_476.yaml")]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"HOME": str(tmp_path), "EOMT_BACKBONE_DIR": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    EomtExt.from_pretrained(tmp_path / "runs/version_0/checkpoint", backbone=tmp_path)


def test_a_backbone_that_is_not_here_is_named_with_the_command_that_brings_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="hub_backbone.py facebook/dinov2-base"):
        EomtExtModule(size="base", backbone="facebook/dinov2-base", backbone_dir=str(tmp_path))


def test_a_folder_that_is_missing_or_no_model_is_refused_in_a_sentence(tmp_path, capsys):
    for folder in (tmp_path / "none", tmp_path):
        assert hub_backbone.main(["owner/x", "--from", str(folder), "--output", str(tmp_path / "out")]) == 1
        assert "owner/x" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
