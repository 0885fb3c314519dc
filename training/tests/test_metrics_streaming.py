# SPDX-License-Identifier: MIT
"""Pixel metrics that stream: the same numbers, however little memory they are given."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from eomt_training.metrics.anomaly import LEVELS, PixelMetrics, pixel_metrics
from eomt_training.metrics.bootstrap import interval, resampled
from eomt_training.metrics.curves import curve, histogram
from eomt_training.metrics.keys import to_keys, to_scores
from eomt_training.metrics.spool import Spool, slices


@given(hnp.arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_keys_keep_the_order_and_come_back(scores):
    keys = to_keys(scores)
    assert np.array_equal(keys[:, None] < keys, scores[:, None] < scores)
    assert np.array_equal(to_scores(keys), scores)


def streamed(scores, labels, max_pixels):
    metrics = PixelMetrics(max_pixels)
    for s, t in zip(scores, labels):
        metrics.update(s, t)
    return metrics


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 3]), st.sampled_from([100, 5000, 10**6]))
def test_metrics_equal_sklearn_however_little_fits_in_memory(seed, digits, max_pixels):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 0, 0, 1, 255], (12, 30, 40)).astype(np.uint8)
    scores = (rng.normal(size=labels.shape) + (labels == 1)).round(digits).astype(np.float32) * 1e6
    result = streamed(scores, labels, max_pixels).compute()
    truth, values = labels[labels != 255], scores[labels != 255]
    assert result["auprc"] == pytest.approx(average_precision_score(truth, values), abs=1e-9)
    assert result["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-9)
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    for level in LEVELS:
        at = fpr[np.argmax(tpr >= level / 100)]
        assert result[f"tnr_at_tpr{level}"] == pytest.approx(1 - at, abs=1e-9)
    precision, recall, thresholds = precision_recall_curve(truth, values)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert result["best_f1"] == pytest.approx(f1.max(), abs=1e-9)
    assert f1[np.searchsorted(thresholds, result["best_f1_threshold"])] == pytest.approx(f1.max(), abs=1e-9)


def test_memory_stays_within_its_bound_on_a_large_data_set():
    """24 images of 512x1024 (12.6 million pixels, 50 MB as float32) with room for 2^18 pixels."""
    rng, limit = np.random.default_rng(0), 1 << 18
    image = 512 * 1024
    metrics = PixelMetrics(limit)
    tracemalloc.start()
    for _ in range(24):
        labels = (rng.random((512, 1024), np.float32) < 0.05).astype(np.uint8)
        metrics.update(rng.random((512, 1024), np.float32) + 0.1 * labels, labels)
    result, peak = metrics.compute(), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics.normal.bytes_in_memory <= 4 * limit and metrics.anomalous.bytes_in_memory <= 4 * limit
    assert peak < 40 * image + 50 * limit, "one image at work and the stated bound, not 24 images"
    assert 0 < result["auprc"] < 1 and len(metrics.normal) + len(metrics.anomalous) == 24 * image


def test_a_value_shared_by_most_pixels_is_counted_and_not_read():
    spool = Spool(100)
    for _ in range(50):
        spool.add(np.full(5000, 7, np.uint32))
    spool.add(np.array([1, 9], np.uint32))
    found = [(k, int(c)) for keys, counts in slices([spool], 100) for k, c in zip(keys.tolist(), counts[0])]
    assert found == [(9, 1), (7, 250_000), (1, 1)]


def test_runs_keep_the_order_of_images_in_memory_and_on_disk():
    spool = Spool(10)
    for i in range(7):
        spool.add(np.arange(i, dtype=np.uint32)[::-1])
    assert [run.tolist() for run in spool.runs] == [list(range(i)) for i in range(7)]


def test_curves_pass_through_exact_points():
    rng = np.random.default_rng(3)
    labels = (rng.random(20_000) < 0.1).astype(np.uint8)
    scores = (rng.normal(size=20_000) + 2 * labels).astype(np.float32)
    drawn = curve(streamed(scores[None], labels[None], 1000), points=100)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    at = len(thresholds) - 1 - np.searchsorted(thresholds[::-1], drawn["threshold"])
    assert np.allclose(drawn["tpr"], tpr[at]) and np.allclose(drawn["fpr"], fpr[at])
    assert len(drawn["tpr"]) < 300 and np.diff(drawn["tpr"], prepend=0).max() <= 0.02
    assert drawn["tpr"][-1] == drawn["fpr"][-1] == 1


def test_histogram_counts_every_pixel_once():
    scores, labels = np.array([[0.0, 0.5, 1.0, 1.0, -1.0]]), np.array([[0, 1, 1, 0, 255]])
    edges, counts = histogram(streamed(scores, labels, 10), bins=2)
    assert edges.tolist() == [0, 0.5, 1] and counts.tolist() == [[1, 1], [0, 2]]


def test_bootstrap_interval_holds_the_value_and_repeats():
    rng = np.random.default_rng(4)
    labels = (rng.random((30, 500)) < 0.2).astype(np.uint8)
    metrics = streamed((rng.normal(size=labels.shape) + labels).astype(np.float32), labels, 2000)
    low, high = interval(resampled(metrics, seed=0)[:, 0])
    assert low < metrics.compute()["auprc"] < high and high - low < 0.1
    assert (low, high) == interval(resampled(metrics, seed=0)[:, 0])


def test_draws_of_two_scores_are_pairs_and_hold_both_metrics():
    rng = np.random.default_rng(5)
    labels = (rng.random((40, 600)) < 0.2).astype(np.uint8)
    hard = rng.normal(0, 1, (40, 1))  # frames differ much more than the scores do
    better = (rng.normal(size=labels.shape) + (2.0 + hard) * labels).astype(np.float32)
    worse = (better + 0.5 * rng.normal(size=labels.shape)).astype(np.float32)
    one, other = (streamed(scores, labels, 2000) for scores in (better, worse))
    draws = resampled(one, 0), resampled(other, 0)
    for column, metric in enumerate(("auprc", "fpr95")):
        exact = one.compute()[metric] - other.compute()[metric]
        low, high = interval((draws[0] - draws[1])[:, column])
        assert low < exact < high, metric
        alone = np.subtract(*interval(draws[0][:, column])[::-1])
        assert high - low < alone / 2, "what frames have in common cancels"
    same = resampled(one, 0) - resampled(one, 0)
    assert (same == 0).all() and len(same) == 400


def test_a_perfect_and_an_inverted_score_by_hand():
    labels = np.array([0, 0, 0, 1])
    assert pixel_metrics(labels.astype(float), labels)["auprc"] == 1
    worst = pixel_metrics(-labels.astype(float), labels)
    assert worst["auprc"] == 0.25 and worst["auroc"] == 0 and worst["fpr95"] == 1
    tied = pixel_metrics(np.zeros(4), labels)
    assert tied["auprc"] == 0.25 and tied["auroc"] == 0.5 and tied["tnr_at_tpr95"] == 0
