# SPDX-License-Identifier: MIT
"""Two real processes, one image and two: what they agree on is what one process finds on all three."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from eomt_training.baselines.dense_module import dense_losses
from eomt_training.baselines.erfnet_module import weighted_ce
from eomt_training.distributed import from_process, gathered, mean_count, processes, rank, summed
from eomt_training.losses import dense_loss
from eomt_training.metrics.anomaly import PixelMetrics
from eomt_training.targets import IGNORE, OUTLIER


def images():
    """Logits [3,4,8,8] and labels [3,8,8]; the first image is alone in a process, hardly labelled."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 8, 8, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, OUTLIER])[torch.randint(0, 4, (3, 8, 8), generator=draw)]
    labels[0, 1:] = IGNORE
    return logits, labels


def losses(logits, labels):
    """All per-pixel losses and their gradient by the logits, of which each process has a share."""
    logits = logits.clone().requires_grad_()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    found = dense_losses(logits, labels, 2.0) | {"dense": dense_loss(logits, labels)}
    known = torch.where(labels == OUTLIER, 3, labels)
    found["ce"] = weighted_ce(logits, known, weights)
    sum(found.values()).backward()
    return {name: float(value.detach()) for name, value in found.items()}, logits.grad


def metrics(logits, labels):
    made = PixelMetrics(max_pixels=100)  # so few that they are spooled to disk
    truth = torch.where(labels == OUTLIER, 1, torch.where(labels == IGNORE, IGNORE, 0))
    for scores, one in zip(logits[:, 0], truth):
        made.update(scores.numpy(), one.numpy())
    return made


def process(number, folder):
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=number, world_size=2)
    logits, labels = images()
    mine = slice(0, 1) if number == 0 else slice(1, 3)
    found, gradient = losses(logits[mine], labels[mine])
    whole = gathered(metrics(logits[mine], labels[mine]))
    result = {
        "losses": found,
        "gradient": gradient,
        "metrics": whole.compute() if rank() == 0 else None,
        "sum": summed(np.array([number, 2]), torch.device("cpu")).tolist(),
        "told": from_process(1, {"by": number}),
        "processes": processes(),
    }
    torch.save(result, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in (0, 1)]


def test_losses_and_gradients_average_to_those_of_all_images(both):
    expected, gradient = losses(*images())
    for name, value in expected.items():
        assert np.mean([one["losses"][name] for one in both]) == pytest.approx(value, rel=1e-6), name
        assert both[0]["losses"][name] != pytest.approx(value, rel=1e-2), "shares differ, or nothing is shown"
    averaged = torch.cat([one["gradient"] for one in both]) / 2
    assert torch.allclose(averaged, gradient, rtol=1e-6, atol=1e-9)


def test_metrics_and_counts_are_put_together(both):
    assert both[0]["metrics"] == pytest.approx(metrics(*images()).compute())
    assert [one["sum"] for one in both] == [[1, 4]] * 2
    assert [one["told"] for one in both] == [{"by": 1}] * 2 and both[0]["processes"] == 2


def test_alone_nothing_is_sent():
    assert processes() == 1 and rank() == 0 and from_process(0, "mine") == "mine"
    assert mean_count(torch.tensor([3.0, 0.0])).tolist() == [3.0, pytest.approx(1e-6)]
    counts, one = np.array([1]), PixelMetrics()
    assert summed(counts, torch.device("cpu")) is counts and gathered(one) is one
