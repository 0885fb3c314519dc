# SPDX-License-Identifier: MIT
"""`throughput.py`: cached features train alike, what is written, what they need, and mistakes."""

import json

import pytest
import throughput as script
import torch
from recipe_runs import NETWORK, RECIPE, TRAINING

from eomt_training.evaluation import throughput
from eomt_training.evaluation.throughput import (
    CachedFeatures,
    Case,
    Run,
    feature_bytes,
    rows,
    synthetic_batch,
)
from eomt_training.lightning_module import EomtExtModule
from eomt_training.targets import OUTLIER

DECODERS = ("joint", "cross_attention")
TINY = [f"--config={RECIPE}", "--model.size=tiny", "--model.backbone=null", "--data.image_size=56",
        f"--model.options={json.dumps(NETWORK)}", "--model.loss.num_points=256",
        "--trainer.accelerator=cpu"]  # fmt: skip


def tiny(decoder):
    torch.manual_seed(0)
    return EomtExtModule(
        "tiny", backbone=None, deep_supervision=False, options={**NETWORK, "decoder": decoder}
    ).train()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decoder", DECODERS)
def test_cached_features_give_the_same_loss_and_gradients(decoder, dtype):
    module, asked = tiny(decoder), []
    batch = synthetic_batch(module.net, 2, (56, 56))
    assert (batch["labels"] == OUTLIER).any((1, 2)).all()

    def step():
        module.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            loss = module.training_step(batch, 0)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)]

    computed, frozen = step(), module.net.backbone.forward

    def counted(*inputs):
        asked.append(inputs)
        return frozen(*inputs)

    module.net.backbone.forward = CachedFeatures(counted)
    for found in (step(), step()):
        assert len(found) == len(computed) > 10
        assert all(torch.equal(a, b) for a, b in zip(computed, found))
    assert len(asked) == 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_bytes_are_those_of_what_the_decoder_reads(decoder):
    net, read = tiny(decoder).net, []
    net.decoder.register_forward_pre_hook(lambda _, inputs: read.append(inputs))
    net.upscale.register_forward_pre_hook(lambda _, inputs: read.append(inputs))
    net(torch.zeros(1, 3, 56, 84))
    (tokens, laterals, *_), (_, _, detail) = read
    seen = [detail, *laterals, *([tokens] if decoder == "joint" else [])]
    assert feature_bytes(net, (56, 84)) == sum(x.bfloat16().nbytes for x in seen)


def test_rows_compare_each_batch_with_its_own_computed_case():
    cases = [Case(2, False), Case(2, True), Case(4, False), Case(4, True)]
    timed = Run([[30, 10, 20], [9, 11, 10], [40, 40, 40], [30, 30, 30]], 1, None, "cpu", "x", (1, 1), 1)
    weighed = [Run([[1]], 100 + i, None, "cpu", "x", (1, 1), 1) for i in range(4)]
    found = rows(cases, timed, weighed)
    assert [row["ratio"] for row in found] == [1, 2, 1, pytest.approx(4 / 3)]
    assert [row["images_per_s"] for row in found] == pytest.approx([100, 200, 100, 400 / 3])
    assert [row["peak_mb"] for row in found] == [100, 101, 102, 103]
    assert (found[0]["ms"], found[0]["ms_low"], found[0]["ms_high"]) == (20, 10, 30)


def test_the_command_trains_every_case_and_writes_what_it_found(tmp_path, monkeypatch, capsys):
    """In this process: the next test has those of the command."""
    monkeypatch.setattr(script, "run_alone", throughput.run)
    output = tmp_path / "new/throughput.json"
    assert script.main([*TINY, "--batch-sizes", "1", "2", "--rounds", "2", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert [(row["batch_size"], row["frozen_backbone"]) for row in result["cases"]] == [
        (n, kind) for n in (1, 2) for kind in ("computed", "cached")
    ]
    for row in result["cases"]:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"] and row["peak_mb"] > 50
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch_size"] / row["ms"])
        assert row["gpu_peak_mb"] is None
    assert (result["size"], result["rounds"], result["precision"]) == ([56, 56], 2, "bf16-mixed")
    assert result["feature_bytes"] == 2 * 32 * (17 + 16) and result["device_name"] and result["threads"]
    said = capsys.readouterr().out
    assert "| 2 | cached |" in said and "cannot be cached" in said and "MB an image" in said


@pytest.mark.slow
def test_a_case_has_a_process_of_its_own_whose_errors_come_back():
    ballast = torch.ones(2**28)  # 1 GiB here must not count there
    found = throughput.run_alone(TINY, [Case(1, True)], 1)
    assert 50 < found.peak_mb < 1000 < ballast.nbytes / 2**20 and len(found.ms[0]) == 1
    with pytest.raises(ValueError, match="crop"):
        throughput.run_alone([*TINY, "--data.crop=[57,56]"], [Case(1, False)], 1)


def test_mistakes_are_named(tmp_path, capsys):
    for given, said in (
        (["--batch-sizes", "0"], "--batch-sizes [0]"),
        (["--rounds", "0"], "--rounds 0"),
        (["--config", str(tmp_path / "none.yaml")], "none.yaml: no such file"),
    ):
        with pytest.raises(SystemExit) as stop:
            script.main(given)
        assert stop.value.code == 2 and said in capsys.readouterr().err
    for given, said in (
        ([f"--config={RECIPE}", "--model.speed=1"], "speed"),
        ([f"--config={TRAINING / 'configs/camvid/erfnet.yaml'}"], "network"),
    ):
        with pytest.raises(SystemExit):
            throughput.Recipe(given)
        assert said in capsys.readouterr().err


def test_a_second_file_adds_to_the_models_options_as_in_fit(tmp_path):
    """Else another network than fit.py trains would be timed."""
    files = [tmp_path / "recipe.yaml", tmp_path / "changes.yaml"]
    files[0].write_text("model: {size: tiny, backbone: null, options: {anomaly_hidden: 8}}")
    files[1].write_text("model: {options: {num_queries: 30}}")
    net = throughput.Recipe([f"--config={file}" for file in files]).model.net
    assert (net.config.anomaly_hidden, net.config.num_queries) == (8, 30)
