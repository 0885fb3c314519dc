# SPDX-License-Identifier: MIT
"""Metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from eomt_training.metrics.anomaly import PixelMetrics, pixel_metrics
from eomt_training.metrics.semantic import ConfusionMatrix

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, 200, elements=st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0, 1e-30]))),
    hnp.arrays(np.uint8, 200, elements=st.sampled_from([0, 1, 255])),
)
def test_pixel_metrics_equal_sklearn_with_ties_and_any_range(scores, labels):
    labels[:2] = 0, 1
    valid = labels != 255
    result = pixel_metrics(scores, labels)
    truth, values = labels[valid], scores[valid].astype(np.float64)
    assert result["auprc"] == pytest.approx(average_precision_score(truth, values), abs=1e-9)
    assert result["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-9)
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert result["fpr95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-9)
    assert result["tnr_at_tpr80"] == pytest.approx(1 - fpr[np.argmax(tpr >= 0.80)], abs=1e-9)


def test_streaming_equals_all_at_once():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(5, 20, 30)).round(2).astype(np.float32), rng.integers(0, 2, (5, 20, 30))
    metrics = PixelMetrics()
    for s, t in zip(scores, labels):
        metrics.update(s, t)
    assert metrics.compute() == pixel_metrics(scores, labels)


def test_hand_made_case():
    result = pixel_metrics(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0]))
    assert result["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert result["auroc"] == pytest.approx(0.75) and result["fpr95"] == pytest.approx(0.5)
    assert result["best_f1"] == pytest.approx(0.8) and result["best_f1_threshold"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    "scores, labels, message",
    [([np.nan, 0.0], [0, 1], "NaN"), ([0.0, 1.0], [0, 7], "7"), ([0.0], [0, 1], "shape")],
)
def test_bad_input_is_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        PixelMetrics().update(np.array(scores), np.array(labels))


def test_one_class_only_is_refused():
    with pytest.raises(ValueError, match="3 normal and 0 anomalous .* at least one .* 255 void"):
        pixel_metrics(np.zeros(4), np.array([0, 0, 0, 255]))


def test_confusion_equals_sklearn_and_ignores_outliers_and_void():
    rng = np.random.default_rng(2)
    labels, prediction = rng.choice([0, 1, 2, 254, 255], (40, 50)), rng.integers(0, 3, (40, 50))
    matrix = ConfusionMatrix(3)
    matrix.update(prediction, labels)
    known = labels < 3
    assert (matrix.counts == confusion_matrix(labels[known], prediction[known], labels=[0, 1, 2])).all()


def test_miou_by_hand_with_an_absent_class():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 255]))
    result = matrix.compute()
    assert result["iou"][:2].tolist() == [0.5, 0.5] and np.isnan(result["iou"][2])
    assert result["miou"] == 0.5 and result["aacc"] == pytest.approx(2 / 3)
