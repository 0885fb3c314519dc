# SPDX-License-Identifier: MIT
"""Builds the engine from the node's settings, and reads from it what the rest of the node needs."""

from __future__ import annotations

import math
from typing import Any

from eomt_anomaly_msgs.msg import ModelInfo

from ..alerts import MonitorParams
from .fallback import EngineSettings
from .parameters import Parameters
from .publishers import Look
from .visuals import palette

ONE_QUERY = 1 - math.exp(-1)  # eomt_ext where one query alone is certain of its mask and of P(anomaly)


def make_engine(settings: EngineSettings) -> Any:
    """An engine of `eomt_anomaly.runtime`; torch is imported here, in the worker's thread only."""
    from ..runtime import Engine

    return Engine(settings.checkpoint or None, device=settings.device, precision=settings.precision,
                  backend=settings.backend, short_side=settings.short_side, backbone=settings.backbone
                  or None,
                  threads=settings.threads, compile=settings.compile, cuda_graphs=settings.cuda_graphs,
                  gpu_jpeg=settings.gpu_jpeg, shapes=settings.shapes)


def drivable_ids(engine: Any, names: list[str]) -> tuple[int, ...]:
    """Class ids of the surface: those named, or the checkpoint's. ValueError for unknown ones or none."""
    names = [name for name in names if name]
    known = {label.name: label.id for label in engine.labels}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"drivable_labels names {', '.join(unknown)}; "
                         f"the checkpoint knows {', '.join(known)}")
    ids = tuple(known[name] for name in names) if names else tuple(engine.drivable_ids)
    if not ids:
        raise ValueError("the checkpoint marks no class as drivable: "
                         f"set drivable_labels to some of {', '.join(known)}")
    return ids


def threshold(engine: Any, wanted: float) -> float:
    """The threshold in force: `wanted`, or the calibrated one for -1. Raises ValueError if there is none."""
    if wanted != -1.0:
        return wanted
    if engine.threshold is None or not 0.0 < engine.threshold < 1.0:
        raise ValueError("the checkpoint has no calibrated threshold: set the parameter `threshold`, or "
                         "calibrate it with training/evaluate.py")
    return float(engine.threshold)


def too_high(engine: Any, value: float) -> str:
    """What a threshold keeps from being seen, in words; "" where it is low enough."""
    if engine.score != "eomt_ext" or value < ONE_QUERY:
        return ""
    return (f"threshold {value:.4g} is above {ONE_QUERY:.3f}, which one certain query reaches: "
            "an obstacle that a single query finds raises nothing")


def calibrated_on(engine: Any) -> str:
    """Where the checkpoint's threshold comes from, in words, and whether the engine runs at that size."""
    found = engine.calibration or {}
    side = found.get("short_side")
    words = [f"calibration on {found.get('dataset', 'data it does not name')}",
             f"at short side {side} px" if side else "at a short side it does not name",
             f"of {found['date']}" if "date" in found else "",
             f"by {found['method']}" if "method" in found else ""]
    share = found.get("false_positive_rate")
    wanted = f": at most {100 * share:g} % of normal pixels reach it" if isinstance(share, float) else ""
    other = f"; the network runs at {engine.short_side} px, for which it is not calibrated"
    return " ".join(filter(None, words)) + wanted + (other if _other_size(engine) else "")


def off_size(engine: Any, wanted: float) -> str:
    """Why the threshold in force may not fit the size the engine runs at, in words; "" where it does."""
    if wanted != -1.0 or not _other_size(engine):
        return ""
    return (f"the threshold is calibrated at short side {engine.calibration['short_side']} px, but the "
            f"network runs at {engine.short_side} px: its rate of false alarms is not known there; calibrate "
            "at that size (training/evaluate.py calibrate) or set the parameter `threshold`")


def _other_size(engine: Any) -> bool:
    return (engine.calibration or {}).get("short_side", engine.short_side) != engine.short_side


def rules(engine: Any, parameters: Parameters, new: dict[str, Any] | None = None) -> MonitorParams:
    """The Monitor's parameters, with `new` values in place of those in force. Raises ValueError."""
    new = new or {}
    ids = drivable_ids(engine, list(new.get("drivable_labels", parameters["drivable_labels"])))
    value = threshold(engine, new.get("threshold", parameters["threshold"]))
    return parameters.monitor(ids, value, new, engine.grid)


def look(engine: Any, parameters: Parameters) -> Look:
    """What the pictures need."""
    return Look(table=palette([label.color for label in engine.labels]), model_id=engine.model_id,
                score=engine.score,
                threshold=threshold(engine, parameters["threshold"]), alpha=parameters["overlay_alpha"],
                rate=parameters["overlay_rate"], marker_lifetime=parameters["stale_timeout"])


def model_info(engine: Any, parameters: Parameters) -> ModelInfo:
    """What is running, for late joiners too."""
    wanted = parameters["threshold"]
    source = "parameter" if wanted != -1.0 else calibrated_on(engine)
    return ModelInfo(
        model_id=engine.model_id, class_names=[label.name for label in engine.labels],
        class_colors=[channel for label in engine.labels for channel in label.color],
        drivable_ids=list(drivable_ids(engine, list(parameters["drivable_labels"]))), score=engine.score,
        threshold=threshold(engine, wanted), threshold_source=source,
        checkpoint_sha256=engine.checkpoint_sha256,
        device=str(engine.device), precision=str(engine.precision))
