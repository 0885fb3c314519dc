# SPDX-License-Identifier: MIT
"""`ablation.py`: its arithmetic against SciPy, its plans against the real command lines, its bookkeeping."""

import copy
import importlib.util
import json
import math
from pathlib import Path

import evaluate
import fit
import numpy as np
import pytest
import torch
import yaml
from scipy.stats import ttest_rel

from eomt_anomaly.model import Decoder, EomtExt, EomtExtConfig
from eomt_training.baselines import EomtExtPredictor
from eomt_training.evaluation.ablation import QUALITY, cost, paired, quality, table
from eomt_training.labels import CAMVID

TRAINING = Path(__file__).resolve().parents[1]
PLANS = sorted((TRAINING / "configs/ablation").glob("*.yaml"))
spec = importlib.util.spec_from_file_location("ablation_script", TRAINING / "ablation.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def test_the_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    ours, reference = rng.normal(71, 2, 5), rng.normal(70, 2, 5)
    mean, half = paired(ours, reference)
    interval = ttest_rel(ours, reference).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx(tuple(interval))
    mean, half = paired([71.0], [70.0])
    assert mean == 1 and math.isnan(half)


def test_only_a_difference_beyond_its_interval_is_bold():
    same = {**dict.fromkeys(QUALITY, 50.0), "gflops": 10.0, "parameters_m": 20.0}
    one = [same | {"miou": 60 + noise, "drives_auprc": 50 + 10 * noise} for noise in (-0.1, 0.0, 0.1)]
    other = [same | {"miou": 65 + noise, "drives_auprc": 51 - 10 * noise} for noise in (-0.1, 0.0, 0.2)]
    lines = table({"one": one, "other": other}).splitlines()
    assert lines[2].startswith("| one | 60.0 |") and lines[3].startswith("| other | 65.0 |")
    difference = lines[4].split(" | ")
    assert difference[0] == "| other − one" and difference[1].startswith("**+5.0 ±")
    assert not difference[5].startswith("**") and "±" in difference[5]


@pytest.mark.parametrize("decoder", list(Decoder))
def test_operations_of_a_block_include_its_attention(decoder):
    """A ViT block: 24 T D^2 + 4 T^2 D operations, 12 D^2 + 15 D parameters."""
    options = {"patch_size": 16, "pos_grid": 4, "num_queries": 8, "decoder": decoder}
    deep, shallow = (
        cost(EomtExtPredictor(EomtExt(EomtExtConfig.preset("tiny", num_layers=n, **options))), 48)
        for n in (5, 3)
    )
    tokens, d = 1 + 3 * 4, 32  # 48x64 px; two more frozen blocks: no queries in them
    assert 1e9 * (deep["gflops"] - shallow["gflops"]) == pytest.approx(
        2 * (24 * tokens * d * d + 4 * tokens * tokens * d), rel=1e-6
    )
    assert 1e6 * (deep["parameters_m"] - shallow["parameters_m"]) == pytest.approx(2 * (12 * d * d + 15 * d))


def test_a_short_side_that_is_no_multiple_of_the_patch_costs_what_is_measured_at_it():
    """As `evaluate.py --short-side` takes it: the nearest multiple. This fails after all training is done."""
    network = EomtExtPredictor(EomtExt(EomtExtConfig.preset("tiny", patch_size=16, pos_grid=4)))
    assert cost(network, 45) == cost(network, 48)


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_every_variant_of_every_plan_is_understood_by_fit_and_evaluate(plan, monkeypatch, capsys):
    monkeypatch.chdir(TRAINING.parent)
    values = yaml.safe_load(plan.read_text())
    seen = set()
    for name, variant in values["variants"].items():
        with pytest.raises(SystemExit) as stop:
            fit.main(["fit", *variant["fit"], *values["fit"], "--print_config"])
        assert stop.value.code == 0, name
        config = yaml.safe_load(capsys.readouterr().out)
        seen.add(json.dumps([config["model"], config["data"]]))
    assert len(seen) == len(values["variants"]), "two variants are the same"
    evaluate.arguments(["anomaly", "--checkpoint", "x", "--root", "x", *values["evaluate"]])


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The scripts that would run: fit.py leaves a tiny network, evaluate.py one set of figures."""
    ran = []

    def pretend(name, *arguments):
        texts = [str(a) for a in arguments]
        ran.append((name, texts))
        if name == "fit.py":
            options = dict(
                x.removeprefix("--").split("=", 1) for x in texts if x.startswith("--") and "=" in x
            )
            torch.manual_seed(0)
            config = {"labels": CAMVID, "num_queries": 8, "image_size": 56, "upscale_channels": (24, 16)}
            folder = Path(options["trainer.default_root_dir"]) / "version_0/checkpoint"
            EomtExt(EomtExtConfig.preset("tiny", **config)).save_pretrained(folder)
        else:
            output = Path(texts[texts.index("--output") + 1])
            scores = {"eomt_ext": {"auprc": 90.0, "fpr95": 5.0, "f1_star": 60.0}}
            scores["rba"] = {"auprc": 40.0, "fpr95": 50.0, "f1_star": 6.0}
            kind = {"miou": 70.0, "short_side": 56} if texts[0] == "semantic" else {"scores": scores}
            if "--degraded" in texts:
                kinds = texts[texts.index("--degraded") + 1 : texts.index("--output")]
                kind["degraded"] = {name: copy.deepcopy(kind) for name in kinds}
            output.write_text(json.dumps(kind))

    monkeypatch.setattr(script, "script", pretend)
    (tmp_path / "recipe.yaml").write_text("model: {lr: 1}  # a recipe\n")
    plan = {
        "about": "x",
        "fit": ["--config", str(tmp_path / "recipe.yaml")],
        "evaluate": ["--every", "2"],
        "variants": {name: {"fit": [f"--model.lr={i}"], "score": "eomt_ext"} for i, name in enumerate("ab")},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    data = [x for name in ("camvid", "drives", "stamps") for x in (f"--{name}", "data")]
    base = [str(tmp_path / "plan.yaml"), "--output", str(tmp_path / "runs"), *data]
    return base, ran, tmp_path / "runs"


def test_what_is_finished_is_not_done_again_and_seeds_are_paired(commands, capsys):
    base, ran, runs = commands
    assert script.main([*base, "--seeds", "0", "1"]) == 0
    fits = [texts for name, texts in ran if name == "fit.py"]
    assert [[x for x in texts if "seed" in x and "root" not in x] for texts in fits] == [
        [f"--seed_everything={seed}", f"--data.seed={seed}"] for seed in (0, 0, 1, 1)
    ]
    assert len(ran) == 4 * 4
    found = json.loads((runs / "ablation.json").read_text())["found"]
    assert [run["pasted_auprc"] for run in found["b"]] == [90.0, 90.0] and found["a"][0]["gflops"] > 0
    assert "b − a" in (runs / "ablation.md").read_text()
    (runs / "b_seed1/drives.json").unlink()
    assert script.main([*base, "--seeds", "0", "1"]) == 0 and len(ran) == 4 * 4 + 1


def test_a_run_of_another_plan_is_refused_before_anything_is_trained(commands, tmp_path, capsys):
    base, ran, runs = commands
    plan, recipe = tmp_path / "plan.yaml", tmp_path / "recipe.yaml"
    assert script.main([*base, "--seeds", "0", "--variants", "b"]) == 0
    count, text, values = len(ran), recipe.read_text(), yaml.safe_load(plan.read_text())
    remedy = f"remove {runs / 'b_seed0'}, or give another --output"

    def refused(*more):
        assert script.main([*base, "--seeds", "0", *more]) == 1 and len(ran) == count
        return " ".join(capsys.readouterr().err.split())

    recipe.write_text(text.replace("lr: 1", "lr: 2"))
    assert "b_seed0 was trained with other recipes" in (error := refused()) and remedy in error
    recipe.write_text(text + "# a remark\n")
    assert script.main([*base, "--seeds", "0", "--variants", "b"]) == 0 and len(ran) == count
    assert f"--data.stamps_root={Path('other').resolve()}" in refused("--stamps", "other")
    values["variants"]["b"]["fit"] = ["--model.lr=3"]
    plan.write_text(yaml.safe_dump(values))
    assert "other arguments (--model.lr=1 --model.lr=3)" in (error := refused()) and remedy in error
    (runs / "b_seed0/made_with.json").unlink()
    assert "has no made_with.json" in (error := refused()) and remedy in error


def test_what_was_measured_in_another_way_is_measured_again(commands, tmp_path, monkeypatch):
    base, ran, runs = commands
    plan, pretend = tmp_path / "plan.yaml", script.script
    assert script.main([*base, "--seeds", "0"]) == 0
    count, before = len(ran), plan.read_text()
    plan.write_text(before.replace("'2'", "'1'"))

    def breaks_off(name, *arguments):
        if len(ran) == count + 1:
            raise OSError("no space")
        pretend(name, *arguments)

    monkeypatch.setattr(script, "script", breaks_off)
    assert script.main([*base, "--seeds", "0"]) == 1 and len(ran) == count + 1
    monkeypatch.setattr(script, "script", pretend)
    for every in (before, plan.read_text()):  # back to the first plan: one of three files is not of it
        plan.write_text(every)
        count = len(ran)
        assert script.main([*base, "--seeds", "0", "--variants", "a"]) == 0 and len(ran) == count + 3
        assert {name for name, _ in ran[count:]} == {"evaluate.py"}
        assert script.main([*base, "--seeds", "0", "--variants", "a"]) == 0 and len(ran) == count + 3


def test_every_score_of_the_same_weights_has_its_row(commands):
    base, ran, runs = commands
    assert script.main([*base, "--seeds", "0"]) == 0
    assert not any("--scores" in texts for _, texts in ran)
    text = (runs / "ablation.md").read_text()
    assert "| a | eomt_ext | 70.0 | 90.0 | 5.0 | 60.0 |" in text
    assert "| b | rba | 70.0 | 40.0 | 50.0 |" in text
    assert "Degraded" not in text and "on road" not in text
    older = json.loads((runs / "a_seed0/pasted.json").read_text())  # measured under the plan's score alone
    older["scores"].pop("rba")
    (runs / "a_seed0/pasted.json").write_text(json.dumps(older))
    count = len(ran)
    assert script.main([*base, "--seeds", "0"]) == 0 and len(ran) == count, "a finished run stays valid"
    text = (runs / "ablation.md").read_text()
    assert "| a | eomt_ext |" in text and "| a | rba |" not in text and "| b | rba |" in text


def test_degraded_copies_are_measured_where_they_are_missing(commands):
    base, ran, runs = commands
    assert script.main([*base, "--seeds", "0"]) == 0
    assert script.main([*base, "--seeds", "0", "--degraded", "fog", "dark"]) == 0
    again = [texts for name, texts in ran[8:]]
    assert len(again) == 6 and all(texts[0] != "fit" for texts in again), "measured, not trained"
    assert "| a | fog | 70.0 | 90.0 |" in (runs / "ablation.md").read_text()
    assert script.main([*base, "--seeds", "0", "--degraded", "fog"]) == 0 and len(ran) == 8 + 6
    assert script.main([*base, "--seeds", "0"]) == 0 and len(ran) == 8 + 6
    assert "| b | dark | 70.0 |" in (runs / "ablation.md").read_text(), "what was measured is shown"
    assert script.main([*base, "--seeds", "0", "--degraded", "noise"]) == 0
    kinds = ran[-1][1][ran[-1][1].index("--degraded") + 1 :][:3]
    assert kinds == ["dark", "fog", "noise"], "nothing measured is lost"


def test_the_drivable_surface_has_columns_where_it_was_measured():
    run = {**dict.fromkeys(list(QUALITY)[:7], 50.0), "gflops": 10.0, "parameters_m": 20.0}
    with_surface = run | {"pasted_auprc_surface": 61.0, "drives_auprc_surface": 62.0}
    assert "on road" not in table({"one": [run], "other": [with_surface]})
    both = table({"one": [with_surface], "other": [with_surface]})
    assert "| pasted AuPRC on road | drives AuPRC on road |" in both and "| 61.0 | 62.0 |" in both
    result = {"scores": {"rba": {"auprc": 1.0, "fpr95": 2.0, "f1_star": 3.0, "auprc_surface": 4.0}}}
    figures = quality({"semantic": {"miou": 5.0}, "pasted": result, "drives": result}, "rba")
    assert figures["pasted_auprc_surface"] == figures["drives_auprc_surface"] == 4.0


def test_mistakes_are_named(commands, capsys):
    base, ran, runs = commands
    assert script.main([*base, "--variants", "c"]) == 1
    assert "no variant 'c': the plan has a, b" in capsys.readouterr().err
    (runs / "a_seed0").mkdir(parents=True)
    assert script.main([*base, "--seeds", "0"]) == 1
    assert "unfinished run: remove it" in capsys.readouterr().err and not ran
    assert script.main([str(runs / "none.yaml"), *base[1:]]) == 1
