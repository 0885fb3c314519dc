# SPDX-License-Identifier: MIT
"""`evaluate.py`: every command on miniatures and a tiny untrained network."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.model.calibration import read_calibration
from eomt_training.data.folders import Sample, camvid
from eomt_training.evaluation import Predictor, beside, calibration, evaluate_anomaly
from eomt_training.evaluation.predictor import tempered
from eomt_training.evaluation.results import COLUMNS, append, without_nan
from eomt_training.evaluation.subjects import calibrated
from eomt_training.labels import CAMVID
from eomt_training.metrics.anomaly import PixelMetrics, pixel_metrics
from eomt_training.metrics.conformal import control_risk

SCRIPT = Path(__file__).resolve().parents[1] / "evaluate.py"
spec = importlib.util.spec_from_file_location("evaluate_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def tiny_network(seed=0):
    torch.manual_seed(seed)
    options = {"labels": CAMVID, "num_queries": 8, "image_size": 56, "upscale_channels": (24, 16)}
    network = EomtExt(EomtExtConfig.preset("tiny", **options)).eval()
    with torch.no_grad():
        network.anomaly_head.fc2.bias[0] += 4  # most pixels are normal to it, as to a trained one
    return network


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


@pytest.fixture
def evaluate(checkpoint, camvid_root, tmp_path, monkeypatch):
    """Runs a command; returns its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(command, *options):
        output = tmp_path / f"{command}.json"
        done = script.main([command, "--checkpoint", str(checkpoint), "--root", str(camvid_root), "--device",
                            "cpu", "--output", str(output), *map(str, options)])  # fmt: skip
        assert done == 0
        return json.loads(output.read_text())

    return run


def test_a_class_left_out_is_the_anomaly_and_has_rows_of_its_own(evaluate, camvid_root):
    result = evaluate("anomaly", "--left-out", "car")
    cars = np.mean([(sample.labels == 8).sum() / (sample.labels != 255).sum() for sample in (
        camvid(camvid_root, "val")[i] for i in range(4))])  # fmt: skip
    assert result["prevalence"] == pytest.approx(100 * cars) and result["frames"] == 4
    with open("results/results.csv") as file:
        assert {row["dataset"] for row in csv.DictReader(file)} == {"camvid without car"}


def test_only_the_wanted_scores_are_measured(evaluate, checkpoint, camvid_root, capsys):
    found = evaluate("anomaly", "--left-out", "car", "--scores", "rba", "msp")["scores"]
    assert list(found) == ["rba", "msp"]
    arguments = ["--checkpoint", str(checkpoint), "--root", str(camvid_root), "--left-out", "car"]
    assert script.main(["anomaly", *arguments, "--scores", "rba", "anomaly"]) == 1
    assert "--scores anomaly: tiny has msp, " in capsys.readouterr().err


def test_semantic_writes_confusion_pictures_rows_and_a_report(evaluate, tmp_path):
    result = evaluate("semantic", "--predictions", "pictures", "--report", "report", "--degraded", "fog")
    assert result["frames"] == 4 and len(result["frame_miou"]) == 4
    counts = np.array(result["confusion"])
    assert counts.shape == (11, 11) and counts.sum() == 4 * 47 * 64, "one row of each frame is void"
    picture = cv2.imread(str(next((tmp_path / "pictures/clean").glob("*.png"))))[..., ::-1]
    assert {tuple(c) for c in picture.reshape(-1, 3)} <= {label.color for label in CAMVID}
    rows = list(csv.DictReader((tmp_path / "results/results.csv").open()))
    assert [(r["model"], r["condition"]) for r in rows] == [("tiny", "clean"), ("tiny", "fog")]
    assert float(rows[0]["miou"]) == pytest.approx(result["miou"], rel=1e-5) and rows[0]["auprc"] == ""
    page = (tmp_path / "report/report.html").read_text()
    assert "Confusion" in page and "Worst frames" in page and "data:image/jpeg" in page


def test_anomaly_measures_every_score_clean_and_degraded(evaluate, stamps_root, tmp_path):
    options = ("--stamps", stamps_root, "--every", 2, "--degraded", "dark", "--report", "report")
    result = evaluate("anomaly", *options)
    row = result["scores"]["eomt_ext"]
    assert result["frames"] == 2 and len(result["scores"]) == 8 and set(result["degraded"]) == {"dark"}
    for key in (
        "auprc",
        "auprc_low",
        "auprc_high",
        "auroc",
        "fpr95",
        "tnr_at_tpr80",
        "auprc_surface",
        "f1_star",
    ):
        assert 0 <= row[key] <= 100, key
    assert row["tnr_at_tpr95"] == pytest.approx(100 - row["fpr95"])
    rows = list(csv.DictReader((tmp_path / "results/results.csv").open()))
    assert len(rows) == 16 and {r["condition"] for r in rows} == {"clean", "dark"}
    page = (tmp_path / "report/report.html").read_text()
    assert "<td>pasted</td><td class=n><code>stamps</code></td>" in page
    assert "mask2anomaly is our variant" in page
    assert page.count("<svg") == 2 + 8 + 2 and "http" not in page.replace("http://www.w3.org", "")


def test_the_learned_score_is_compared_with_the_best_other_on_the_same_frames(evaluate, capsys):
    result = evaluate("anomaly", "--left-out", "car")
    scores = result["scores"]
    for metric, best in (("auprc", max), ("fpr95", min)):
        found = result["against_best"][metric]
        others = {name: row[metric] for name, row in scores.items() if name != "eomt_ext"}
        assert others[found["other"]] == best(others.values())
        assert found["difference"] == pytest.approx(scores["eomt_ext"][metric] - others[found["other"]])
        assert found["low"] <= found["high"]
    assert (
        f"tiny, clean: eomt_ext − {result['against_best']['auprc']['other']}: AuPRC "
        in capsys.readouterr().out
    )
    assert "against_best" not in evaluate("anomaly", "--left-out", "car", "--scores", "eomt_ext")


def test_a_baseline_stands_beside_the_checkpoint(evaluate, stamps_root, tmp_path):
    tiny_network(seed=1).save_pretrained(tmp_path / "other")
    result = evaluate("anomaly", "--stamps", stamps_root, "--every", 4, "--baseline", tmp_path / "other")
    other = result["baselines"]["other"]["scores"]
    assert set(other) == set(result["scores"]) and other["rba"]["auprc"] != result["scores"]["rba"]["auprc"]


def test_calibrate_leaves_what_the_node_reads_and_where_it_came_from(evaluate, checkpoint):
    told = evaluate("calibrate", "--fpr", 0.3)
    digest = json.loads((checkpoint / "config.json").read_text())["weights_sha256"]
    values = read_calibration(checkpoint, digest)
    assert values["within_target"] and values["guaranteed_rate"] == 0.3 and values["frames"] == 4
    for key in (
        "data",
        "split",
        "every",
        "short_side",
        "seed",
        "date",
        "commit",
        "weights_sha256",
        "dataset",
    ):
        assert values[key] == told[key] or key == "dataset", key
    assert "--fpr 0.3 --data camvid --split val --every 1" in values["made_with"]
    assert "/" not in json.dumps(values), "no path of this machine"
    (checkpoint / "calibration.json").unlink()


def test_calibrate_tells_what_other_rates_would_give(evaluate, checkpoint, capsys):
    evaluate("calibrate", "--fpr", 0.3)
    told = re.findall(r"--fpr (\S+): ([\d.e-]+)", capsys.readouterr().out.split("other rates would give")[1])
    assert [float(rate) for rate, _ in told] == [0.225, 0.375, 0.45, 0.6], "4 frames guarantee none below 0.2"
    for rate, threshold in told[::3]:
        assert f"{evaluate('calibrate', '--fpr', rate)['threshold']:.4g}" == threshold
    (checkpoint / "calibration.json").unlink()


def test_a_calibration_without_a_class_says_so(evaluate, checkpoint):
    evaluate("calibrate", "--fpr", 0.3, "--left-out", "car")
    values = json.loads((checkpoint / "calibration.json").read_text())
    assert values["dataset"] == "camvid without car val" and "--left-out car" in values["made_with"]
    (checkpoint / "calibration.json").unlink()


def test_what_cannot_be_calibrated_is_told_before_the_frames_are_seen(
    checkpoint, camvid_root, capsys, monkeypatch
):
    monkeypatch.setattr("eomt_training.evaluation.commands.normal_scores", None)
    base = ["calibrate", "--checkpoint", str(checkpoint), "--root", str(camvid_root)]
    assert script.main([*base, "--fpr", "2"]) == 1 and "share in (0, 1)" in capsys.readouterr().err
    (checkpoint / "calibration.json").write_text("{")
    assert script.main([*base, "--fpr", "0.1"]) == 1
    assert "calibration.json is not JSON" in capsys.readouterr().err
    (checkpoint / "calibration.json").unlink()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may write everywhere
    assert script.main([*base, "--fpr", "0.1"]) == 1
    assert "calibration.json cannot be written" in capsys.readouterr().err


def test_a_threshold_is_told_though_the_disk_is_full(checkpoint, camvid_root, capsys):
    """What took an hour to measure must not be lost with the file."""
    (checkpoint / "calibration.json").mkdir()
    base = ["calibrate", "--checkpoint", str(checkpoint), "--root", str(camvid_root), "--every", "4"]
    assert script.main([*base, "--fpr", "0.3"]) == 1
    told = capsys.readouterr()
    assert "threshold 0." in told.out and re.match("evaluate: .*calibration.json", told.err.split("\r")[-1])
    (checkpoint / "calibration.json").rmdir()


def test_each_size_has_a_calibration_of_its_own_and_the_first_stays_the_first(evaluate, checkpoint):
    own = evaluate("calibrate", "--fpr", 0.3)
    small = evaluate("calibrate", "--fpr", 0.3, "--short-side", 28)
    again = evaluate("calibrate", "--fpr", 0.4)
    values = json.loads((checkpoint / "calibration.json").read_text())
    assert (values["short_side"], values["false_positive_rate"]) == (own["short_side"], 0.4)
    assert values["threshold"] == again["threshold"]
    assert [one["threshold"] for one in values["other_sizes"]] == [small["threshold"]]
    assert calibrated(checkpoint, 28) == {"eomt_ext": small["threshold"]}
    assert calibrated(checkpoint, 42) == {"eomt_ext": again["threshold"]}
    other = own | {"weights_sha256": "of others"}
    assert beside(other, again) == again, "other weights: nothing of it holds"
    (checkpoint / "calibration.json").unlink()


def test_a_calibration_of_other_weights_is_refused_as_the_node_refuses_it(
    evaluate, checkpoint, camvid_root, stamps_root, capsys
):
    values = evaluate("calibrate", "--fpr", 0.3)
    path = checkpoint / "calibration.json"
    path.write_text(json.dumps(values | {"weights_sha256": "0" * 64}))
    base = ["--checkpoint", str(checkpoint), "--root", str(camvid_root), "--every", "2", "--results", ""]
    for command in (["control"], ["anomaly", "--stamps", str(stamps_root)]):
        assert script.main([*command, *base]) == 1
        error = capsys.readouterr().err
        assert "made for weights 00000000, but these are" in error and "evaluate.py calibrate" in error
    assert script.main(["control", *base, "--threshold", "0.5"]) == 0, "it is not asked"
    assert script.main(["calibrate", *base, "--fpr", "0.3"]) == 0, "and replaced"
    assert json.loads(path.read_text())["weights_sha256"] == values["weights_sha256"]
    path.unlink()


def test_too_few_frames_are_told_in_the_calibration():
    metrics = PixelMetrics()
    for frame in np.random.default_rng(0).random((10, 40, 40)).astype(np.float32):
        metrics.update(0.5 * frame, np.zeros((40, 40), np.uint8))
    values = calibration(metrics, 0.01)
    assert not values["within_target"] and values["guaranteed_rate"] == pytest.approx((10 * 0.01 + 1) / 11)
    assert "at least 99" in values["guarantee"] and values["calibration_rate"] <= 0.01
    assert control_risk(metrics.normal, 0.01).threshold == values["threshold"]


@pytest.mark.parametrize("fires_at", [0.64, 1.0])
def test_no_calibration_hides_what_a_single_query_finds(fires_at):
    metrics = PixelMetrics()
    for fire in (True, False, False, False):  # a quarter of the normal pixels, in one frame of four
        metrics.update(np.full((8, 8), fires_at if fire else 0.1, np.float32), np.zeros((8, 8), np.uint8))
    values = calibration(metrics, 0.21)
    assert values["threshold"] == pytest.approx(1 - np.exp(-0.9)) and not values["within_target"]
    assert values["calibration_rate"] == 0.25 and values["guaranteed_rate"] is None
    assert values["guarantee"].startswith("none: 0.21 would") and "too few" not in values["guarantee"]


def test_control_runs_with_a_threshold_of_its_own(evaluate):
    result = evaluate("control", "--threshold", 0.5)
    assert result["pastes"] > 0 and 0 <= result["pasted"] <= 100


def test_errors_are_one_sentence(checkpoint, camvid_root, tmp_path, capsys):
    flat = tmp_path / "flat"
    for folder in ("images", "labels_masks"):
        (flat / folder).mkdir(parents=True)
        cv2.imwrite(str(flat / folder / "a.png"), np.zeros((8, 8), np.uint8))
    common = ["--checkpoint", str(checkpoint), "--root", str(camvid_root)]
    for options, message in (
        (["anomaly"], "has no outliers"),
        (["anomaly", "--data", "generic_anomaly", "--root", str(flat), "--stamps", "x"], "leave --stamps"),
        (["anomaly", "--left-out", "wombat"], "cannot leave out wombat"),
        (["calibrate", "--fpr", "2"], "share in"),
        (["semantic", "--degraded", "locusts", "--results", ""], "locusts"),
        (["anomaly", "--temperature", "0"], "above 0"),
    ):
        assert script.main([options[0], *common, *options[1:]]) == 1
        assert message in capsys.readouterr().err


def test_streamed_scores_equal_all_pixels_at_once(camvid_root):
    """The whole way of evaluate_anomaly against pixel_metrics on the maps themselves."""
    predict, frames = Predictor(tiny_network()), camvid(camvid_root, "val")
    objects = [
        Sample(f.image, np.where(f.labels == 8, 254, f.labels).astype(np.uint8), f.name) for f in frames
    ]
    row = evaluate_anomaly(predict, objects, None, 0, ("rba",))["scores"]["rba"]
    maps = np.stack([predict(f, ("rba",))[1]["rba"] for f in objects])
    truth = np.stack([np.where(f.labels == 254, 1, np.where(f.labels == 255, 255, 0)) for f in objects])
    expected = pixel_metrics(maps, truth)
    assert row["auprc"] == pytest.approx(100 * expected["auprc"])
    assert row["fpr95"] == pytest.approx(100 * expected["fpr95"])


def test_temperature_flattens_and_one_changes_nothing():
    logits = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(tempered(logits, 1.0)["msp"], 1 - logits.softmax(1).amax(1))
    hot = tempered(logits, 1e6)
    assert torch.allclose(hot["msp"], torch.tensor(0.8)) and torch.allclose(
        hot["max_entropy"], torch.tensor(1.0)
    )


def test_results_of_other_columns_are_not_mixed(tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    result = {"checkpoint": "x", "frames": 1, "miou": 50.0, "macc": 1.0, "aacc": 1.0}
    with pytest.raises(ValueError, match="other columns"):
        append(tmp_path / "results.csv", result)
    assert append(tmp_path / "new.csv", result) == append(tmp_path / "new.csv", result) == 1
    assert (tmp_path / "new.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_rows_of_runs_that_measured_other_things_differ_in_their_key(tmp_path):
    scores = {"scores": {"rba": {"auprc": 50.0}}, "frames": 1}
    about = {"checkpoint": "x", "pasted": ["stamps", "coco"], "track": "obstacle", "every": 2}
    for severity in (0.2, 0.9):
        result = about | scores | {"degraded_severity": severity, "degraded": {"fog": scores}}
        append(tmp_path / "results.csv", result)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {(r["pasted"], r["track"], r["every"]) for r in rows} == {("stamps coco", "obstacle", "2")}
    assert [(r["condition"], r["degraded_severity"]) for r in rows] == [
        *(("clean", ""), ("fog", "0.2"), ("clean", ""), ("fog", "0.9"))
    ]


def test_what_could_not_be_measured_is_null_and_an_empty_cell(tmp_path):
    result = {"checkpoint": "x", "frames": 1, "scores": {"rba": {"auprc": 50.0, "ppv": float("nan")}}}
    assert without_nan(result)["scores"]["rba"] == {"auprc": 50.0, "ppv": None}
    append(tmp_path / "results.csv", result)
    row = next(csv.DictReader((tmp_path / "results.csv").open()))
    assert row["auprc"] == "50" and row["ppv"] == "" and row["condition"] == "clean"
