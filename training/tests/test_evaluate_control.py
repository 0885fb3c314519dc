# SPDX-License-Identifier: MIT
"""Control pastes: a score that tells pasted segments from their surroundings is told by its distribution."""

import json

import evaluate
import numpy as np
import pytest

from eomt_training.data.folders import Sample, camvid
from eomt_training.evaluation import evaluate_control
from eomt_training.metrics.anomaly import PixelMetrics
from eomt_training.metrics.curves import medians
from eomt_training.targets import OUTLIER


class Judge:
    """A predictor that gives ``edited`` to pixels that differ from the frame on disk, ``plain`` to others."""

    scores = ("eomt_ext",)

    def __init__(self, frames, plain, edited):
        self.images = {frames[i].name: frames[i].image for i in range(len(frames))}
        self.plain, self.edited = plain, edited

    def __call__(self, sample, names):
        changed = (sample.image != self.images[sample.name]).any(-1)
        return sample.labels, {"eomt_ext": np.where(changed, self.edited, self.plain).astype(np.float32)}


@pytest.fixture
def frames(camvid_root):
    return camvid(camvid_root, "val")


def test_a_detector_of_pastes_is_found_out_far_below_the_threshold(frames):
    """Every pixel stays below the alert threshold of 0.5: the shares that fire see nothing."""
    result = evaluate_control(Judge(frames, 0.1, 0.4), frames, 0.5, seed=0, tpr95=0.3)
    assert result["pasted"] == result["around"] == result["before"] == 0
    medians_of = {k: result[f"median_{k}"] for k in ("pasted", "around", "before")}
    assert medians_of == pytest.approx({"pasted": 0.4, "around": 0.1, "before": 0.1})
    assert result["auroc_around"] > 0.95 and result["auroc_before"] > 0.95
    assert result["pasted_tpr95"] > 90 and result["around_tpr95"] == result["before_tpr95"] == 0


def test_a_score_that_does_not_see_pastes_cannot_tell_them(frames):
    result = evaluate_control(Judge(frames, 0.2, 0.2), frames, 0.5, seed=0)
    assert result["auroc_around"] == result["auroc_before"] == 0.5 and result["median_pasted"] == np.float32(
        0.2
    )
    assert "pasted_tpr95" not in result


class WithOutliers:
    """The frames, each with an obstacle of its own in the middle of its road."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        sample = self.frames[index]
        labels = sample.labels.copy()
        labels[24:46, 26:60] = OUTLIER
        return Sample(sample.image, labels, sample.name)


def test_obstacles_of_the_frames_own_are_not_taken_for_their_ordinary_rest(frames):
    """A perfect detector: 1 on true obstacles (also where a segment covers them now), 0 elsewhere."""
    own = WithOutliers(frames)

    def perfect(sample, names):
        return sample.labels, {"eomt_ext": (sample.labels == OUTLIER).astype(np.float32)}

    result = evaluate_control(perfect, own, 0.5, seed=0, tpr95=0.5)
    assert result["pastes"] > 0 and result["around"] == result["before"] == result["pasted"] == 0
    assert result["auroc_around"] == result["auroc_before"] == 0.5
    assert result["around_tpr95"] == result["before_tpr95"] == 0


@pytest.mark.parametrize("max_pixels", [7, 10_000])
def test_medians_are_exact_however_little_fits_in_memory(max_pixels):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, (5, 11, 11)).astype(np.float32)
    labels = (rng.random(scores.shape) < 0.2).astype(np.uint8)
    metrics = PixelMetrics(max_pixels)
    for one, truth in zip(scores, labels):
        metrics.update(one, truth)
    expected = [np.quantile(scores[labels == k], 0.5, method="higher") for k in (0, 1)]
    assert list(medians(metrics)) == expected


def test_the_threshold_of_objects_is_read_from_a_measurement(tmp_path, camvid_root, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "open_model", lambda *_: Judge(camvid(camvid_root, "val"), 0.1, 0.4))
    monkeypatch.setattr(evaluate, "provenance", lambda *_: {})
    measured = tmp_path / "anomaly.json"
    arguments = ["control", "--checkpoint", "x", "--root", str(camvid_root), "--threshold", "0.5",
                 "--tpr95-of", str(measured)]  # fmt: skip
    measured.write_text(json.dumps({"scores": {"eomt_ext": {"auprc": 50.0}}}))
    assert evaluate.main(arguments) == 1 and "has no threshold_tpr95" in capsys.readouterr().err
    threshold = {"scores": {"eomt_ext": {"threshold_tpr95": 0.3}}}
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    measured.write_text(json.dumps(threshold | {"weights_sha256": "of others"}))
    assert evaluate.main([*arguments, "--checkpoint", str(tmp_path)]) == 1
    assert "anomaly.json is of weights of others" in capsys.readouterr().err
    measured.write_text(json.dumps(threshold))
    assert evaluate.main(arguments) == 0
    told = capsys.readouterr().out
    assert (
        "median anomaly: pasted 0.4, around 0.1, before 0.1" in told and "at or above 0.3, TPR 95 %" in told
    )
