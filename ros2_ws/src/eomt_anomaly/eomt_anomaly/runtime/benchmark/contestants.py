# SPDX-License-Identifier: MIT
"""Who takes part: the engine in its users' ways, and the peers. All take uint8 images and give two maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...model import EomtExt
from ..choice import fastest
from ..engine import Engine
from ..network import choose_precision
from ..pipeline import Prediction
from . import graphs, hf
from .setting import Setting, Skipped

Run = Callable[[Sequence[np.ndarray]], list[Prediction]]
COMPILED = "+compile"  # torch.compile after a precision of ours
GRAPHS = {  # way -> backend and precision
    "onnxruntime": ("onnxruntime", "fp32"),
    "openvino": ("openvino", "fp32"),
    "openvino-bf16": ("openvino", "bf16"),
}
AUTO = "backend-auto"
OURS = ("exact", "fp32", "bf16", "fp16", "fp32+compile", "bf16+compile", *GRAPHS, AUTO)
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
    if way == AUTO:
        return _fastest(setting, model, work)
    if way in GRAPHS:
        backend, precision = GRAPHS[way]
        pipeline = graphs.pipeline(setting, model, work, backend, precision)
        return Contestant(
            name,
            lambda images: pipeline.result(pipeline.submit(images)),
            precision,
            f"our pipeline around {backend}, {precision}",
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


class _Running:
    """A contestant where `choice.fastest` expects an engine."""

    def __init__(self, contestant: Contestant):
        self.precision, self.infer, self.close = contestant.dtype, contestant.run, contestant.close


def _fastest(setting: Setting, model: EomtExt, work: Path) -> Contestant:
    """What `Engine(folder, backend="auto")` would run, measured as it does."""
    if setting.device != "cpu":
        raise Skipped("backend 'auto' is torch on a GPU")
    bf16 = choose_precision("auto", torch.device("cpu")) == "bf16"
    ways = {"torch": "bf16" if bf16 else "fp32", "onnxruntime": "onnxruntime",
            "openvino": "openvino-bf16" if bf16 else "openvino"}  # fmt: skip

    def start(_: str, way: str) -> _Running:
        try:
            return _Running(build(f"ours {way}", setting, model, work))
        except Skipped as error:
            raise ValueError(str(error)) from error

    found = fastest(ways, start, (setting.side, setting.side), [setting.size])
    chosen = build(f"ours {found.precision}", setting, model, work)
    return replace(chosen, name=f"ours {AUTO}", about=f"{chosen.about}, chosen: {found}")


def reason(error: Exception) -> str:
    """Why a contestant cannot take part: our own words, or the first line of a library's."""
    if isinstance(error, Skipped):
        return str(error)
    words = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {words[0] if words else 'no message'}"
