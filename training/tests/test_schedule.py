# SPDX-License-Identifier: MIT
"""Schedules against their formulas, as functions and as the learning rates that a run gets."""

import lightning
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eomt_training.lightning_module import EomtExtModule
from eomt_training.optimiser import Group, adamw_warmup_poly, block_groups
from eomt_training.schedule import mask_probability, warmup_poly


def test_warmup_poly_follows_the_formula():
    assert [warmup_poly(t, 2000) for t in (0, 1, 250, 500)] == [0, 1 / 500, 0.5, 1]
    assert warmup_poly(1250, 2000) == pytest.approx(0.5**0.9)
    assert warmup_poly(2000, 2000) == 0
    # The second stage: nothing before `start`, then linear.
    assert warmup_poly(500, 3000, start=500, warmup=1000) == 0
    assert warmup_poly(1000, 3000, start=500, warmup=1000) == 0.5
    assert warmup_poly(1500, 3000, start=500, warmup=1000) == 1


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 100), st.integers(0, 600))
def test_warmup_poly_stays_in_range(step, total, start, warmup):
    assert 0 <= warmup_poly(step, total, start, warmup) <= 1


def test_learning_rates_of_a_run_are_eomt_s():
    """Heads: linear to lr at 500, then lr (1 - (t-500)/(T-500))^0.9. Blocks: 0 until 500, lr 0.8^(L-1-i)
    at 1500, then poly from there."""
    total, lr, block_lr, depth = 2500, 1e-4, 5e-5, 4
    heads, blocks = nn.Linear(2, 2), nn.ModuleList(nn.Linear(2, 2) for _ in range(depth))
    groups = [Group(heads.named_parameters(), lr, 0, 500), *block_groups(blocks, block_lr, 0.8, 500, 1000)]
    made = adamw_warmup_poly(groups, 0.05, total)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]

    def rate(module):
        (found,) = {g["lr"] for g in optimizer.param_groups for p in g["params"] if p is module.weight}
        return found

    for t in range(total + 1):
        poly = [max(0.0, 1 - (t - peak) / (total - peak)) ** 0.9 for peak in (500, 1500)]
        assert rate(heads) == pytest.approx(lr * (t / 500 if t < 500 else poly[0]))
        factor = 0 if t < 500 else (t - 500) / 1000 if t < 1500 else poly[1]
        for i, block in enumerate(blocks):
            assert rate(block) == pytest.approx(block_lr * 0.8 ** (depth - 1 - i) * factor)
        optimizer.step()
        scheduler.step()
    decayed = {g["weight_decay"] for g in optimizer.param_groups for p in g["params"] if p.ndim == 1}
    assert made["lr_scheduler"]["interval"] == "step" and decayed == {0}


def test_matrices_decay_and_vectors_and_queries_do_not():
    named = {"fc.weight": (3, 2), "fc.bias": (3,), "decoder.query.weight": (5, 4), "frozen.weight": (2, 2)}
    parameters = {name: nn.Parameter(torch.zeros(shape)) for name, shape in named.items()}
    parameters["frozen.weight"].requires_grad_(False)
    optimizer = adamw_warmup_poly([Group(parameters.items(), 1e-4, 0, 5)], 0.05, 10)["optimizer"]
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    found = {name: decay.get(id(p)) for name, p in parameters.items()}
    assert found == {"fc.weight": 0.05, "fc.bias": 0, "decoder.query.weight": 0, "frozen.weight": None}


def test_mask_annealing_runs_block_by_block():
    total, blocks = 500, 3  # phases of 100 steps
    assert [mask_probability(0, total, i, blocks) for i in range(3)] == [1, 1, 1]
    assert mask_probability(150, total, 0, blocks) == pytest.approx(0.5**0.9)
    assert mask_probability(150, total, 1, blocks) == 1
    assert [mask_probability(400, total, i, blocks) for i in range(3)] == [0, 0, 0]


@given(st.integers(0, 999), st.integers(1, 6))
def test_mask_annealing_never_rises(step, blocks):
    for i in range(blocks):
        assert mask_probability(step + 1, 1000, i, blocks) <= mask_probability(step, 1000, i, blocks)


def test_a_run_without_end_is_refused():
    """As with `early_stop.yaml --trainer.max_steps -1`; it said only "cannot convert float infinity"."""
    module = EomtExtModule("tiny", backbone=None)
    module.trainer = lightning.Trainer(max_epochs=-1, max_steps=-1, logger=False, accelerator="cpu")
    with pytest.raises(ValueError, match="trainer.max_steps = -1: .* Give the most steps"):
        module.configure_optimizers()


def test_a_run_anneals_over_its_own_steps(camvid_root, tmp_path):
    """Ten steps of two blocks are four phases of 2.5: what the network is told, step by step."""
    import fit
    from recipe_runs import shrunk

    from eomt_anomaly.model import EomtExt

    told, forward = [], EomtExt.forward

    def listen(self, pixels, mask_probs=None):
        if mask_probs is not None:
            told.append(mask_probs)
        return forward(self, pixels, mask_probs)

    options = {"trainer__max_steps": 10, "trainer__val_check_interval": 10, "model__loss__num_points": 16}
    network = '{"num_queries": 200, "decoder_blocks": 2, "image_size": 56}'
    options |= {"model__options": network, "data__val_frames": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EomtExt, "forward", listen)
        fit.main(shrunk(camvid_root, "null", "null", tmp_path, **options))
    assert len(told) == 10
    for t, blocks in enumerate(told):
        for i, masked in enumerate(blocks):
            begin, end = 2.5 * (i + 1), 2.5 * (i + 2)
            wanted = 1 if t < begin else 0 if t >= end else (1 - (t - begin) / (end - begin)) ** 0.9
            share = float(torch.as_tensor(masked).mean())  # of 2 x 200 queries
            assert share == pytest.approx(wanted, abs=0.15 if 0 < wanted < 1 else 0)
