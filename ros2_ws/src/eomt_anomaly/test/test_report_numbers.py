# SPDX-License-Identifier: MIT
"""The numbers of a report: percentiles, books that balance, and quality against ground truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rosbags")  # the fixtures share the bag's scene

from report_fixtures import NAMES, make_recording  # noqa: E402

from eomt_anomaly.report import quality  # noqa: E402
from eomt_anomaly.report.origin import write_json  # noqa: E402
from eomt_anomaly.report.quality import Obstacle, confusion, iou, obstacles, overlaps, pixel_quality  # noqa: E402
from eomt_anomaly.report.recording import Box  # noqa: E402
from eomt_anomaly.report.sections import quality_table  # noqa: E402
from eomt_anomaly.report.statistics import level_runs, percentiles, summarize  # noqa: E402


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=200))
def test_percentiles_are_ordered_values_that_occurred(values):
    numbers = percentiles(values)
    picked = [numbers[name] for name in ("p50", "p95", "p99", "p999", "max")]
    assert picked == sorted(picked)
    assert all(min(abs(p - v) for v in values) <= 1e-3 for p in picked)
    assert numbers["count"] == len(values)


def test_percentiles_of_nothing_are_null_not_zero():
    assert percentiles([None]) == {
        "p50": None,
        "p95": None,
        "p99": None,
        "p999": None,
        "mean": None,
        "max": None,
        "count": 0,
    }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 30))
def test_pixel_quality_is_that_of_scikit_learn(seed, size, steps):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.3
    truth[:2] = False, True
    scores = (rng.integers(0, steps + 1, size) / steps).astype(np.float32)  # few steps: many ties
    ours = pixel_quality(scores, truth)
    assert ours["auprc"] == pytest.approx(metrics.average_precision_score(truth, scores))
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert ours["fpr95"] == pytest.approx(false[np.argmax(true >= 0.95)])


def test_pixel_quality_without_one_of_the_kinds_is_null():
    assert pixel_quality(np.ones(3, np.float32), np.zeros(3, bool)) == {"auprc": None, "fpr95": None}


@given(st.integers(0, 2**32 - 1))
def test_iou_is_intersection_over_union_outside_anomaly_and_void(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 254, 255], np.uint8), (6, 7))
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (6, 7))
    got = iou(confusion(mask, labels, 3))
    known = labels < 3
    for index in range(3):
        union = (((labels == index) | (mask == index)) & known).sum()
        expected = ((labels == index) & (mask == index)).sum() / union if union else np.nan
        assert got[index] == pytest.approx(expected, nan_ok=True)


def test_obstacles_are_big_enough_and_near_the_road():
    labels = np.zeros((100, 100), np.uint8)
    labels[50:] = 3
    labels[60:70, 20:35] = 254  # on the road
    labels[5:25, 70:90] = 254  # in the sky
    labels[80:83, 80:83] = 254  # too small
    assert obstacles(labels, [3]) == [Obstacle(20, 60, 15, 10, 150)]


def test_an_alert_means_an_obstacle_when_it_lies_in_it_or_fits_it():
    obstacle = Obstacle(20, 20, 20, 20, 400)

    def box(x, y, width, height):
        return Box(1, x, y, width, height, 3, 1.0)

    assert overlaps(obstacle, box(25, 25, 4, 4))  # a part of it
    assert overlaps(obstacle, box(15, 15, 30, 30))  # a little larger
    assert not overlaps(obstacle, box(0, 0, 100, 100))  # the whole picture
    assert not overlaps(obstacle, box(60, 60, 5, 5))  # elsewhere


def test_a_perfect_detector_is_called_perfect_and_its_drops_are_counted():
    recording, truth = make_recording()
    result = quality.evaluate(recording.frames, truth, NAMES, [3])
    assert result["pixels"]["auprc"] == pytest.approx(1.0)
    assert result["pixels"]["fpr95"] == 0.0
    assert result["masks"] == {"miou": 1.0, "frames": 10, "iou": {"sky": 1.0, "road": 1.0}}
    found = result["obstacles"]
    assert (found["recall"], found["encounters"], found["encounters_alerted"]) == (1.0, 1, 1)
    assert found["time_to_first_alert_s"] == [
        pytest.approx(0.6 + 0.081 - 0.501)
    ]  # frame 5 was dropped, 6 judged
    assert (found["clean_frames"], found["false_alert_frames"], found["stray_boxes"]) == (3, 0, 0)
    summary = json.loads(json.dumps(summarize(recording, result), allow_nan=False))
    assert summary["frames_in"] == summary["frames_out"] + sum(summary["dropped"].values()) == 20
    assert summary["latency_ms"]["p50"] == pytest.approx(80, abs=0.1)
    assert summary["alerts"]["first_alert_s"] == pytest.approx(0.681)
    assert sum(summary["alerts"]["seconds_at_level"].values()) == pytest.approx(recording.duration_s)


def test_a_false_alert_and_a_miss_are_called_so():
    recording, truth = make_recording()
    first, late = recording.frames[0], recording.frames[10]
    first.level, first.boxes = 2, (Box(9, 0, 0, 5, 5, 2, 0.5),)
    late.boxes = ()
    found = quality.evaluate(recording.frames, truth, NAMES, [3])["obstacles"]
    assert (found["false_alert_frames"], found["stray_boxes"]) == (1, 1)
    assert found["obstacles_due"] - found["obstacles_found"] == 1


def test_a_ground_truth_that_is_wholly_void_gives_no_numbers_but_a_summary_and_a_page(tmp_path):
    recording, truth = make_recording()
    void = {index: np.full_like(labels, quality.VOID) for index, labels in truth.items()}
    found = quality.evaluate(recording.frames, void, NAMES, [3])
    assert found["pixels"] == {
        "auprc": None, "fpr95": None, "anomalous_share": None, "frames": 10, "frames_judged": 10}
    write_json(tmp_path / "summary.json", found)
    assert json.loads((tmp_path / "summary.json").read_text())["masks"]["miou"] is None
    assert "random score" not in quality_table(found)
    assert "a random score would have 1.5 %" in quality_table(
        quality.evaluate(recording.frames, truth, NAMES, [3]))


def test_a_map_of_another_size_than_the_truth_is_refused():
    recording, truth = make_recording()
    with pytest.raises(ValueError, match="112 x 84 px, but the heatmap is 10 x 10"):
        recording.frames[0].maps = {"heatmap": np.zeros((10, 10), np.float32)}.get
        quality.pixels(recording.frames, truth)


def test_books_that_do_not_balance_are_refused():
    recording, _ = make_recording()
    recording.dropped["overwritten"] -= 1
    with pytest.raises(AssertionError, match="do not add up"):
        summarize(recording)


def test_level_runs_begin_unknown_and_cover_the_replay():
    recording, _ = make_recording()
    runs = level_runs(recording)
    assert runs[0][:3] == (0.0, 0.01, 0)
    assert runs[-1][1] == recording.duration_s
    assert all(before[1] == after[0] for before, after in zip(runs, runs[1:]))
