# SPDX-License-Identifier: MIT
"""The engine: uint8 images of any size in, class maps and anomaly maps of the same size out."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model import EomtExt, patches
from ..model.calibration import for_size
from ..model.scores import SCORES
from .backends import BACKENDS, SESSIONS, Graph, GraphPipeline, open_session
from .checkpoints import EXPORT, EXPORT_COMMAND, Opened, default_checkpoint, open_checkpoint
from .choice import Choice, fastest
from .cpu import CpuPipeline
from .cuda import CudaPipeline, memory
from .errors import check_image
from .exported import Exported, open_exported
from .jpeg import GpuJpeg
from .network import DTYPES, choose_precision, compile_in_place, cpu_has_bf16, prepare
from .pipeline import Picture, Pipeline, Prediction, Setup
from .preprocess import MODES
from .second_look import Box, boxes_of_all_windows, look_again, zoom
from .streams import CudaStreams


@dataclass(frozen=True)
class Ticket:
    """A submission; give it to `Engine.result` once."""

    handle: Any


class Engine:
    """Runs one checkpoint on one device. Every method may be called from any thread.

    Args:
        checkpoint: folder, model in memory, or None / "" for the checkpoint inside the package.
        device: "auto" (CUDA where there is one, else cpu), "cpu", "cuda", "cuda:1", ...
        precision: "auto" (bf16 where the hardware has it), "fp32", "bf16", "fp16" (CUDA), or "exact": fp32
            with the naive post-processing, the reference that the others approximate.
        backend: what runs the network: "torch"; or "onnxruntime" or "openvino" on a folder that
            training/export.py wrote: on the CPU, in fp32 or "exact" (OpenVINO on request in bf16), at the
            size it was exported for. "auto": the fastest of them on this machine, measured now on `shapes`
            (see `choice`); torch for a checkpoint that is no export, and on CUDA.
        short_side: px to which an image's short side is scaled; None: as the model was trained.
        score: name in `SCORES`; None: the calibration's, else the configuration's.
        backbone: file or folder of the frozen backbone, where the checkpoint leaves it out.
        mode: "rectangle" (whole image) or "windows" (overlapping squares, for models trained on squares).
        max_tokens: most patches of one pass in rectangle mode; longer images are shrunk to it. None: four
            squares of the short side.
        threads: for the network's arithmetic on a CPU; None: torch's choice.
        compile: torch.compile the network: a slow first frame of each size, then perhaps faster ones.
        cuda_graphs: on CUDA, replay a graph for each shape of batch that comes again (see `Graphs`).
        gpu_jpeg: on CUDA, `decode_jpeg` decodes by nvJPEG, through torchvision. Off: what that does to
            quality has not been measured.
        shapes: (height, width) of the images to come, on which backend "auto" measures; none: the export's.

    Raises:
        ValueError: an argument is unknown here, or the checkpoint is damaged; the message names it and the
        remedy. FileNotFoundError: the checkpoint or its backbone is missing. ImportError: the backend is.
    """

    def __init__(self, checkpoint: str | Path | EomtExt | None = None, device: str = "auto",
                 precision: str = "auto", backend: str = "torch", short_side: int | None = None, *,
                 score: str | None = None, backbone: str | Path | None = None, mode: str = "rectangle",
                 max_tokens: int | None = None, threads: int | None = None, compile: bool = False,
                 cuda_graphs: bool = True, gpu_jpeg: bool = False,
                 shapes: Sequence[tuple[int, int]] = ()):
        _one_of("backend", backend, (*BACKENDS, "auto"))
        _one_of("mode", mode, MODES)
        numbers = {"short_side": short_side, "max_tokens": max_tokens, "threads": threads}
        for name, value in numbers.items():
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} is {value!r}: give a positive integer or None")
        if any(len(shape) != 2 or min(shape) < 1 for shape in shapes):
            raise ValueError(f"shapes is {shapes!r}: give height and width of each image, both above 0")
        self.choice: Choice | None = None
        if backend == "auto":
            self.choice, short_side = _choose(checkpoint, device, precision, short_side, shapes, {
                "score": score, "backbone": backbone, "mode": mode, "max_tokens": max_tokens,
                "threads": threads, "compile": compile})
            backend, precision = self.choice.backend, self.choice.precision
        self.backend = backend
        opened: Opened | Exported
        if backend == "torch":
            self._device = _device(device)
            self.precision = choose_precision(precision, self._device)
            dtype = DTYPES[self.precision]
            opened = open_checkpoint(checkpoint, backbone)
            self.short_side = short_side or opened.config.image_size
            raw_pixels = self._device.type == "cpu" and self.precision != "exact"
            network: Any = prepare(opened.model, self.precision, self._device, raw_pixels)
            if compile:
                compile_in_place(network)
        else:
            opened, raw_pixels = open_exported(checkpoint), False
            _check_exported(opened, backend, {
                "device": device, "precision": precision, "short_side": short_side, "score": score,
                "backbone": backbone or None, "max_tokens": max_tokens, "compile": compile})
            self._device, dtype = torch.device("cpu"), torch.float32       # of the graph's inputs and outputs
            self.precision = precision if precision in ("exact", "bf16") else "fp32"
            self.short_side = min(opened.size)
            network = Graph(opened, open_session(backend, opened.graph, threads, self.precision))
        self.device = str(self._device)
        self.batched = self._device.type == "cuda"   # else the images of one call are run one after another
        self.labels = opened.config.labels
        self.drivable_ids = tuple(label.id for label in self.labels if label.drivable)
        self.grid = patches(self.short_side, opened.config.patch_size)   # patches along the short side
        self.aspect = opened.size[1] / opened.size[0] if opened.size else 1.0   # width / height of a window
        self.zoom = zoom(self.short_side, opened.config.image_size)   # of the second look; 1: there is none
        if opened.size:                                               # an export knows no other size
            self.zoom = max(1.0, self.zoom)
        self.score = score or opened.score or opened.calibration.get("score", opened.config.score)
        _one_of("score", self.score, SCORES)
        self.calibration = for_size(opened.calibration, self.short_side, self.score)
        calibrated = self.score == self.calibration.get("score")
        self.threshold: float | None = self.calibration["threshold"] if calibrated else None
        self.checkpoint_sha256, self.model_id = opened.sha256, opened.model_id
        setup = Setup(network, dtype, self.precision == "exact", self.score, self.short_side, mode,
                      max_tokens, opened.size, raw_pixels)
        self._pipeline: Pipeline
        streams = None
        if backend != "torch":
            self._pipeline = GraphPipeline(setup, threads)
        elif self._device.type == "cpu":
            self._pipeline = CpuPipeline(setup, threads)
        else:
            streams = CudaStreams(self._device)
            self._pipeline = CudaPipeline(setup, streams, graphs=cuda_graphs)
        self._farther: Pipeline | None = None
        if self.zoom < 1:
            self._farther = self._pipeline.at(round(self.zoom * self.short_side))
        self.jpeg = GpuJpeg(streams) if gpu_jpeg else None
        self._closed = False

    def warmup(self, shapes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Run grey images of each (height, width), with second looks, so that the first real ones are as fast
        as the rest: where `batched`, 1 to `batch` of them in a pass, and every size of window."""
        for height, width in shapes:
            image = np.full((height, width, 3), 114, np.uint8)
            nothing = np.zeros((height, width), np.float32)
            boxes: list[Box] = [(0, 0, width, height)]
            if self.batched and self.zoom > 1:                            # a graph for each
                boxes = boxes_of_all_windows(height, width, self.zoom, self.aspect)
            for _ in range(2 if self.batched else 1):                     # the second captures a graph
                for count in range(1, (batch if self.batched else 1) + 1):
                    self.infer([image] * count)
                for box in boxes:
                    self.look_again(image, nothing, [box])

    def infer(self, images: Sequence[Picture]) -> list[Prediction]:
        """One prediction for each image (uint8 [H,W,3] RGB, sizes may differ), in order.

        An image is an array, or what `decode_jpeg` gave.

        Raises:
            InvalidImage: an image is not uint8 [H,W,3] with H, W > 0 (nothing was run), or so long that it
                needs too many windows.
            NonFiniteOutput: the network gave NaN or infinity for one of them.
            torch.OutOfMemoryError: the GPU is too small for them.
        """
        return self.result(self.submit(images))

    def submit(self, images: Sequence[Picture]) -> Ticket:
        """Begin to work on images (see `infer`); leave them unchanged until `result` returns."""
        self._check(*images)
        return Ticket(self._pipeline.submit(images))

    def infer_farther(self, image: Picture) -> Prediction:
        """What the network sees of an image at `zoom` times its `short_side`, where `zoom` is below 1."""
        if self._farther is None:
            raise ValueError(f"zoom is {self.zoom:g}: this engine does not look from farther")
        self._check(image)
        return self._farther.result(self._farther.submit([image]))[0]

    def look_again(self, image: Picture, anomaly: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """The anomaly map of `infer` for this image after a second look at boxes; see `second_look`.

        anomaly: float32 [H,W], left as it is. boxes: (x, y, width, height), px, the most important first.
        Raises as `infer`.
        """
        return look_again(self, image, anomaly, boxes)

    def decode_jpeg(self, data: Any, swapped: bool = False) -> Tensor | None:
        """A JPEG file as an image for `infer` that is on the GPU already; None: decode it on the host.

        None without `gpu_jpeg` and CUDA, without nvJPEG, and for files that are not plain baseline JPEG;
        `jpeg` keeps count and says why (see `GpuJpeg`).
        """
        return None if self.jpeg is None else self.jpeg.decode(data, swapped)

    def result(self, ticket: Ticket) -> list[Prediction]:
        """Wait for a submission. Raises as `infer`."""
        return self._pipeline.result(ticket.handle)

    def gpu_memory(self) -> dict[str, float]:
        """MB of the memory of the engine's GPU, by name (see `cuda.memory`); nothing on a CPU."""
        return memory(self._device)

    def close(self) -> None:
        """Finish what was submitted; free threads, network and buffers, and the GPU memory they took.

        Results of finished submissions can still be had. A second call does nothing.
        """
        if not self._closed:
            self._closed = True
            if self._farther:
                self._farther.close()
            self._pipeline.close()
            gc.collect()
            if self._device.type == "cuda":
                torch._C._cuda_clearCublasWorkspaces()    # one for each stream, and else kept for ever
                torch.cuda.empty_cache()

    def _check(self, *images: Picture) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed: make a new one")
        for image in images:
            check_image(image)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")


def _choose(checkpoint: str | Path | EomtExt | None, device: str, precision: str, short_side: int | None,
            shapes: Sequence[tuple[int, int]], options: dict[str, Any]) -> tuple[Choice, int | None]:
    """What `backend="auto"` means here, and the short side to run it at."""
    folder = None if isinstance(checkpoint, EomtExt) else Path(checkpoint or default_checkpoint())
    why = ""
    if _device(device).type != "cpu":
        why = "exported graphs run on the CPU"
    elif folder is None or not (folder / EXPORT).is_file():
        why = f"the checkpoint is no export: `{EXPORT_COMMAND}` makes one"
    if why:
        return Choice("torch", precision, {}, dict.fromkeys(SESSIONS, why)), short_side
    size = open_exported(folder).size
    side = short_side or min(size)
    bf16 = precision == "auto" and cpu_has_bf16()    # what torch's own choice is then
    candidates = {name: "bf16" if bf16 and name == "openvino" else precision for name in BACKENDS}
    return fastest(candidates, lambda backend, precision: Engine(
        folder, "cpu", precision, backend, side, **options), size, shapes), side


def _check_exported(exported: Exported, backend: str, options: dict[str, Any]) -> None:
    """Raise ValueError for an option that an exported graph cannot follow."""
    bf16 = ("bf16",) if backend == "openvino" and cpu_has_bf16() else ()
    allowed = {"device": ("auto", "cpu"), "precision": ("auto", "fp32", *bf16, "exact"),
               "short_side": (None, min(exported.size)), "score": (None, *SCORES), "backbone": (None,),
               "max_tokens": (None,), "compile": (False,)}
    if exported.output_size:      # post-processing is inside
        allowed |= {"precision": ("auto", "fp32", *bf16), "score": (None, exported.score)}
    for name, value in options.items():
        if value not in allowed[name]:
            raise ValueError(f"{name}={value!r} does not go with backend {backend!r} and the export "
                             f"{exported.graph.parent}: choose one of {', '.join(map(repr, allowed[name]))}, "
                             "export again, or give backend='torch' and the checkpoint it was made from")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: torch {torch.__version__} sees "
                         f"{torch.cuda.device_count()} CUDA device(s); give device='cpu', or install a CUDA "
                         "build of torch")
    if device.type == "cuda" and device.index is None:   # which it is must not depend on who asks later
        device = torch.device("cuda", torch.cuda.current_device())
    return device
