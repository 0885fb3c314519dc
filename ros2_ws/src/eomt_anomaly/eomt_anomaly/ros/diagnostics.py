# SPDX-License-Identifier: MIT
"""/diagnostics: one status for the engine, one for memory, and one for each camera."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ..alerts import Level, Reason
from . import qos
from .camera import Camera
from .engines import off_size
from .health import Verdict
from .mailbox import Counts, Mailbox
from .pipeline import Durations
from .reaction import worst_case
from .resources import read_process
from .worker import Worker

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem

MISSING = Reason.NO_INPUT | Reason.STALE_INPUT
QUIET = Reason.INACTIVE | Reason.DISABLED | Reason.WARMING_UP   # asked for, or passing
PERIOD_S = 1.0   # between messages


class Diagnostics:
    """The topic. `tell` may be called as often as one likes."""

    def __init__(self, node: Any, parameters: SupportsGetItem[str, Any], cameras: Mapping[str, Camera],
                 mailbox: Mailbox, durations: Durations):
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self._node, self._parameters, self._cameras = node, parameters, cameras
        self._mailbox, self._durations = mailbox, durations
        self._told, self._slow = float("-inf"), False

    def tell(self, state: str, problem: str, worker: Worker | None) -> None:
        """Publish how things stand, at most once in `PERIOD_S`. problem: why there is no engine, or ""."""
        now = time.monotonic()
        if now - self._told < PERIOD_S:
            return
        self._told = now
        name, engine = self._node.get_fully_qualified_name().lstrip("/"), worker.engine if worker else None
        degraded, durations = worker.degraded if worker else "", self._durations.percentiles()
        slow = too_slow(durations, self._parameters["stale_timeout"])
        if slow and not self._slow:
            self._node.get_logger().warning(slow)
        self._slow = bool(slow)
        statuses = [
            engine_status(name, state, engine, problem, degraded,
                          off_size(engine, self._parameters["threshold"]) if engine else "", slow,
                          durations, worst_case(self._parameters)),
            memory_status(name, degraded, worker is not None and worker.starved,
                          worker.gpu_memory if worker else {})]
        statuses += [camera_status(name, camera.name, camera.verdict(now), self._mailbox.counts(camera.name),
                                   camera.remark, camera.health.input_age(now))
                     for camera in self._cameras.values()]
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def too_slow(durations: Mapping[str, Mapping[str, float]], stale_timeout: float) -> str:
    """Why no judgement can stand on this computer, in words; "" where it is fast enough, or not known yet."""
    service_s = durations.get("service", {}).get("p50", 0.0) / 1e3
    if service_s <= stale_timeout:
        return ""
    return (f"a picture takes {service_s:.1f} s here (median) and is then older than stale_timeout "
            f"({stale_timeout:g} s), so the level stays UNKNOWN: lower `short_side` (252 takes a fifth "
            "of 476), or raise `max_age` and `stale_timeout`, and alerts may be that much older")


def words(reasons: Reason) -> str:
    """`STALE_INPUT | INVALID_INPUT`, or an empty string."""
    return " | ".join(name for name, reason in Reason.__members__.items() if reason & reasons)


def camera_status(node: str, camera: str, verdict: Verdict, counts: Counts, text: str,
                  age: float | None) -> DiagnosticStatus:
    """OK while the level is known, WARN while UNKNOWN as was asked for or for a moment, STALE where nothing
    is wrong but that pictures do not come or come late, else ERROR."""
    faults = verdict.reasons & ~QUIET if verdict.level == Level.UNKNOWN else Reason.NONE
    level = DiagnosticStatus.ERROR if faults & ~MISSING else DiagnosticStatus.STALE if faults else \
        DiagnosticStatus.WARN if verdict.level == Level.UNKNOWN else DiagnosticStatus.OK
    message = " ".join(part for part in (verdict.level.name, words(verdict.reasons)) if part)
    return _status(node, camera, level, f"{message}: {text}" if text else message, {
        "frames_in": counts.received, "frames_out": counts.judged, "frames_pending": counts.pending,
        **{f"dropped_{reason}": number for reason, number in sorted(counts.dropped.items())},
        "input_age_s": "none" if age is None else f"{age:.3f}"})


def engine_status(node: str, state: str, engine: Any, problem: str, degraded: str,
                  off_size: str, slow: str, durations: Mapping[str, Mapping[str, float]],
                  reaction: Mapping[str, float]) -> DiagnosticStatus:
    """ERROR for a problem, WARN while degraded, not active, `too_slow`, or at a size for which the threshold
    was not made (`off_size`), else OK. `reaction` is of `worst_case`."""
    doubts = "; ".join(filter(None, (slow, degraded, off_size)))
    level = DiagnosticStatus.ERROR if problem else \
        DiagnosticStatus.OK if state == "active" and not doubts else DiagnosticStatus.WARN
    values: dict[str, Any] = {"state": state, "degraded": degraded or "no", "off_size": off_size or "no",
                              "too_slow": slow or "no"}
    if engine is not None:
        values |= {"model_id": engine.model_id, "device": engine.device, "precision": engine.precision,
                   "backend": engine.backend, "short_side": engine.short_side,
                   "checkpoint_sha256": engine.checkpoint_sha256}
        if engine.choice is not None:
            values["backend_because"] = str(engine.choice)
        if engine.jpeg is not None:
            left = dict(engine.jpeg.left)
            values |= {"jpeg_on_gpu": engine.jpeg.on_gpu, "jpeg_on_cpu": sum(left.values()),
                       "jpeg_on_cpu_because": "; ".join(f"{why}: {n}" for why, n in left.items()) or "none"}
    for kind, percentiles in durations.items():
        values |= {f"{kind}_ms_{name}": f"{value:.3f}" for name, value in percentiles.items()}
    values |= {f"worst_case_{name}_s": f"{seconds:.3f}" for name, seconds in reaction.items()}
    return _status(node, "engine", level, problem or doubts or state, values)


def memory_status(node: str, degraded: str, starved: bool, gpu: Mapping[str, Any]) -> DiagnosticStatus:
    """ERROR where it runs out and nothing is left to give up, WARN while something was given up, else OK.
    `gpu` is what the engine says of its GPU's."""
    level = DiagnosticStatus.ERROR if starved else DiagnosticStatus.WARN if degraded else DiagnosticStatus.OK
    message = "memory runs out, and nothing is left to give up" if starved else degraded or "enough"
    return _status(node, "memory", level, message, {
        "degraded": degraded or "no", "rss_mb": f"{read_process(os.getpid())[1]:.1f}",
        **{f"gpu_{name}": f"{of:.1f}" if isinstance(of, float) else of for name, of in gpu.items()}})


def _status(node: str, part: str, level: bytes, message: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    return DiagnosticStatus(level=level, name=f"{node}: {part}", message=message, hardware_id=node,
                            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
