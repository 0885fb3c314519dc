# SPDX-License-Identifier: MIT
"""Who takes part: the engine in its users' ways, and the peers. All take uint8 images and give two maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...model import EomtExt
from ..engine import Engine
from ..network import choose_precision
from ..pipeline import Prediction
from . import graphs, hf
from .setting import Setting, Skipped

Run = Callable[[Sequence[np.ndarray]], list[Prediction]]
COMPILED = "+compile"  # torch.compile after a precision of ours
OURS = ("exact", "fp32", "bf16", "fp16", "fp32+compile", "bf16+compile", "onnxruntime", "openvino")
PEERS: dict[str, Callable[[Setting, EomtExt, Path], tuple[Run, str, str]]] = {
    "hf-eager": lambda s, m, _: hf.contestant(s, m, "eager", "fp32", naive=True),
    "hf-sdpa": lambda s, m, _: hf.contestant(s, m, "sdpa", "fp32"),
    "hf-sdpa-bf16": lambda s, m, _: hf.contestant(s, m, "sdpa", "bf16"),
    "onnxruntime": lambda s, m, work: hf.on_graph(s, m, work, "onnxruntime"),
    "openvino": lambda s, m, work: hf.on_graph(s, m, work, "openvino"),
    "hf-compile": lambda s, m, _: hf.contestant(s, m, "sdpa", "bf16", compiled=True),
}


@dataclass(frozen=True)
class Contestant:
    """One way from images to maps; `dtype`: of its matrix products; `about`: what it is made of."""

    name: str
    run: Run
    dtype: str
    about: str
    close: Callable[[], None] = lambda: None

    @property
    def ours(self) -> bool:
        return self.name.startswith("ours ")


def names(setting: Setting, ways: Sequence[str], peers: Sequence[str]) -> list[str]:
    """Ours first; "auto" becomes what it means on the device.

    Raises ValueError for unknown names, or where no way of ours is among them.
    """
    device, ours = torch.device(setting.device), []
    for way in ways:
        if way not in ("auto", *OURS):
            raise ValueError(f"unknown way of ours {way!r}: choose from auto, {', '.join(OURS)}")
        ours.append(choose_precision("auto", device) if way == "auto" else way)
    for peer in peers:
        if peer not in PEERS:
            raise ValueError(f"unknown peer {peer!r}: choose from {', '.join(PEERS)}")
    if not ours:
        raise ValueError("no way of ours is given: the ratios are to the first; give --ours auto")
    return [f"ours {name}" for name in dict.fromkeys(ours)] + list(dict.fromkeys(peers))


def build(name: str, setting: Setting, model: EomtExt, work: Path) -> Contestant:
    """A contestant, ready but cold. work: a folder for graphs, shared by those that need one.

    Raises Skipped, with the reason, where it cannot take part.
    """
    if not name.startswith("ours "):
        run, dtype, about = PEERS[name](setting, model, work)
        return Contestant(name, run, dtype, about)
    way = name.removeprefix("ours ")
    if way in graphs.BACKENDS:
        pipeline = graphs.pipeline(setting, model, work, way)
        return Contestant(
            name,
            lambda images: pipeline.result(pipeline.submit(images)),
            "fp32",
            f"our pipeline around {way}, fp32",
            pipeline.close,
        )
    precision, compiled = way.removesuffix(COMPILED), way.endswith(COMPILED)
    try:
        engine = Engine(
            model,
            setting.device,
            precision,
            short_side=setting.side,
            mode="windows",
            score=model.config.score,
            threads=setting.threads,
            compile=compiled,
        )
    except ValueError as error:
        raise Skipped(str(error)) from error
    return Contestant(
        name,
        engine.infer,
        "fp32" if precision == "exact" else precision,
        f"Engine(precision={precision!r}, mode='windows'{', compile=True' * compiled})",
        engine.close,
    )


def reason(error: Exception) -> str:
    """Why a contestant cannot take part: our own words, or the first line of a library's."""
    if isinstance(error, Skipped):
        return str(error)
    words = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {words[0] if words else 'no message'}"
