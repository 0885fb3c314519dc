# SPDX-License-Identifier: MIT
"""The model card: every figure from a file, of today's evaluation and of older ones."""

import json
import sys
from pathlib import Path

import card as command
import pytest
import yaml

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.model.fetch_backbone import NOTICE
from eomt_anomaly.runtime.checkpoints import default_checkpoint
from eomt_training.report import card, notes

TRAINING = Path(__file__).resolve().parents[1]
CAMVID_CARD = TRAINING / "configs/camvid/card.md"
HOW = {"data": "camvid", "split": "val", "every": 1, "short_side": 476, "precision": "fp32", "device": "cpu"}
OLD_ROW = {
    "auprc": 90.04,
    "auprc_low": 88.0,
    "auprc_high": 92.0,
    "auroc": 99.0,
    "fpr95": 1.5,
    "best_f1": 80.0,
}
OLD = {**HOW, "checkpoint": "x", "frames": 9, "seed": 0, "prevalence": 1.25, "scores": {"eomt_ext": OLD_ROW}}
ROW = OLD_ROW | {"auprc_surface": 93.0, "siou": float("nan"), "f1_star": 41.0, "tnr_at_tpr99": 97.0}
FIRES = {"fpr_at_threshold": 0.5, "tpr_at_threshold": 88.0}
NEW = OLD | {
    "track": "obstacle",
    "degraded_severity": 0.5,
    "scores": {"eomt_ext": ROW | FIRES, "msp": OLD_ROW | {"auprc": 70.0}},
    "degraded": {
        "dark": {"frames": 9, "scores": {"eomt_ext": ROW | {"auprc": 61.5, "fpr_at_threshold": 12.5}}}
    },
    "baselines": {"erfnet": {"frames": 9, "scores": {"void": OLD_ROW | {"auprc": 33.3}}}},
}
CALIBRATION = {"threshold": 0.25, "method": "m", "false_positive_rate": 0.005, "dataset": "camvid val"}
CALIBRATION |= {"frames": 101, "short_side": 476}
STAGE = {"command": "fit.py fit", "steps": 9, "minutes": 3.0, "device": "cpu", "threads": 2}
STAGE |= {"precision": "bf16", "torch": "2", "seed": 0, "git_commit": "abc"}


def test_an_old_measurement_gets_its_old_table():
    text = card.anomaly({"pasted": OLD})
    assert "| eomt_ext | 90.0 (88.0 to 92.0) | 99.0 | 1.5 |" in text and "Degraded" not in text


def test_new_columns_degraded_copies_and_baselines_are_shown():
    text = card.anomaly({"pasted": NEW})
    assert text.index("| eomt_ext | 90.0") < text.index("| msp | 70.0"), "the best AuPRC first"
    assert "AuPRC on road %" in text and "| – | 41.0 |" in text, "a value that is not there is a dash"
    assert "| x | dark | eomt_ext | 61.5 | 1.5 | 41.0 | 12.5 | – |" in text
    assert "| erfnet | clean | void | 33.3 |" in text and "severity 0.5" in text


def test_mask2anomaly_is_told_to_be_a_variant_where_it_was_measured():
    measured = OLD | {"scores": {"mask2anomaly": OLD_ROW}}
    assert "mask2anomaly is our variant of Rai et al. (2023)" in card.anomaly({"val": measured})
    assert "variant" not in card.anomaly({"val": OLD})
    published = command.sections((default_checkpoint() / "README.md").read_text())
    with_it = [text for text in published.values() if "| mask2anomaly |" in text]
    assert with_it and all(notes.MASK2ANOMALY in text for text in with_it)


def test_the_command_says_what_was_left_out_and_pasted():
    left_out = {"dataset": "camvid without bicyclist without car"}
    text = card.anomaly({"val": OLD | left_out | {"pasted": ["stamps"]}})
    assert "--precision fp32 --left-out bicyclist car --stamps DIR`, cpu" in text
    text = card.anomaly({"val": OLD | {"dataset": "cityscapes without traffic light without car"}})
    assert "--left-out 'traffic light' car`" in text, "two classes, as a shell reads it"
    assert "--precision fp32`, cpu" in card.anomaly({"val": OLD | {"dataset": "camvid", "pasted": []}})


def test_classes_with_degraded_copies():
    m = {
        **HOW,
        "checkpoint": "x",
        "frames": 9,
        "miou": 70.0,
        "macc": 80.0,
        "aacc": 90.0,
        "iou": {"road": 95.0},
    }
    assert "| x | dark |" not in card.semantic({"val": m})
    assert "| val | x | dark | 40.0 |" in card.semantic(
        {"val": m | {"degraded": {"dark": m | {"miou": 40.0}}}}
    )


def test_the_threshold_with_and_without_a_guarantee():
    assert "Guarantee" not in card.threshold(CALIBRATION) and "0.5 %" in card.threshold(CALIBRATION)
    new = card.threshold(CALIBRATION | {"calibration_rate": 0.00312, "guarantee": "at most 0.0148"})
    assert "0.312 %" in new and "at most 0.0148" in new


def test_the_difference_from_the_best_other_score_has_its_interval():
    found = {"other": "uno", "difference": 5.51, "low": 2.04, "high": 8.96}
    text = card.anomaly({"val": NEW | {"against_best": {"auprc": found, "fpr95": found | {"low": -1.0}}}})
    assert "eomt_ext − uno: AuPRC +5.5 (+2.0 to +9.0); eomt_ext − uno: FPR95 +5.5 (-1.0 to +9.0)." in text
    assert "Against the best" not in card.anomaly({"val": NEW})


def test_controls_of_older_and_of_newer_files():
    old = {"pastes": 9, "pasted": 0.0, "around": 0.5, "before": 0.0}
    new = old | {"auroc_around": 0.4321, "auroc_before": 0.5, "median_pasted": 0.00123, "median_around": 0.01}
    new |= {"median_before": 0.002}
    assert "median" not in card.control({"val": old})
    text = card.control({"val": old, "drives": new, "at": new | {f"{k}_tpr95": 1.5 for k in old}})
    assert "| val | 9 | 0.00 | 0.50 | 0.00 |" in text
    assert "| drives | 0.00123 | 0.01 | 0.002 | 0.432 | 0.500 | – | – | – |" in text
    assert "| at | 0.00123 | 0.01 | 0.002 | 0.432 | 0.500 | 1.50 | 1.50 | 1.50 |" in text


@pytest.mark.parametrize("measurement", [OLD, NEW])
def test_the_card_is_written(tmp_path, monkeypatch, measurement):
    (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
    (tmp_path / "environment.json").write_text(json.dumps(STAGE))
    (tmp_path / "a.json").write_text(json.dumps(measurement))
    arguments = [
        "--checkpoint",
        tmp_path,
        "--introduction",
        CAMVID_CARD,
        "--environment",
        tmp_path / "environment.json",
    ]
    arguments += ["--anomaly", f"unseen objects={tmp_path / 'a.json'}"]
    monkeypatch.setattr(sys, "argv", ["card.py", *map(str, arguments)])
    assert command.main() == 0
    assert "## Anomalies: unseen objects" in (tmp_path / "README.md").read_text()


def test_what_is_measured_anew_replaces_its_section_and_leaves_the_others(tmp_path, monkeypatch):
    def write(**files):
        given = ["card.py", "--checkpoint", str(tmp_path)]
        if not (tmp_path / "README.md").is_file():
            given += ["--introduction", str(CAMVID_CARD)]
        for option, (title, content) in files.items():
            path = tmp_path / f"{option}.json"
            path.write_text(json.dumps(content))
            given += [f"--{option}", f"{title}={path}" if title else str(path)]
        monkeypatch.setattr(sys, "argv", given)
        assert command.main() == 0
        return (tmp_path / "README.md").read_text()

    (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION))
    first = write(environment=("", STAGE), anomaly=("drives", OLD))
    assert "9 steps in 3 minutes" in first and "90.0 (88.0 to 92.0)" in first
    other = OLD | {"scores": {"eomt_ext": OLD_ROW | {"auprc": 50.0}}}
    assert "90.0 (88.0 to 92.0)" in (both := write(anomaly=("pasted", other))) and "50.0 (88.0" in both
    again = write(anomaly=("drives", other))
    assert "90.0 (88.0" not in again and again.count("## Anomalies: drives") == 1, "it was measured anew"
    assert "9 steps in 3 minutes" in again and again.count("## ") == both.count("## ")
    headings = [line for line in again.splitlines() if line.startswith("#")]
    assert headings[0].startswith("# EoMT") and headings[-1] == "## Alert threshold"
    assert write() == again


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["card.py", *map(str, arguments)])
    return command.main()


def test_the_default_checkpoints_card_is_made_from_these_words(tmp_path, monkeypatch):
    """What no measurement is behind, and the threshold: word for word, from nothing."""
    published = command.sections((default_checkpoint() / "README.md").read_text())
    for name in ("calibration.json", "model.safetensors"):
        (tmp_path / name).symlink_to(default_checkpoint() / name)
    assert run(monkeypatch, "--checkpoint", tmp_path, "--introduction", CAMVID_CARD) == 0
    made = command.sections((tmp_path / "README.md").read_text())
    assert len(made) == 3 and made.items() <= published.items()
    assert " ".join(NOTICE.split()) in made["## Data and terms"]
    recipe = yaml.safe_load((TRAINING / "configs/camvid/small_476.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "environment.json").write_text(json.dumps(STAGE))
    last = card.training([command.stage(tmp_path / "environment.json")]).splitlines()[-1]
    assert last == published["## Training"].rstrip().splitlines()[-1]
    val = HOW | {"iou": {}, "miou": 1.0, "macc": 1.0, "aacc": 1.0, "checkpoint": "x", "frames": 9}
    note = card.semantic({"val": val}).partition("\n\n")[2].partition("\n\n")[2]
    assert note and published["## Classes (IoU, %)"].rstrip().endswith(note.rstrip())


@pytest.mark.parametrize("kind", ["semantic", "anomaly", "control"])
def test_a_measurement_of_other_weights_is_refused(tmp_path, monkeypatch, capsys, kind):
    EomtExt(EomtExtConfig.preset("tiny")).save_pretrained(tmp_path)
    own = json.loads((tmp_path / "config.json").read_text())["weights_sha256"]
    semantic = HOW | {"iou": {}, "miou": 1.0, "macc": 1.0, "aacc": 1.0, "checkpoint": "x", "frames": 9}
    pastes = {"pastes": 9, "pasted": 0.0, "around": 0.5, "before": 0.0}
    measured = {"semantic": semantic, "anomaly": OLD, "control": pastes}[kind]
    file = tmp_path / "a.json"
    given = ["--checkpoint", tmp_path, "--introduction", CAMVID_CARD, f"--{kind}", f"val={file}"]
    before = (tmp_path / "README.md").read_text()

    file.write_text(json.dumps(measured | {"weights_sha256": "of others"}))
    assert run(monkeypatch, *given) == 1 and (tmp_path / "README.md").read_text() == before
    error = capsys.readouterr().err
    assert f"{file} is of weights of others" in error and own in error
    file.write_text(json.dumps(measured | {"weights_sha256": own}))
    assert run(monkeypatch, *given) == 0 and not capsys.readouterr().err
    file.write_text(json.dumps(measured))
    assert run(monkeypatch, *given) == 0
    assert f"{file} does not tell of which weights" in capsys.readouterr().err
    (tmp_path / "calibration.json").write_text(json.dumps(CALIBRATION | {"weights_sha256": "of others"}))
    assert run(monkeypatch, *given) == 1 and "calibration.json is of weights of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option, content, said",
    [
        ("--semantic={}", "{}", "give TITLE=FILE"),
        ("--semantic=val={}", '{"command": "anomaly"}', "give it with --anomaly"),
        ("--semantic=val={}", "{", "a.json is not JSON"),
        ("--semantic=val={}", "[]", "a.json holds no JSON object"),
        ("--semantic=val={}.gone", "{}", "a.json.gone"),
        ("--environment={}.gone", "{}", "a.json.gone"),
    ],
)
def test_what_is_no_measurement_is_named(tmp_path, monkeypatch, capsys, option, content, said):
    (tmp_path / "a.json").write_text(content)
    given = ["--checkpoint", tmp_path, "--introduction", CAMVID_CARD, option.format(tmp_path / "a.json")]
    assert run(monkeypatch, *given) == 1 and said in capsys.readouterr().err


def test_another_checkpoint_gets_no_words_of_camvid(tmp_path, monkeypatch, capsys):
    EomtExt(EomtExtConfig.preset("tiny")).save_pretrained(tmp_path)
    before = (tmp_path / "README.md").read_text()
    assert run(monkeypatch, "--checkpoint", tmp_path) == 1
    assert "'## Data and terms'" in (error := capsys.readouterr().err) and "--introduction FILE" in error
    assert (tmp_path / "README.md").read_text() == before
    words = tmp_path / "words.md"
    words.write_text("# A network of ours\n\n## Data and terms\nOur own.\n\n## Thanks\nTo all.\n")
    (tmp_path / "environment.json").write_text(json.dumps(STAGE))
    m = HOW | {"data": "cityscapes", "checkpoint": "x", "frames": 9, "miou": 70.0, "macc": 1.0, "aacc": 1.0}
    (tmp_path / "a.json").write_text(json.dumps(m | {"iou": {"road": 95.0}}))
    given = ["--environment", tmp_path / "environment.json", "--semantic", f"val={tmp_path / 'a.json'}"]
    assert run(monkeypatch, "--checkpoint", tmp_path, "--introduction", words, *given) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlibrary_name") and text.count("\n# ") == 1 and "# A network of ours" in text
    assert not {"camvid", "pastes", "tuxpaint", "EoMT-EXT", "averaged"} & set(text.replace(",", " ").split())
    assert "CamVid" not in text and "One run each.\n" in text and "there is no calibration.json" in text
    assert run(monkeypatch, "--checkpoint", tmp_path) == 0 and (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize(
    "callbacks, words",
    [
        (["eomt_training.ema.ExponentialAverage"], "step, averaged: none was selected on a validation set."),
        (["lightning.pytorch.callbacks.EarlyStopping"], "last step: a validation set said when to stop."),
        ([], "last step: none was selected on a validation set."),
    ],
)
def test_which_weights_were_kept_is_what_the_runs_say(tmp_path, callbacks, words):
    (tmp_path / "environment.json").write_text(json.dumps(STAGE))
    listed = [{"class_path": name} for name in callbacks]
    for given in [listed or None, *listed]:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": given}}))
        known = command.stage(tmp_path / "environment.json")
        assert card.training([known]).rstrip().endswith(words)
    assert card.training([known, STAGE]).endswith("\n\nOne run each.\n"), "one says nothing"
