# SPDX-License-Identifier: MIT
"""Each baseline's recipe trains on miniatures, through `fit.py`; losses and targets are what they say."""

import json
import math
from pathlib import Path

import pytest
import torch

from eomt_anomaly.model import scores
from eomt_training.baselines import DenseNet, ErfNet, open_predictor
from eomt_training.baselines.dense_module import DenseModule, dense_losses
from eomt_training.baselines.erfnet_module import (
    ErfNetModule,
    class_pixels,
    class_weights,
    void_target,
    weighted_ce,
)
from eomt_training.lightning_module import EomtExtModule
from eomt_training.targets import IGNORE, ORDINARY, OUTLIER

CONFIGS = Path(__file__).resolve().parents[1] / "configs/camvid"
VIT = json.dumps({"num_queries": 8, "detail_layer": 0, "upscale_channels": [24, 16], "image_size": 56})
DENSE = json.dumps({"trained_blocks": 1, "detail_layer": 0, "upscale_channels": [24, 16], "image_size": 56})
TINY = {"model.size": "tiny", "model.backbone": "null", "data.image_size": 56}
POINTS = {"model.loss.num_points": 128, "model.options": VIT}


@pytest.fixture
def fit(tmp_path, monkeypatch, camvid_root, drives_root, stamps_root):
    """Two steps of recipes, shrunk by options -> (module, frozen weights before, run folder)."""
    import fit as command

    seen = {}

    def before_fit(cli):
        backbone = getattr(cli.model.net, "backbone", None)
        seen["model"] = cli.model
        seen["frozen"] = {k: v.clone() for k, v in backbone.state_dict().items()} if backbone else {}

    monkeypatch.setattr(command.Cli, "before_fit", before_fit)

    def run(*recipes, **options):
        options = {
            "data.camvid_root": camvid_root, "data.drives_root": drives_root, "data.stamps_root": stamps_root,
            "data.batch_size": 2, "data.val_frames": 2, "data.paste_probability": 0.7,
            "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.accelerator": "cpu",
            "trainer.enable_progress_bar": "false", "trainer.default_root_dir": tmp_path, **options,
        }  # fmt: skip
        configs = [x for recipe in recipes for x in ("--config", str(CONFIGS / recipe))]
        command.main(["fit", *configs, *(f"--{k}={v}" for k, v in options.items())])
        return seen["model"], seen["frozen"], tmp_path / "version_0"

    return run


def metrics_of(folder):
    return (folder / "metrics.csv").read_text().splitlines()[0]


def test_dense_recipe_trains_its_head_and_leaves_the_backbone_alone(fit):
    module, frozen, folder = fit("dense_476.yaml", **TINY, **{"model.options": DENSE})
    assert isinstance(module, DenseModule) and frozen
    after = module.net.backbone.state_dict()
    assert all(torch.equal(frozen[name], after[name]) for name in frozen)
    net = open_predictor(folder / "checkpoint")
    assert isinstance(net, DenseNet) and net.config.num_classes == 11 and net.config.labels[3].drivable
    assert "val/miou" in metrics_of(folder) and "val/auprc_anomaly" in metrics_of(folder)


def test_erfnet_recipe_trains_with_counted_class_weights(fit):
    size = {"data.image_size": 48, "data.crop": "[48, 64]", "model.options.image_size": 48}
    module, _, folder = fit("erfnet.yaml", **size)
    assert isinstance(module, ErfNetModule)
    road, absent, void = module.weights[3], module.weights[5], module.weights[11]
    assert road < absent == pytest.approx(1 / math.log(1.1)) and void == 1
    net = open_predictor(folder / "checkpoint")
    assert isinstance(net, ErfNet) and net.config.image_size == 48
    assert "val/auprc_void" in metrics_of(folder)
    assert json.loads((folder / "environment.json").read_text())["steps"] == 2


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_void_output_that_was_not_trained_is_no_score(weight, tmp_path):
    """Its weights are as they began: figures of it would be noise beside those of others."""
    module = ErfNetModule(void_weight=weight)
    module.net.save_pretrained(tmp_path)
    for names in (module.val_scores, open_predictor(tmp_path).score_names):
        assert ("void" in names) == (weight > 0)


def test_a_resumed_erfnet_keeps_its_class_weights(fit):
    """Counted anew they would be those of later batches, and the loss another one."""
    options = {"data.image_size": 48, "data.crop": "[48, 64]", "model.options.image_size": 48,
               "model.weight_batches": 1, "trainer.limit_val_batches": 0}  # fmt: skip
    first, _, folder = fit("erfnet.yaml", **options)
    last = folder / "checkpoints/last.ckpt"
    first.trainer.save_checkpoint(last)
    resumed, _, _ = fit("erfnet.yaml", **{**options, "trainer.max_steps": 3}, ckpt_path=last)
    assert resumed.global_step == 3 and torch.equal(resumed.weights, first.weights)


@pytest.mark.parametrize("outliers", ["ignore", "no_object"])
def test_plain_eomt_recipe_trains_without_an_anomaly_head(fit, outliers):
    recipes, options = ("small_476.yaml", "eomt_plain_476.yaml"), {"model.outliers": outliers}
    module, frozen, folder = fit(*recipes, **TINY, **POINTS, **options)
    after = module.net.backbone.state_dict()
    assert frozen and all(torch.equal(frozen[name], after[name]) for name in frozen)
    assert all(not p.grad.any() for p in module.net.anomaly_head.parameters() if p.grad is not None)
    predictor = open_predictor(folder / "checkpoint")
    assert set(predictor.score_names) == set(scores.SCORES) - {"eomt_ext"}
    assert "val/auprc_rba" in metrics_of(folder) and "eomt_ext" not in metrics_of(folder)


def test_what_outliers_teach_plain_eomt():
    labels = torch.tensor([[[0, OUTLIER, 3, IGNORE]]])

    def targets(outliers):
        module = EomtExtModule("tiny", backbone=None, outliers=outliers)
        changed, (target,) = module._targets(labels)
        return changed.flatten().tolist(), target.ids.tolist(), target.labels.flatten().tolist()

    kept = [0, OUTLIER, 3, IGNORE]
    assert targets("anomaly") == (kept, [0, 3, OUTLIER], kept)
    assert targets("no_object") == (kept, [0, 3], kept)  # a pixel of no mask, not an ignored one
    ignored = [0, IGNORE, 3, IGNORE]
    assert targets("ignore") == (ignored, [0, 3], ignored)


def test_an_unknown_network_is_refused(tmp_path):
    import fit as command

    (tmp_path / "x.yaml").write_text("network: segnet\n")
    with pytest.raises(SystemExit, match="segnet.*eomt_ext, erfnet, dense"):
        command.main(["fit", "--config", str(tmp_path / "x.yaml")])
    assert command.network_of(["fit", "-c", str(CONFIGS / "erfnet.yaml")]) == "erfnet"
    assert command.network_of(["fit", f"--config={CONFIGS / 'erfnet.yaml'}", "--network=dense"]) == "dense"
    assert command.network_of([]) == "eomt_ext"


@pytest.mark.parametrize(
    "void, expected",
    [
        ("outlier", [0, 1, IGNORE, 2, IGNORE]),
        ("unlabelled", [0, 1, 2, IGNORE, IGNORE]),
        ("both", [0, 1, 2, 2, IGNORE]),
    ],
)
def test_what_teaches_void(void, expected):
    labels = torch.tensor([0, 1, IGNORE, OUTLIER, ORDINARY])
    assert void_target(labels, num_classes=2, void=void).tolist() == expected


def test_class_weights_are_the_paper_s():
    labels = [torch.tensor([0, 0, 0, 1, IGNORE]), torch.tensor([OUTLIER, 1, 0, 0, 0])]
    pixels = class_pixels(labels, num_classes=3)
    assert pixels.tolist() == [6, 2, 0]
    expected = [1 / math.log(1.10 + p) for p in (0.75, 0.25, 0.0)]
    assert class_weights(pixels).tolist() == pytest.approx(expected)


def test_weighted_ce_is_torch_s_and_survives_a_crop_without_labels():
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    weights = torch.tensor([1.0, 5.0, 0.0])
    target[0, 0] = IGNORE
    expected = torch.nn.functional.cross_entropy(logits, target, weights, ignore_index=IGNORE)
    assert weighted_ce(logits, target, weights).item() == pytest.approx(expected.item(), rel=1e-5)
    assert weighted_ce(logits, torch.full_like(target, IGNORE), weights) == 0


def test_dense_losses_are_means_over_their_own_pixels():
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0], [5.0, 5.0, 5.0]]).T.reshape(1, 3, 1, 3)
    labels = torch.tensor([[[OUTLIER, 1, IGNORE]]])
    found = dense_losses(logits, labels, outlier_weight=2.0)

    def nll(a, b, c):  # of class c
        return math.log(math.exp(a) + math.exp(b)) - (a, b)[c]

    def bce(x, y):
        return math.log1p(math.exp(-x)) if y else math.log1p(math.exp(x))

    assert found["classes"].item() == pytest.approx(nll(0, 3, 1), rel=1e-5)
    assert found["anomaly"].item() == pytest.approx((2 * bce(2, 1) + bce(-1, 0)) / 3, rel=1e-5)
    assert found["uniform"].item() == pytest.approx((nll(1, 0, 0) + nll(1, 0, 1)) / 2, rel=1e-5)
    ordinary = dense_losses(logits, torch.tensor([[[OUTLIER, 1, ORDINARY]]]), outlier_weight=2.0)
    assert ordinary["classes"].item() == pytest.approx(found["classes"].item())
    assert ordinary["anomaly"].item() == pytest.approx((2 * bce(2, 1) + bce(-1, 0) + bce(5, 0)) / 4, rel=1e-5)
    nothing = dense_losses(logits, torch.full_like(labels, IGNORE), 2.0)
    assert all(value == 0 for value in nothing.values())


def test_pixels_reach_erfnet_as_in_the_paper():
    from eomt_anomaly.model import EomtExtConfig

    config, image = EomtExtConfig(), torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(x)[:, None, None] for x in (config.pixel_mean, config.pixel_std))
    assert torch.allclose(ErfNetModule()._as_paper((image - mean) / std), image, atol=1e-6)
