# SPDX-License-Identifier: MIT
"""The CUDA pipeline: upload of uint8, everything else on the GPU, download of two maps an image.

Streams joined by events, over a ring of reused pinned buffers: while one submission computes, the next
uploads and the one before downloads. A shape of batch that comes again is replayed as a CUDA graph. Its logic
and numbers are tested on the CPU through `InlineStreams`; see docs/runtime.md for what has and has not been
run on a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import NonFiniteOutput
from .graphs import Graphs
from .pipeline import Picture, Prediction, Setup
from .postprocess import exact, finish_on_device, finite, fuse
from .preprocess import Normalizer, Plan, resize_on_device
from .streams import Streams


@dataclass
class Slot:
    """One place of the ring: host buffers that only grow, and the batch that uses them now."""

    upload: Tensor | None = None
    download: Tensor | None = None
    batch: Batch | None = None

    def take(self, name: str, size: int, streams: Streams) -> Tensor:
        """`size` bytes of the buffer `name`."""
        buffer = getattr(self, name)
        if buffer is None or len(buffer) < size:
            buffer = streams.host_buffer(size)
            setattr(self, name, buffer)
        return buffer[:size]


@dataclass
class Batch:
    """Images of one size under way; `predictions` once they are collected."""

    shape: tuple[int, int, int]         # B, H, W
    slot: Slot
    spans: list[tuple[Any, Any]] = field(default_factory=list)   # begin and end of each stage, on its queue
    predictions: list[Prediction] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> Any:
        """The event that ends the last stage."""
        return self.spans[-1][1]


class CudaPipeline:
    """Images of one size share a pass. `submit` blocks only while all `slots` are under way."""

    def __init__(self, setup: Setup, streams: Streams, slots: int = 3, graphs: bool = True):
        self.setup, self.streams = setup, streams
        config = setup.network.config
        self._normalize = Normalizer(config.pixel_mean, config.pixel_std, setup.dtype, streams.device)
        self._run: Callable[[Tensor], Tensor] = self._maps
        if graphs:
            self._run = Graphs(self._maps, agree, streams, "compute", self._positions)
        self._ring = [Slot() for _ in range(slots)]
        self._next = 0
        self._lock = threading.RLock()

    def submit(self, images: Sequence[Picture]) -> list[tuple[Batch, int]]:
        """Copy the images (free at once) and start. Returns each image's batch and place in it.

        The caller's inference mode and autocast do not reach the work.
        """
        sizes: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            height, width = image.shape[:2]
            self.setup.plan(height, width)      # what cannot be shown is refused before anything is begun
            sizes.setdefault((height, width), []).append(i)
        handle: list[Any] = [None] * len(images)
        plain = torch.autocast(self.streams.device.type, enabled=False)
        with self._lock, torch.inference_mode(), plain:
            for members in sizes.values():
                batch = self._launch([images[i] for i in members])
                for place, i in enumerate(members):
                    handle[i] = (batch, place)
        return handle

    def result(self, handle: list[tuple[Batch, int]]) -> list[Prediction]:
        """Wait for the download, and no longer; see `Pipeline`."""
        for batch, _ in handle:
            self.streams.finish(batch.done)                             # others may submit meanwhile
        with self._lock:
            for batch, _ in handle:
                self._collect(batch)
                if batch.error is not None:
                    raise batch.error
            return [batch.predictions[place] for batch, place in handle]

    def at(self, short_side: int) -> CudaPipeline:
        """On the same streams, with one slot of its own; see `Pipeline`."""
        setup, graphs = replace(self.setup, short_side=short_side), isinstance(self._run, Graphs)
        other = CudaPipeline(setup, self.streams, slots=1, graphs=graphs)
        other._lock = self._lock                            # a stream that is captured takes no other work
        return other

    def replayed(self) -> list[tuple[int, ...]]:
        """The shapes of batches, [B,H,W,3], that are replayed as a CUDA graph."""
        return self._run.replayed() if isinstance(self._run, Graphs) else []

    def close(self) -> None:
        """Wait for what is under way; drop the buffers and the network."""
        with self._lock:
            for slot in self._ring:
                if slot.batch is not None:
                    self._collect(slot.batch)
            self._ring = [Slot() for _ in self._ring]
            del self.setup, self._normalize, self._run

    def _launch(self, images: list[Picture]) -> Batch:
        streams, slot = self.streams, self._ring[self._next]
        self._next = (self._next + 1) % len(self._ring)
        if slot.batch is not None:
            self._collect(slot.batch)                                   # frees the slot's buffers
        shape = (len(images), *images[0].shape[:2])
        pixels = shape[0] * shape[1] * shape[2]
        batch = Batch(shape, slot)
        host = slot.take("upload", 3 * pixels, streams).view(*shape, 3)
        for row, image in zip(host.numpy(), images):
            if isinstance(image, np.ndarray):
                np.copyto(row, image)
        if any(isinstance(image, Tensor) for image in images):
            streams.follow("copy_in")                   # a part of a picture may still be in the making
        begin = streams.mark("copy_in")
        with streams.on("copy_in"):
            device = torch.empty(host.shape, dtype=torch.uint8, device=streams.device)    # [B,H,W,3]
            for row, copy, image in zip(device, host, images):
                if isinstance(image, Tensor):                                         # it is there already
                    row.copy_(image)
                    streams.keep(image, "copy_in")
                else:
                    row.copy_(copy, non_blocking=True)
        batch.spans.append((begin, streams.mark("copy_in")))
        streams.wait("compute", batch.done)
        begin = streams.mark("compute")                 # after the wait, and after the batches before
        with streams.on("compute"):
            packed = self._run(device)                                                # [5*B*H*W+1] uint8
        streams.keep(device, "compute")
        batch.spans.append((begin, streams.mark("compute")))
        streams.wait("copy_out", batch.done)
        begin = streams.mark("copy_out")
        with streams.on("copy_out"):
            slot.take("download", len(packed), streams).copy_(packed, non_blocking=True)
        streams.keep(packed, "copy_out")
        batch.spans.append((begin, streams.mark("copy_out")))
        slot.batch = batch
        return batch

    def _maps(self, images: Tensor) -> Tensor:
        """uint8 [B,H,W,3] -> uint8 [5*B*H*W+1]: the bytes of anomaly, of the class map, and of finite."""
        anomaly, class_map, ok = self.compute(images)
        return torch.cat([anomaly.reshape(-1).view(torch.uint8), class_map.reshape(-1), ok.view(torch.uint8)])

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [B,H,W,3] -> anomaly float32 [B,H,W], class map uint8 [B,H,W], finite bool [1]; no host
        waits.

        A pure function of the images for one shape: what a CUDA graph may capture.
        """
        setup = self.setup
        plan = setup.plan(*images.shape[1:3])
        pixels = self.network_input(images, plan)                                     # [B*n,3,h,w]
        output = setup.forward(pixels)
        ok, count = finite(output).view(1), len(plan.corners)
        if setup.exact:
            pairs = [exact(_rows(output, slice(i, i + count)), plan, setup.score)
                     for i in range(0, len(pixels), count)]
        else:
            maps = fuse(output, setup.score)                                          # [B*n,C+1,h,w]
            pairs = [finish_on_device(m, plan, setup.score) for m in maps.split(count)]
        return torch.stack([a for _, a in pairs]), torch.stack([c for c, _ in pairs]), ok

    def _positions(self, shape: torch.Size) -> Tensor:
        """The position embeddings of images [B,H,W,3]; the network caches them by grid."""
        patch, window = self.setup.network.config.patch_size, self.setup.plan(*shape[1:3]).window
        return self.setup.network.backbone.positions((window[0] // patch, window[1] // patch))

    def network_input(self, images: Tensor, plan: Plan) -> Tensor:
        """uint8 [B,H,W,3] -> normalised [B*n,3,h,w], the plan's n windows of each image, on its device."""
        x = images.permute(0, 3, 1, 2).float()                                        # [B,3,H,W]
        x = resize_on_device(x, plan.scaled)
        windows = torch.stack([x[..., rows, columns] for rows, columns in plan.crops()], 1)
        return self._normalize(windows.flatten(0, 1))                                 # [B*n,3,h,w]

    def _collect(self, batch: Batch) -> None:
        """Wait for a batch, copy it out of the slot and free the slot; a second call does nothing."""
        if batch.predictions or batch.error is not None:
            return
        b, height, width = batch.shape
        count = b * height * width
        streams, slot = self.streams, batch.slot
        streams.finish(batch.done)
        data = slot.take("download", 5 * count + 1, streams).numpy()
        slot.batch = None
        if not data[5 * count]:
            batch.error = NonFiniteOutput()
            return
        anomaly = data[:4 * count].view(np.float32).reshape(batch.shape).copy()
        class_map = data[4 * count:5 * count].reshape(batch.shape).copy()
        names = ("upload", "compute", "download")
        times = {name: streams.milliseconds(*span) / b for name, span in zip(names, batch.spans)}
        times["total"] = sum(times.values())
        batch.predictions = [Prediction(c, a, dict(times)) for c, a in zip(class_map, anomaly)]


def memory(device: torch.device, cuda: Any = torch.cuda) -> dict[str, float]:
    """MB of a GPU's memory: `allocated_mb` and, with what is kept for later, `reserved_mb` by torch in this
    process, `free_mb` and `total_mb` of the GPU; nothing for a CPU. Asks the driver."""
    if device.type != "cuda":
        return {}
    free, total = cuda.mem_get_info(device)
    found = {"allocated_mb": cuda.memory_allocated(device), "reserved_mb": cuda.memory_reserved(device),
             "free_mb": free, "total_mb": total}
    return {name: size / 1e6 for name, size in found.items()}


def agree(eager: Tensor, replayed: Tensor) -> bool:
    """Whether two packed answers are one, up to rounding: 99.9 % of the classes, anomaly within 1e-3."""
    count = len(eager) // 5
    a, b = (x[:4 * count].view(torch.float32) for x in (eager, replayed))
    same = (eager[4 * count:] == replayed[4 * count:]).float().mean()
    return bool(same >= 0.999) and torch.allclose(a, b, rtol=0, atol=1e-3, equal_nan=True)


def _rows(output: Any, rows: slice) -> Any:
    return type(output)(output.mask_logits[rows], output.class_logits[rows], output.anomaly_logits[rows])
