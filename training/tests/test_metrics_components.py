# SPDX-License-Identifier: MIT
"""SMIYC component metrics by hand."""

import numpy as np
import pytest

from eomt_training.metrics.components import TRACKS, ComponentMetrics, MinSize, component_scores

ALL = MinSize(1, 1)


def blocks(*columns, width=40, height=10):
    """A bool image with full-height blocks of columns (from, to)."""
    mask = np.zeros((height, width), bool)
    for begin, end in columns:
        mask[:, begin:end] = True
    return mask


def measured(predicted, truth, min_size=ALL, void=None):
    labels = truth.astype(np.uint8)
    if void is not None:
        labels[void] = 255
    metrics = ComponentMetrics(min_size)
    metrics.update(predicted, labels)
    return metrics


def test_a_perfect_prediction():
    assert measured(blocks((0, 10), (20, 30)), blocks((0, 10), (20, 30))).compute() == {
        "siou": 1.0,
        "ppv": 1.0,
        "f1_star": 1.0,
    }


def test_half_found_and_a_false_alarm():
    metrics = measured(blocks((0, 5), (30, 34)), blocks((0, 10)))
    assert metrics.siou == [0.5] and sorted(metrics.ppv) == [0.0, 1.0]
    # tau <= 0.5 (6 of 11): TP 1, FN 0, FP 1 -> 2/3; above: TP 0 -> 0
    assert metrics.compute()["f1_star"] == pytest.approx(6 / 11 * 2 / 3)


def test_one_prediction_over_two_neighbours_is_adjusted():
    """Truth 0-10 and 12-22, predicted 0-22: each sIoU is 100 / (100 + 20), not 100 / 220."""
    metrics = measured(blocks((0, 22)), blocks((0, 10), (12, 22)))
    assert metrics.siou == pytest.approx([100 / 120] * 2) and metrics.ppv == pytest.approx([200 / 220])


def test_two_predictions_on_one_object_are_joined():
    metrics = measured(blocks((0, 4), (6, 12)), blocks((0, 10)))
    assert metrics.siou == pytest.approx([80 / 120]) and metrics.ppv == pytest.approx([1.0, 4 / 6])


def test_diagonal_neighbours_are_one_component():
    mask = np.eye(8, dtype=bool)
    assert len(measured(mask, mask).siou) == 1


def test_small_components_are_left_out_on_both_sides():
    truth, predicted = blocks((0, 1), (10, 20)), blocks((0, 1), (10, 20), (30, 32))
    metrics = measured(predicted, truth, MinSize(predicted=50, truth=50))
    assert metrics.siou == [1.0] and metrics.ppv == [1.0], "10 px of truth are void, 20 px predicted dropped"


def test_a_large_prediction_around_a_small_truth_is_a_false_alarm():
    """A prediction is sized as it is; then the truth below the smallest size, now void, is cut out of it."""
    predicted, truth = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    predicted[5:27, 5:29], truth[10:19, 10:21] = True, True
    assert (predicted.sum(), truth.sum()) == (528, 99)
    metrics = measured(predicted, truth, TRACKS["anomaly"])
    assert metrics.siou == [] and metrics.ppv == [0.0], "429 px outside of the void: one component"
    assert measured(truth, truth, MinSize(predicted=50, truth=100)).ppv == [], "nothing is left of it"


def test_predictions_on_void_count_nowhere():
    metrics = measured(blocks((0, 10), (20, 30)), blocks((0, 10)), void=blocks((20, 30)))
    assert metrics.siou == [1.0] and metrics.ppv == [1.0]


def test_nothing_found_and_nothing_there():
    missed = measured(blocks(), blocks((0, 10))).compute()
    assert missed["siou"] == 0 and np.isnan(missed["ppv"]) and missed["f1_star"] == 0
    assert np.isnan(measured(blocks((0, 10)), blocks()).compute()["siou"])


def test_scores_equal_the_formula_spelled_out():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.permutation(16).reshape(4, 4) * (rng.random((4, 4)) < 0.5), np.ones((5, 5), int))
    found = np.kron(rng.permutation(25).reshape(5, 5) * (rng.random((5, 5)) < 0.5), np.ones((4, 4), int))
    truth, found = (np.unique(ids, return_inverse=True)[1].reshape(20, 20) for ids in (truth, found))
    siou, ppv = component_scores(found.astype(np.int32), truth.astype(np.int32))
    for k in range(1, truth.max() + 1):
        touching = np.isin(found, np.setdiff1d(found[truth == k], [0]))
        union = ((truth == k) | touching) & ~((truth > 0) & (truth != k) & touching)
        assert siou[k - 1] == pytest.approx(((truth == k) & touching).sum() / union.sum())
    for k in range(1, found.max() + 1):
        assert ppv[k - 1] == pytest.approx(((found == k) & (truth > 0)).sum() / (found == k).sum())
