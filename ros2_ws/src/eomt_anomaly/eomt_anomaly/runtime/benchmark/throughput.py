# SPDX-License-Identifier: MIT
"""The CUDA pipeline under load: latency's tail, throughput when submissions overlap, equality of its maps.

Everything goes through `Streams`, so that the same code runs on the CPU through `InlineStreams`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cuda import CudaPipeline
from ..pipeline import Prediction
from .timing import quantiles

COMPARED = 16  # submissions whose maps are kept, at most: those of all may be more than the host can hold
DEPTH = 2  # submissions under way beside the one that is waited for; the ring has three slots
Captured = Callable[[], tuple[Tensor, ...]]


def measure(
    pipeline: CudaPipeline, images: Sequence[np.ndarray], frames: int, batch: int = 8
) -> dict[str, Any]:
    """All figures of one pipeline; images of one size, taken in turns.

    `latency_ms` of one image at a time with `p99_over_p50`; for batches of 1 and of `batch`: img/s when
    submissions overlap (`pipelined`), of the network alone (`forward_only`; `cuda_graph`: it was replayed as
    one, because the pipeline replays one for these batches), and `pipelined_percent`, the one of the other;
    `same_maps`: how far the maps of overlapping submissions (up to COMPARED of them, evenly spread), and of a
    CUDA graph, are from those of one image at a time.
    """
    single = [pipeline.result(pipeline.submit([image]))[0] for image in images]
    for image in images:  # a shape's second call captures its graph
        pipeline.result(pipeline.submit([image]))
    one_by_one = []
    for i in range(frames):
        start = time.perf_counter()
        pipeline.result(pipeline.submit([images[i % len(images)]]))
        one_by_one.append(1e3 * (time.perf_counter() - start))
    latency = quantiles(one_by_one)
    rates, same = {}, {}
    for size in dict.fromkeys((1, batch)):
        batches = [[images[(i + j) % len(images)] for j in range(size)] for i in range(frames)]
        overlapping(pipeline, batches[:1] * (DEPTH + 1))  # warms up
        every = -(-frames // COMPARED)
        found, seconds = overlapping(pipeline, batches, every)
        forward, graph_too = forward_only(pipeline, batches[0], frames)
        rate = size * frames / seconds
        rates[str(size)] = {
            "pipelined": rate,
            "forward_only": forward,
            "cuda_graph": graph_too,
            "pipelined_percent": 100 * rate / forward,
        }
        expected = [single[(i + j) % len(images)] for i in range(0, frames, every) for j in range(size)]
        same[f"overlapping, batch {size}"] = difference(expected, [p for one in found for p in one])
    graph, reason = graph_equality(pipeline, images[0])
    if graph is not None:
        same["CUDA graph against eager"] = graph
    return {
        "frames": frames,
        "latency_ms": latency | {"p99_over_p50": latency["p99"] / latency["p50"]},
        "images_per_s": rates,
        "same_maps": same,
        "skipped": {"CUDA graph": reason} if reason else {},
    }


def overlapping(
    pipeline: CudaPipeline, batches: Sequence[Sequence[np.ndarray]], every: int = 1
) -> tuple[list[list[Prediction]], float]:
    """Submit each batch while up to DEPTH others are under way; every so many results, and the seconds."""
    under_way: deque[Any] = deque()
    kept = []
    start = time.perf_counter()
    for number in range(len(batches) + DEPTH):
        if number < len(batches):
            under_way.append(pipeline.submit(batches[number]))
        if number >= DEPTH:
            result = pipeline.result(under_way.popleft())
            if (number - DEPTH) % every == 0:
                kept.append(result)
    return kept, time.perf_counter() - start


@torch.inference_mode()
def forward_only(pipeline: CudaPipeline, images: Sequence[np.ndarray], repeats: int) -> tuple[float, bool]:
    """Images/s of the network alone, its input on the device, one wait at the end.

    As a CUDA graph where the pipeline replays one for such a batch, and told so: without its launches an
    eager network would be slower than the pipeline around it.
    """
    streams = pipeline.streams
    device = torch.from_numpy(np.stack(images)).to(streams.device)  # [B,H,W,3] uint8
    pixels = pipeline.network_input(device, pipeline.setup.plan(*device.shape[1:3]))

    def run() -> Tensor:  # all logits are computed; a capture gives one tensor, and this one is small
        return pipeline.setup.forward(pixels).class_logits

    _settle(streams.device)
    with streams.on("compute"):
        run()  # warms up
    _settle(streams.device)
    graph = tuple(device.shape) in pipeline.replayed()
    replay = streams.capture("compute", run) if graph else run
    _settle(streams.device)
    start = time.perf_counter()
    with streams.on("compute"):
        for _ in range(repeats):
            replay()
        event = streams.mark("compute")
    streams.finish(event)
    return repeats * len(images) / (time.perf_counter() - start), graph


@torch.inference_mode()
def graph_equality(pipeline: CudaPipeline, image: np.ndarray) -> tuple[dict[str, float] | None, str]:
    """A captured `compute` against the same one run eagerly; None with the reason where it cannot be."""
    device = torch.from_numpy(np.ascontiguousarray(image)[None]).to(pipeline.streams.device)
    eager = [x.cpu() for x in pipeline.compute(device)]
    try:
        replay = captured(lambda: pipeline.compute(device), pipeline.streams.device)
        found = [x.cpu() for x in replay()]
    except RuntimeError as error:  # an operation cannot be captured
        return None, f"capture failed: {error}"
    return {
        "classes_percent": 100 * float((eager[1] == found[1]).float().mean()),
        "anomaly_max_abs": float((eager[0] - found[0]).abs().max()),
    }, ""


def captured(compute: Captured, device: torch.device) -> Captured:
    """`compute` as a CUDA graph; on the CPU, which has none, `compute` itself."""
    if device.type != "cuda":
        return compute
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):  # allocations and plans settle
            compute()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):
        outputs = compute()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        torch.cuda.synchronize(device)
        return outputs

    return replay


def difference(expected: Sequence[Prediction], found: Sequence[Prediction]) -> dict[str, float]:
    """Worst image: pixels of the same class, %, and the largest difference of anomaly."""
    pairs = list(zip(expected, found, strict=True))
    return {
        "classes_percent": min(100 * float((a.class_map == b.class_map).mean()) for a, b in pairs),
        "anomaly_max_abs": max(float(np.abs(a.anomaly - b.anomaly).max()) for a, b in pairs),
    }


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
