# SPDX-License-Identifier: MIT
"""What several processes must agree on, so that a run is the same however its batch is split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .metrics.anomaly import PixelMetrics
from .metrics.spool import Spool


def processes() -> int:
    """How many processes train together; 1 outside of torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in [0, `processes`)."""
    return dist.get_rank() if processes() > 1 else 0


def mean_count(counts: Tensor) -> Tensor:
    """Elementwise mean of ``counts`` >= 0 over the processes, at least 1e-6: what a loss is divided by.

    A sum over the local images divided by this, then averaged over processes as DDP and FSDP average
    gradients, is the sum over all images divided by the count of all: the loss of one process with the whole
    batch. With nothing to count anywhere the sum is 0, and stays so.
    """
    if processes() > 1:
        counts = counts.detach().clone()
        dist.all_reduce(counts)
        counts = counts / processes()
    return counts.clamp(min=1e-6)


def summed(counts: np.ndarray, device: torch.device) -> np.ndarray:
    """Elementwise sum of an integer array over the processes; ``device`` is one the backend can send."""
    if processes() == 1:
        return counts
    total = torch.as_tensor(counts, device=device)
    dist.all_reduce(total)
    return total.cpu().numpy()


def gathered(metrics: PixelMetrics) -> PixelMetrics:
    """The images of all processes, in process 0; elsewhere what was given. One image travels at a time."""
    if processes() == 1:
        return metrics
    everything = PixelMetrics(metrics.max_pixels)
    for whole, part in ((everything.normal, metrics.normal), (everything.anomalous, metrics.anomalous)):
        _gather(whole, part)
    return everything if rank() == 0 else metrics


def _gather(whole: Spool, part: Spool) -> None:
    runs = part.runs
    for source in range(processes()):
        count = from_process(source, len(runs))
        for i in range(count):
            keys = from_process(source, runs[i] if rank() == source else None)
            if rank() == 0:
                whole.add(np.asarray(keys))


def from_process(source: int, value: Any) -> Any:
    """``value`` of process ``source``, in every process."""
    if processes() == 1:
        return value
    box = [np.asarray(value) if isinstance(value, np.memmap) else value]
    dist.broadcast_object_list(box, src=source)
    return box[0]
