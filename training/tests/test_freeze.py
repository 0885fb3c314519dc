# SPDX-License-Identifier: MIT
"""What a freeze policy names gets no gradient and keeps every bit; what it leaves out learns."""

import json

import fit
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from recipe_runs import NETWORK, shrunk

from eomt_training.freeze import Freeze
from eomt_training.lightning_module import EomtExtModule
from eomt_training.losses import LossConfig

CASES = {  # policy, class_lr -> parts of the network that learn
    (Freeze.backbone, None): "decoder upscale mask_head class_head anomaly_head",
    (Freeze.backbone, 0.0): "decoder upscale mask_head anomaly_head",
    (Freeze.all_blocks, None): "decoder.query upscale mask_head class_head anomaly_head",
    (Freeze.all_but_anomaly_head, None): "anomaly_head",
    (Freeze.all_but_dense_head, None): "dense_head",
}


class Watch(Callback):
    """Weights before training, and the names of all that ever got a gradient."""

    def on_fit_start(self, trainer, module):
        self.module, self.touched = module, set()
        self.before = {k: v.clone() for k, v in module.net.state_dict().items()}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.touched |= {n for n, p in module.net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("policy, class_lr", CASES)
def test_frozen_weights_get_no_gradient_and_keep_every_bit(
    policy, class_lr, camvid_root, stamps_root, tmp_path, monkeypatch
):
    """Through fit.py with the recipe's moving average, three steps at a high rate and weight decay."""
    watch = Watch()
    monkeypatch.setattr(fit.Cli, "before_fit", lambda cli: cli.trainer.callbacks.append(watch))
    options = {"model__freeze": policy.value, "model__lr": 0.01, "model__weight_decay": 0.5}
    options |= {"model__class_lr": "null" if class_lr is None else class_lr, "data__paste_probability": 1}
    if policy is Freeze.all_but_dense_head:
        options["model__options"] = json.dumps({**NETWORK, "dense_anomaly": True})
    fit.main(shrunk(camvid_root, "null", stamps_root, tmp_path, **options))
    after, learns = watch.module.net.state_dict(), tuple(CASES[policy, class_lr].split())
    changed = {name for name in after if not torch.equal(after[name], watch.before[name])}
    trained = {name for name in after if name.startswith(learns)}
    assert watch.touched == trained and changed <= trained
    for part in learns:
        assert any(name.startswith(part) for name in changed), f"{part} should have learned"


def test_a_low_rate_of_the_class_head_is_its_own():
    module = EomtExtModule("tiny", backbone=None, lr=1e-3, class_lr=1e-5)
    module.total_steps = lambda: 100
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {g["initial_lr"] for g in groups for p in g["params"] if p is module.net.class_head.weight}
    others = {g["initial_lr"] for g in groups for p in g["params"] if p is module.net.mask_head.fc1.weight}
    assert rates == {1e-5} and others == {1e-3}


def test_pretrained_blocks_wait_while_the_heads_warm_up():
    module = EomtExtModule("tiny", backbone=None, block_lr=1e-4, warmup=3, block_wait=4, block_warmup=2)
    module.hparams["backbone"] = "some"  # where it is null, blocks begin at random, and learn as heads
    module.total_steps = lambda: 100
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    block = next(module.net.decoder.blocks[-1].parameters())
    found = []
    for _ in range(7):
        found += [g["lr"] for g in optimizer.param_groups for p in g["params"] if p is block]
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx([0, 0, 0, 0, 0, 0.5e-4, 1e-4])


def test_policies_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match="cross_attention decoder has no pretrained blocks.*freeze = backbone"
    ):
        EomtExtModule("tiny", backbone=None, options={"decoder": "cross_attention"}, freeze=Freeze.all_blocks)
    with pytest.raises(ValueError, match="dense_anomaly = true"):
        EomtExtModule("tiny", backbone=None, freeze=Freeze.all_but_dense_head)
    with pytest.raises(ValueError, match="leaves nothing to train"):
        EomtExtModule(
            "tiny",
            backbone=None,
            options={"dense_anomaly": True},
            freeze=Freeze.all_but_dense_head,
            loss=LossConfig(dense=0.0),
        )
    with pytest.raises(ValueError, match="leave nothing to train"):
        EomtExtModule("tiny", backbone=None, outliers="ignore", freeze=Freeze.all_but_anomaly_head)


def test_a_dense_head_can_be_added_to_a_trained_network(tmp_path):
    """Every weight of the checkpoint is taken over; the new head keeps its start."""
    plain = EomtExtModule("tiny", backbone=None).net
    plain.save_pretrained(tmp_path, dtype=torch.float32)
    module = EomtExtModule(
        "tiny",
        backbone=None,
        init=str(tmp_path),
        options={"dense_anomaly": True},
        freeze=Freeze.all_but_dense_head,
    )
    assert all(torch.equal(module.net.state_dict()[k], v) for k, v in plain.state_dict().items())
    assert module.net.dense_head.weight.std() > 0
    with pytest.raises(ValueError, match="differs in dense_anomaly"):
        module.net.save_pretrained(tmp_path, dtype=torch.float32)
        EomtExtModule("tiny", backbone=None, init=str(tmp_path))
