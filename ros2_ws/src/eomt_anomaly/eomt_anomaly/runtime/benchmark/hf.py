# SPDX-License-Identifier: MIT
"""The peers: transformers' EoMT and its image processor, as its users write it, on our weights."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...model import ANOMALY, EomtExt, EomtExtOutput
from ..network import DTYPES, choose_precision
from ..pipeline import Prediction
from ..postprocess import publish
from . import graphs
from .hf_weights import to_hf
from .setting import Setting, Skipped

Forward = Callable[[Tensor], EomtExtOutput]
SCORE = "eomt_ext"


def contestant(
    setting: Setting,
    model: EomtExt,
    attention: str,
    precision: str,
    naive: bool = False,
    compiled: bool = False,
) -> tuple[Any, str, str]:
    """transformers' network with `attention` "eager" or "sdpa"; see `Peer` for `naive`.

    compiled: torch.compile in mode max-autotune, where there is a GPU. Returns run, dtype, description.
    """
    processor = make_processor(setting, model)
    device = torch.device(setting.device)
    if compiled and device.type != "cuda":
        raise Skipped("torch.compile max-autotune is a peer on a GPU only; here the device is a CPU")
    choose_precision(precision, device)
    network = to_hf(model, setting.side, attention).to(device, DTYPES[precision])
    head = _copy_head(model, device, DTYPES[precision])
    run = torch.compile(network, mode="max-autotune") if compiled else network
    queries = model.config.num_queries

    def forward(pixels: Tensor) -> EomtExtOutput:
        out = run(pixels.to(DTYPES[precision]))
        logits = out.class_queries_logits
        return EomtExtOutput(
            out.masks_queries_logits.float(),
            logits.float(),
            head(out.last_hidden_state[:, :queries], logits).float(),
        )

    how = "naive" if naive else "careful"
    return (
        Peer(setting, processor, forward, device, naive),
        precision,
        f"transformers, {attention}{', torch.compile max-autotune' if compiled else ''}, {precision}, "
        f"{type(processor).__name__}, {how} anomaly map",
    )


def on_graph(setting: Setting, model: EomtExt, work: Path, backend: str) -> tuple[Any, str, str]:
    """The network as a graph in `backend` with its own defaults, transformers' processor around it."""
    if setting.device != "cpu":
        raise Skipped(f"the peer {backend} is measured on the CPU only")
    graphs.require(backend)
    processor = make_processor(setting, model)
    path = graphs.write(setting, model, work)
    if backend == "openvino":
        session, dtype = _openvino(path, setting.threads)
    else:
        session, dtype = graphs.open_session(backend, path, setting.threads), "fp32"

    def forward(pixels: Tensor) -> EomtExtOutput:
        masks, classes, anomalies = map(torch.from_numpy, session(pixels.numpy()))
        return EomtExtOutput(masks, classes, anomalies)

    return (
        Peer(setting, processor, forward, torch.device("cpu"), False),
        dtype,
        f"ONNX graph in {backend}, {dtype}, {type(processor).__name__}, careful anomaly map",
    )


class Peer:
    """Images to maps with `EomtImageProcessor`; its class map, and an anomaly map, which it does not have.

    naive: every mask is enlarged to the image, then its sigmoid, then the sum over queries; else (careful)
    sum at mask resolution and enlarge one map. Cameras are run one after the other.
    """

    def __init__(self, setting: Setting, processor: Any, forward: Forward, device: torch.device, naive: bool):
        self.processor, self.forward, self.device, self.naive = processor, forward, device, naive
        self.on_device = not type(processor).__name__.endswith("Pil")  # that variant takes arrays only
        self.side, self.size = setting.side, {"shortest_edge": setting.side, "longest_edge": None}

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Prediction:
        t0 = self._now()
        shown: Any = image
        if self.on_device:
            shown = torch.from_numpy(image).permute(2, 0, 1).to(self.device)
        inputs = self.processor(shown, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        offsets = [tuple(map(int, o)) for o in inputs["patch_offsets"]]
        t1 = self._now()
        output = self.forward(pixels)
        t2 = self._now()
        class_map, anomaly = self.maps(output, offsets, image.shape[:2])
        t3 = self._now()
        stages = {"preprocess": t1 - t0, "forward": t2 - t1, "postprocess": t3 - t2, "total": t3 - t0}
        return Prediction(class_map, anomaly, {name: 1e3 * s for name, s in stages.items()})

    def maps(
        self, output: EomtExtOutput, offsets: list[tuple[int, ...]], shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The post-processing: class map uint8 [H,W], published anomaly float32 [H,W]."""
        theirs = SimpleNamespace(
            masks_queries_logits=output.mask_logits,
            class_queries_logits=output.class_logits,
            patch_offsets=offsets,
        )
        class_map = self.processor.post_process_semantic_segmentation(
            theirs, target_sizes=[shape], size=self.size
        )[0]
        anomaly = publish(SCORE, self._anomaly(output, offsets, shape))
        return class_map.to(torch.uint8).cpu().numpy(), anomaly.cpu().numpy()

    def _anomaly(
        self, output: EomtExtOutput, offsets: list[tuple[int, ...]], shape: tuple[int, int]
    ) -> Tensor:
        """Raw AnomalyMap [H,W]: windows averaged where they overlap."""
        weights = output.anomaly_logits.softmax(-1)[..., ANOMALY]  # [n,Q]
        tall, length, scale = shape[0] > shape[1], max(shape), min(shape) / self.side
        total, count = output.mask_logits.new_zeros(shape), output.mask_logits.new_zeros(shape)
        for mask, weight, (_, start, end) in zip(output.mask_logits, weights, offsets):
            first, last = round(start * scale), min(length, round(end * scale))
            place = (slice(first, last), slice(None)) if tall else (slice(None), slice(first, last))
            target = total[place].shape
            if self.naive:
                big = F.interpolate(mask[None], target, mode="bilinear", align_corners=False)[0]  # [Q,*]
                total[place] += torch.einsum("q,qhw->hw", weight, big.sigmoid())
            else:
                small = torch.einsum("q,qhw->hw", weight, mask.sigmoid())
                total[place] += F.interpolate(
                    small[None, None], target, mode="bilinear", align_corners=False
                )[0, 0]
            count[place] += 1
        return total / count.clamp_(min=1)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def make_processor(setting: Setting, model: EomtExt) -> Any:
    """`EomtImageProcessor` for the setting's windows: torchvision's where that is installed, else PIL's."""
    variant = "EomtImageProcessor" + ("" if importlib.util.find_spec("torchvision") else "Pil")
    try:
        processor = getattr(importlib.import_module("transformers"), variant)
    except (ImportError, AttributeError) as error:
        raise Skipped(
            f"transformers with EoMT is not installed ({error}); run `python3 -m pip install "
            "transformers` (version: requirements/training.txt)"
        ) from error
    if model.config.score != SCORE:
        raise Skipped(f"the peers compute the score {SCORE}, the checkpoint's is {model.config.score}")
    config = model.config
    return processor(
        size={"shortest_edge": setting.side, "longest_edge": None},
        do_split_image=True,
        image_mean=list(config.pixel_mean),
        image_std=list(config.pixel_std),
    )


def _copy_head(model: EomtExt, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    return copy.deepcopy(model.anomaly_head).eval().requires_grad_(False).to(device, dtype)


def _openvino(path: Path, threads: int | None) -> tuple[Any, str]:
    """OpenVINO with its own choice of precision: bf16 where the processor has it."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"INFERENCE_NUM_THREADS": threads} if threads else {}
    )
    chosen = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    dtype = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}.get(chosen, chosen)
    return lambda array: list(compiled(array).to_tuple()), dtype
