# SPDX-License-Identifier: MIT
"""Matching and losses: what each query is taught, on hand-made predictions."""

import math

import pytest
import torch
import torch.nn.functional as F

from eomt_anomaly.model import ANOMALY, NORMAL, VOID, EomtExtOutput
from eomt_training.losses import LossConfig, dense_loss, prediction_losses
from eomt_training.matcher import match
from eomt_training.points import sample, uncertain
from eomt_training.targets import IGNORE, ORDINARY, OUTLIER, targets_of


@pytest.fixture(autouse=True)
def seed():
    """Points are drawn at random."""
    torch.manual_seed(0)


LABELS = torch.full((1, 32, 32), 0)
LABELS[0, 16:] = 1
LABELS[0, 20:26, 8:16] = OUTLIER
LABELS[0, :4, :4] = IGNORE


def prediction(order, classes, anomaly_query=None, n_query=5, n_class=3):
    """Queries whose masks are exactly the targets in ``order`` (query index -> id); the rest are empty."""
    masks = torch.full((1, n_query, 32, 32), -8.0)
    class_logits = torch.zeros(1, n_query, n_class + 1)
    class_logits[..., -1] = 6
    anomaly = torch.tensor([0.0, 0.0, 6.0]).repeat(1, n_query, 1)
    for query, label in order.items():
        masks[0, query][LABELS[0] == label] = 8
        if label != OUTLIER:
            class_logits[0, query] = 0
            class_logits[0, query, classes[label]] = 6
            anomaly[0, query] = torch.tensor([6.0, 0.0, 0.0])
    if anomaly_query is not None:
        anomaly[0, anomaly_query] = torch.tensor([0.0, 6.0, 0.0])
    return EomtExtOutput(masks.requires_grad_(), class_logits, anomaly)


def test_targets_are_classes_present_and_one_outlier_mask():
    (target,) = targets_of(LABELS)
    assert target.ids.tolist() == [0, 1, OUTLIER]
    corners = torch.tensor([[0.01, 0.01], [0.99, 0.01], [0.3, 0.7], [0.99, 0.99]])
    assert target.labels_at(corners).tolist() == [IGNORE, 0, OUTLIER, 1]


def test_match_finds_the_permutation_and_the_outlier():
    output = prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 0, 1: 1}, anomaly_query=4)
    ((query, index),) = match(output, targets_of(LABELS), num_points=2000)
    assert dict(zip(query.tolist(), index.tolist())) == {3: 0, 0: 1, 4: 2}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_change_the_match(dtype):
    """Sums over points exceed what float16 holds, and bfloat16 rounds 8.03 to 8: costs stay in float32."""
    output = prediction({0: 0, 1: 0, 2: 1}, {0: 0, 1: 1})
    with torch.no_grad():
        output.mask_logits[0, 1][LABELS[0] == 0] = 8.03
        output.mask_logits[0, 2][LABELS[0] == 1] = 40.0
        output.class_logits[0, 1, 0] += 0.1  # query 1 is the better one: a little surer of the class
    with torch.autocast("cpu", dtype):
        ((query, index),) = match(output, targets_of(LABELS))
    assert {0: 1, 1: 2}.items() <= dict(zip(index.tolist(), query.tolist())).items()


def test_outlier_prefers_the_query_that_says_anomaly():
    """Two queries with the same mask: the one with P(anomaly) takes the outlier."""
    output = prediction({0: 0, 1: 1, 2: OUTLIER, 3: OUTLIER}, {0: 0, 1: 1}, anomaly_query=3)
    ((query, index),) = match(output, targets_of(LABELS), num_points=2000)
    assert query[index == 2].item() == 3


def test_overlap_counts_in_the_match_beside_single_pixels():
    """A faint mask of nothing has the lower BCE; one that covers the outlier, and too much, the overlap."""
    output = prediction({0: 0, 1: 1}, {0: 0, 1: 1}, n_query=4)
    with torch.no_grad():
        output.mask_logits[0, 2] = -2
        output.mask_logits[0, 3][LABELS[0] == OUTLIER] = 2
        output.mask_logits[0, 3, 28:] = 2
    ((query, index),) = match(output, targets_of(LABELS), num_points=4000)
    assert query[index == 2].item() == 3


def test_unlabelled_pixels_do_not_choose_the_query():
    """Two queries with the same mask where it is labelled: the one surer of the class is taken."""
    output = prediction({0: 0, 2: 1, 1: 0}, {0: 0, 1: 1})
    with torch.no_grad():
        output.mask_logits[0, 1, :3, :3] = 8
        output.class_logits[0, 1, 0] += 0.5
    ((query, index),) = match(output, targets_of(LABELS), num_points=2000)
    assert query[index == 0].item() == 1


def test_perfect_prediction_costs_little_and_each_mistake_costs_more():
    config = LossConfig(num_points=2000)
    good = prediction_losses(
        prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 0, 1: 1}, 4), targets_of(LABELS), config
    )
    assert all(v < 0.15 for v in good.values()), good
    wrong_class = prediction_losses(
        prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 2, 1: 1}, 4), targets_of(LABELS), config
    )
    assert wrong_class["classes"] > good["classes"] + 1
    silent = prediction_losses(
        prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 0, 1: 1}, None), targets_of(LABELS), config
    )
    assert silent["anomaly"] > good["anomaly"] + 1
    missed = prediction_losses(prediction({3: 0, 0: 1}, {0: 0, 1: 1}, None), targets_of(LABELS), config)
    assert missed["mask"] > 3 * good["mask"] and missed["dice"] > good["dice"] + 0.2


def test_outlier_takes_no_object_as_class():
    """Raising a known class on the outlier's query must cost."""
    output = prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 0, 1: 1}, 4)
    base = prediction_losses(output, targets_of(LABELS), LossConfig(num_points=2000))["classes"]
    output.class_logits[0, 4, 2] = 12
    assert prediction_losses(output, targets_of(LABELS), LossConfig(num_points=2000))["classes"] > base


def test_ordinary_scenery_takes_the_query_that_says_normal_and_any_class_serves():
    labels = LABELS.masked_fill(LABELS == OUTLIER, ORDINARY)
    base = prediction({0: 0, 1: 1, 2: OUTLIER, 3: OUTLIER}, {0: 0, 1: 1}, anomaly_query=2)
    base.anomaly_logits[0, 3] = torch.tensor([6.0, 0.0, 0.0])
    ((query, index),) = match(base, targets_of(labels), num_points=2000)
    assert dict(zip(query.tolist(), index.tolist())) == {0: 0, 1: 1, 3: 2}
    with_it = prediction_losses(base, targets_of(labels), LossConfig(num_points=2000))
    base.class_logits[0, 3] = torch.tensor([0.0, 9.0, 0.0, 0.0])
    with_class = prediction_losses(base, targets_of(labels), LossConfig(num_points=2000))
    assert with_class["classes"] == pytest.approx(float(with_it["classes"]))
    base.anomaly_logits[0, 3, NORMAL] = -6
    assert prediction_losses(base, targets_of(labels), LossConfig(num_points=2000))["anomaly"] > 1
    dense = torch.zeros(1, 4, 32, 32)
    dense[:, -1][labels == ORDINARY] = 9.0
    assert dense_loss(dense, labels) == pytest.approx(math.log(4)), "it has no class to teach"


@pytest.mark.parametrize("weight, taken", [(2.0, 3), (0.0, 2)])
def test_an_untrained_anomaly_head_does_not_choose_the_query_of_ordinary_scenery(weight, taken):
    """Plain EoMT: query 2 has the better mask, query 3 says normal, which is noise where no loss is on it."""
    labels = LABELS.masked_fill(LABELS == OUTLIER, ORDINARY)
    output = prediction({0: 0, 1: 1, 2: OUTLIER, 3: OUTLIER}, {0: 0, 1: 1}, anomaly_query=2)
    output.anomaly_logits[0, 3] = torch.tensor([6.0, 0.0, 0.0])
    with torch.no_grad():
        output.mask_logits[0, 3] *= 0.5
    prediction_losses(output, targets_of(labels), LossConfig(num_points=2000, anomaly=weight))[
        "mask"
    ].backward()
    learns = output.mask_logits.grad[0, 2:4].abs().sum((1, 2)) > 0
    assert learns.tolist() == [query == taken for query in (2, 3)]


def test_unlabelled_pixels_do_not_count():
    empty = torch.full((1, 32, 32), IGNORE)
    losses = prediction_losses(prediction({0: 0}, {0: 0}), targets_of(empty), LossConfig(num_points=500))
    assert losses["mask"] == 0 and losses["dice"] == 0 and math.isfinite(losses["classes"])
    assert dense_loss(torch.randn(1, 4, 8, 8), empty) == 0


def test_what_a_mask_says_of_unlabelled_pixels_costs_nothing():
    """Void is no background: a mask that covers it must not be pushed away."""
    output = prediction({0: 0, 1: 1}, {0: 0, 1: 1})
    losses = prediction_losses(output, targets_of(LABELS), LossConfig(num_points=4000, importance=0))
    for name in ("mask", "dice"):
        (gradient,) = torch.autograd.grad(losses[name], output.mask_logits, retain_graph=True)
        assert not gradient[0, :, :3, :3].any(), f"{name}: row and column 3 share points with labelled ones"
        assert gradient[0, :2, 8:].abs().sum() > 0


def test_losses_of_the_heads_are_weighted_means_over_all_queries():
    output = prediction({3: 0, 0: 1, 4: OUTLIER}, {0: 0, 1: 1}, anomaly_query=4)
    output.class_logits += torch.randn(output.class_logits.shape)
    output.anomaly_logits += torch.randn(output.anomaly_logits.shape)
    found = prediction_losses(output, targets_of(LABELS), LossConfig(num_points=2000))
    classes, anomaly = torch.tensor([1, 3, 3, 0, 3]), torch.tensor([NORMAL, VOID, VOID, NORMAL, ANOMALY])
    expected = F.cross_entropy(output.class_logits[0], classes, torch.tensor([1, 1, 1, 0.1]))
    assert found["classes"] == pytest.approx(float(expected))
    expected = F.cross_entropy(output.anomaly_logits[0], anomaly, torch.tensor([1, 2, 0.1]))
    assert found["anomaly"] == pytest.approx(float(expected))


def test_diverged_network_is_named():
    output = prediction({0: 0}, {0: 0})
    with torch.no_grad():
        output.mask_logits[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="diverged"):
        match(output, targets_of(LABELS), num_points=100)


def test_sampling_reads_pixel_centres_and_prefers_doubt():
    maps = torch.arange(16.0).view(1, 4, 4)
    centres = torch.tensor([[[0.125, 0.125], [0.875, 0.375]]])
    assert sample(maps, centres).tolist() == [[0.0, 7.0]]
    logits = torch.full((1, 16, 16), 9.0)
    logits[0, :, 8:] = 0.0
    points = uncertain(logits, 400)
    assert points.shape == (1, 400, 2) and (points[..., 0] > 0.5).float().mean() > 0.8


def test_anomaly_gradient_reaches_the_head_but_not_the_class_head():
    from eomt_anomaly.model import EomtExt, EomtExtConfig

    model = EomtExt(EomtExtConfig.preset("tiny")).train()
    model(torch.randn(1, 3, 28, 28)).anomaly_logits[..., ANOMALY].sum().backward()
    assert model.anomaly_head.fc1.weight.grad.abs().sum() > 0
    assert model.class_head.weight.grad is None
    assert all(p.grad is None for p in model.backbone.parameters())
