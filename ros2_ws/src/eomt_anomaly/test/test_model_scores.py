# SPDX-License-Identifier: MIT
"""Every score against a naive one-pixel reference, hand-made cases, and properties for all inputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_anomaly.model import scores

B, Q, C, H, W = 2, 5, 4, 3, 2


def logits(seed, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(*shape, generator=generator) for shape in ((B, Q, H, W), (B, Q, C + 1), (B, Q, 3))
    ]


def softmax(values):
    top = max(values)
    exps = [math.exp(v - top) for v in values]
    return [e / sum(exps) for e in exps]


def naive(name, mask, classes, anomaly):
    """One pixel, plain floats: mask [Q], classes [Q][C+1], anomaly [Q][3] logits. Formulas as published."""
    m = [1 / (1 + math.exp(-v)) for v in mask]
    p = [softmax(row) for row in classes]
    u = [sum(m[q] * p[q][c] for q in range(Q)) for c in range(C)]
    s = softmax(u)
    known = [max(row[:C]) for row in p]
    return {
        "msp": lambda: 1 - max(s),
        "max_logit": lambda: -max(u),
        "max_entropy": lambda: -sum(x * math.log(x) for x in s) / math.log(C),
        "rba": lambda: -sum(math.tanh(x) for x in u),
        "mask2anomaly": lambda: (
            (1 - max(u)) * (1 - max([m[q] for q in range(Q) if known[q] > 0.95], default=0.0))
        ),
        "eam": lambda: 1 - sum(k * x for k, x in zip(known, m)),
        "uno": lambda: -sum(x * (k - row[C]) for k, x, row in zip(known, m, p)),
        "eomt_ext": lambda: sum(x * softmax(row)[1] for x, row in zip(m, anomaly)),
    }[name]()


@pytest.mark.parametrize("name", scores.SCORES)
@pytest.mark.parametrize("seed, scale", [(0, 1.0), (1, 3.0), (2, 8.0)])
def test_score_equals_the_naive_formula(name, seed, scale):
    mask, classes, anomaly = logits(seed, scale)
    score = scores.SCORES[name](mask, classes, anomaly)
    assert score.shape == (B, H, W) and score.dtype == torch.float32
    for b in range(B):
        for y in range(H):
            for x in range(W):
                expected = naive(name, mask[b, :, y, x].tolist(), classes[b].tolist(), anomaly[b].tolist())
                assert score[b, y, x].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_published_set_is_there():
    assert set(scores.SCORES) == {
        "msp",
        "max_logit",
        "max_entropy",
        "rba",
        "mask2anomaly",
        "eam",
        "uno",
        "eomt_ext",
    }


@pytest.fixture
def scene():
    """Three pixels. Left: query 0 sees class 1, surely. Middle: query 1 sees an anomaly. Right: nothing."""
    mask = torch.full((1, 2, 1, 3), -20.0)
    mask[0, 0, 0, 0] = mask[0, 1, 0, 1] = 20.0
    classes = torch.zeros(1, 2, C + 1)
    classes[0, 0, 1] = classes[0, 1, C] = 20.0  # class 1; no-object
    anomaly = torch.zeros(1, 2, 3)
    anomaly[0, 0, 0] = anomaly[0, 1, 1] = 20.0  # Normal; Anomaly
    return mask, classes, anomaly


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_sure_known_object_scores_least(scene, name):
    known, anomalous, nothing = scores.SCORES[name](*scene)[0, 0].tolist()
    assert known < anomalous
    assert known < nothing or name == "eomt_ext"


def test_only_the_learned_score_and_uno_tell_anomaly_from_nothing(scene):
    learned = scores.SCORES["eomt_ext"](*scene)[0, 0]
    assert torch.allclose(learned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-4)
    assert scores.SCORES["uno"](*scene)[0, 0, 1] > scores.SCORES["uno"](*scene)[0, 0, 2]


def test_semantic_map_is_a_weighted_sum_of_masks(scene):
    u = scores.semantic_map(scene[0], scene[1])
    assert u.shape == (1, C, 1, 3) and u[0, :, 0, 0].argmax() == 1
    assert u[0, 1, 0, 0] == pytest.approx(1, abs=1e-4) and u[0, :, 0, 1:].abs().max() < 1e-4


def test_mask2anomaly_trusts_only_the_named_things(scene):
    mask, classes, anomaly = scene
    mask = mask.clone()
    mask[0, 0, 0, 0] = 0.0  # half a mask of class 1
    trusted = scores.mask2anomaly(mask, classes, anomaly, thing_ids=[1])[0, 0, 0]
    untrusted = scores.mask2anomaly(mask, classes, anomaly, thing_ids=[0, 2])[0, 0, 0]
    assert trusted == pytest.approx(0.25, abs=1e-4) and untrusted == pytest.approx(0.5, abs=1e-4)
    assert scores.mask2anomaly(mask, classes, anomaly)[0, 0, 0] == trusted


def test_temperature_flattens_msp():
    mask, classes, anomaly = logits(4)
    assert (scores.msp(mask, classes, anomaly, temperature=10.0) > scores.msp(mask, classes, anomaly)).all()


@pytest.mark.parametrize("name", scores.SCORES)
def test_half_precision_logits_are_scored_in_fp32(name):
    mask, classes, anomaly = (x.bfloat16() for x in logits(5))
    assert torch.equal(
        scores.SCORES[name](mask, classes, anomaly),
        scores.SCORES[name](mask.float(), classes.float(), anomaly.float()),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(scores.SCORES)), shift=st.floats(-50, 50))
def test_invariances(seed, name, shift):
    """Order of queries and classes, a constant on the logits, a query that sees nothing: none matters."""
    mask, classes, anomaly = logits(seed)
    score = scores.SCORES[name]
    expected = score(mask, classes, anomaly)
    order, generator = torch.randperm(Q), torch.Generator().manual_seed(seed)
    known = torch.cat([torch.randperm(C, generator=generator), torch.tensor([C])])
    unseen = torch.full_like(mask[:, :1], -90.0)
    for variant in (
        (mask[:, order], classes[:, order], anomaly[:, order]),
        (mask, classes[..., known], anomaly),
        (mask, classes + shift, anomaly - shift),
        (
            torch.cat([mask, unseen], 1),
            torch.cat([classes, classes[:, :1]], 1),
            torch.cat([anomaly, anomaly[:, :1]], 1),
        ),
    ):
        assert torch.allclose(score(*variant), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=20))
def test_bounded_keeps_the_ranking_inside_zero_to_one(values):
    x = torch.tensor(sorted(values))
    y = scores.bounded(x)
    assert (y >= 0).all() and (y < 1).all() and (y.diff() >= 0).all()
    apart = (x.diff() > 1e-3) & (x[1:] < 8)
    assert (y.diff()[apart] > 0).all()


def test_bounded_keeps_nan_visible():
    assert scores.bounded(torch.tensor([math.nan])).isnan().all()
