# SPDX-License-Identifier: MIT
"""The few CUDA calls the pipeline makes, behind a seam, and a twin that runs everything at once on the CPU.

The twin lets the pipeline's logic (ring, grouping, order, numbers) be tested where there is no GPU; it cannot
show a missing wait between streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

QUEUES = ("decode", "copy_in", "compute", "copy_out")
_capturing = threading.Lock()    # torch and CUDA know one capture at a time in a process


class Streams(Protocol):
    """The queues of `QUEUES`: work on one is in order, events join them."""

    device: torch.device

    def on(self, queue: str) -> AbstractContextManager[Any]:
        """Work issued inside goes to the queue."""

    def mark(self, queue: str) -> Any:
        """An event that is reached when all work issued to the queue so far is done."""

    def wait(self, queue: str, event: Any) -> None:
        """The queue goes on only after the event; the host does not wait."""

    def follow(self, queue: str) -> None:
        """The queue goes on only after what the caller's own stream was given so far."""

    def finish(self, event: Any) -> None:
        """The host waits for the event."""

    def milliseconds(self, start: Any, end: Any) -> float:
        """Time between two finished events."""

    def keep(self, tensor: Tensor, queue: str) -> None:
        """The tensor's memory must not be reused before the queue's work so far is done."""

    def capture(self, queue: str, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record work without host waits. The callable issues it to the queue again: it reads the tensors
        that it read then, and every call overwrites the one tensor that it gives.

        Raises RuntimeError where an operation cannot be recorded.
        """

    def host_buffer(self, size: int) -> Tensor:
        """uint8 [size] of host memory that copies asynchronously."""


class CudaStreams:
    """The real thing: streams and events of one CUDA device, pinned memory."""

    def __init__(self, device: torch.device):
        self.device = device
        self._queues = {name: torch.cuda.Stream(device) for name in QUEUES}
        # Nothing else runs there, so that what cuBLAS keeps for a stream lies in the graphs' own memory; that
        # of "compute" is freed when any engine closes (or anyone clears it), while graphs still write to it.
        self._recorder = torch.cuda.Stream(device)
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def on(self, queue: str) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._queues[queue])

    def mark(self, queue: str) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._queues[queue])
        return event

    def wait(self, queue: str, event: torch.cuda.Event) -> None:
        self._queues[queue].wait_event(event)

    def follow(self, queue: str) -> None:
        self._queues[queue].wait_stream(torch.cuda.current_stream(self.device))

    def finish(self, event: torch.cuda.Event) -> None:
        event.synchronize()

    def milliseconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return start.elapsed_time(end)

    def keep(self, tensor: Tensor, queue: str) -> None:
        tensor.record_stream(self._queues[queue])

    def capture(self, queue: str, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.device(self.device):
            # All share one pool of memory, because they never run at the same time. It is had from one that
            # lives: torch refuses a pool whose graphs are all gone.
            pool = next((other.pool() for other in self._graphs), None)
            # thread_local: other threads may wait for events and allocate meanwhile
            with torch.cuda.graph(graph, pool, self._recorder, capture_error_mode="thread_local"):
                output = work()
            self._graphs.add(graph)

        def replay() -> Tensor:
            with self.on(queue):
                graph.replay()
            return output

        return replay

    def host_buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class InlineStreams:
    """The twin: every call is done when it returns, so an event is just the time it was made."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def on(self, queue: str) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark(self, queue: str) -> float:
        return time.perf_counter()

    def wait(self, queue: str, event: float) -> None:
        pass

    def follow(self, queue: str) -> None:
        pass

    def finish(self, event: float) -> None:
        pass

    def milliseconds(self, start: float, end: float) -> float:
        return 1e3 * (end - start)

    def keep(self, tensor: Tensor, queue: str) -> None:
        pass

    def capture(self, queue: str, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        output = work().clone()
        return lambda: output.copy_(work())

    def host_buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)
