# SPDX-License-Identifier: MIT
"""The lifecycle node: wires cameras, worker, services and heartbeat; judges nothing itself."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..alerts import Reason
from .autostart import Autostart
from .camera import Camera
from .diagnostics import Diagnostics
from .engines import make_engine, rules, threshold
from .fallback import EngineSettings
from .gate import Gate
from .heartbeat import Heartbeat
from .mailbox import Drop, Mailbox
from .overall import Overall
from .parameters import Parameters
from .pipeline import Pipeline
from .rules import Rules
from .services import Services
from .watch import Watch
from .worker import Batching, Worker

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
EXECUTOR_PERIOD_S = 0.2   # between signs of life of the executor; the shortest `worker_timeout` is 1 s


class Detector(LifecycleNode):
    """Camera topics in; masks, heatmaps and obstacle alerts out. Alerts say UNKNOWN from construction on."""

    def __init__(self, make_engine: Callable[[EngineSettings], Any] = make_engine,
                 stopping: threading.Event | None = None, **kwargs):
        """`stopping` ends a configuration early. Raises ValueError and rclpy's own for bad parameters.

        Spin the node at once: from now on an executor that stands still for `worker_timeout` is hung.
        """
        super().__init__("detector", enable_logger_service=True, **kwargs)
        self._built = False   # rclpy destroys what a constructor left behind, too
        self.parameters = Parameters(self)
        if unknown := self.parameters.unknown():
            self.get_logger().warning("given parameters that this node does not have do nothing: "
                                      f"{', '.join(unknown)}; check their spelling, and `cameras`")
        self._stopping = stopping or threading.Event()
        self._make_engine, self._problem = make_engine, ""
        self._worker: Worker | None = None
        self._gate = Gate(self._worker_reasons)
        self._mailbox = Mailbox(self.parameters.cameras)
        self._overall = Overall(self, self.parameters.cameras)
        self._cameras = {name: Camera(self, name, self.parameters, self._mailbox, self._gate,
                                      self._overall.hear) for name in self.parameters.cameras}
        self._pipeline = Pipeline(self._cameras)
        self._rules = Rules(self, self.parameters, self._cameras, self._pipeline)
        self._diagnostics = Diagnostics(self, self.parameters, self._cameras, self._mailbox,
                                        self._pipeline.durations)
        self._degraded = ""      # what was last said of memory
        Services(self)
        self.add_on_set_parameters_callback(self._may_set)
        self.add_post_set_parameters_callback(self._have_set)
        self.autostart = Autostart(self._start)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_jump)
        self._watch = Watch(self.parameters, self.get_logger())
        self.create_timer(EXECUTOR_PERIOD_S, self._watch.executor_runs,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))   # simulated time may stand still
        self._heartbeat = Heartbeat(1.0 / self.parameters["heartbeat_rate"], self._beat, self._beat_failed)
        self._heartbeat.start()
        self._built = True

    # ---- lifecycle ----

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build the engine in the worker's thread, warm it up, and create the topics."""
        self.autostart.cancel()
        p = self.parameters
        sizes = {tuple(p[f"{name}.warmup_size"]) for name in self._cameras}
        shapes = [(h, w) for w, h in sorted(sizes) if h and w]
        settings = EngineSettings.chosen(p, shapes)
        self._gate.warming = True
        try:
            if p["compile"] and (0, 0) in sizes:
                raise ValueError("compile is true: give each camera its warmup_size, width and height in px; "
                                 "else its first picture waits for the compiler, and that looks like a hang")
            if self._watch.working:
                raise RuntimeError("the last configuration's worker is still busy with its engine: try again "
                                   "later; if it hangs, the process ends after worker_timeout")
            worker = self._worker = Worker(self._make_engine, settings, shapes, self._mailbox, self._pipeline,
                                           self._batching, p["oom_fallback"], p["oom_retry_s"])
            worker.start()
            self._watch.add(worker)
            while not worker.settled.wait(0.1):
                self._watch.executor_runs()
                if self._stopping.is_set():
                    return FAILURE
            if worker.failure is not None:
                raise worker.failure
            self._rules.apply(self._engine)
            for camera in self._cameras.values():
                camera.open(self._engine.model_id)
        except Exception as error:
            self._problem = f"cannot configure: {type(error).__name__}: {error}"
            self.get_logger().error(self._problem)
            self._tear_down()
            return FAILURE
        finally:
            self._gate.warming = False
        self._problem = ""
        engine = self._engine
        self.get_logger().info(f"configured: {engine.model_id} on {engine.device} ({engine.precision}), "
                               f"threshold {self.threshold_in_force():.4g}")
        if engine.choice is not None:
            self.get_logger().info(f"backend {engine.backend}: {engine.choice}")
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let frames in."""
        self.restart()
        result = super().on_activate(state)
        self._gate.active = result == SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Shut frames out; alerts say UNKNOWN at once."""
        self._close_gate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up the engine and the topics; alerts go on."""
        return SUCCESS if self._tear_down() else TransitionCallbackReturn.ERROR

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleanup, from any state."""
        self.autostart.cancel()
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, so that the node can be configured again."""
        return self.on_cleanup(state)

    def destroy_node(self) -> None:
        """Say UNKNOWN a last time and release everything."""
        if self._built:
            self._built = False
            self._heartbeat.stop()
            self._tear_down()
            self._jumps.unregister()
            self._watch.close()
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()   # else Fast DDS leaves shared memory behind

    def _close_gate(self) -> None:
        self._gate.active = False
        self._mailbox.clear(Drop.INACTIVE)
        for camera in self._cameras.values():
            camera.announce()

    def _tear_down(self) -> bool:
        self._close_gate()
        worker, self._worker, self._rules.engine, self._degraded = self._worker, None, None, ""
        stopped = worker is None or worker.stop(self.parameters["stall_timeout"])
        if not stopped:
            self.get_logger().warning("the worker is still busy with the engine and is left behind, but "
                                      "watched: end this process before starting another on the same device")
        for camera in self._cameras.values():
            camera.close()
        return stopped

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """rclpy's own, which on Jazzy raises where the state has no such transition, and ends the process
        (rclpy#1209): any caller of ~/change_state could. Later releases answer as this does."""
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except RCLError as error:
            self.get_logger().error(f"transition {transition_id} is not possible now: {error}")
            return TransitionCallbackReturn.ERROR

    def _start(self) -> bool:
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    # ---- what services and parameters change ----

    def enable(self, on: bool) -> None:
        """Let frames in or shut them out, as the service `~/enable` says."""
        if on and not self._gate.enabled:
            self.restart()
        self._gate.enabled = on
        if not on:
            self._mailbox.clear(Drop.DISABLED)
        for camera in self._cameras.values():
            camera.announce()

    def restart(self, fault: Reason = Reason.NONE, text: str = "") -> None:
        """Forget tracks and levels of every camera, and say so at once."""
        for camera in self._cameras.values():
            camera.restart(fault=fault, text=text)
            camera.announce()

    def reset(self) -> None:
        """As the service `~/reset` says: `restart`, and forget the durations in /diagnostics too."""
        self._pipeline.durations.clear()
        self.restart()

    def threshold_in_force(self) -> float:
        """The threshold that is used, or NaN before there is an engine and a wish."""
        wanted = self.parameters["threshold"]
        if self._engine is None:
            return math.nan if wanted == -1.0 else wanted
        return threshold(self._engine, wanted)

    @property
    def _engine(self) -> Any:
        return None if self._worker is None else self._worker.engine

    def _batching(self) -> Batching:
        size = min(self.parameters["max_batch"], len(self._cameras))
        return Batching(size, self.parameters["batch_window"])

    def _may_set(self, changes: list[Parameter]) -> SetParametersResult:
        why = self.parameters.refusal(changes, configured=self._engine is not None)
        if not why and self._engine is not None:
            try:
                rules(self._engine, self.parameters, {change.name: change.value for change in changes})
            except ValueError as error:
                why = str(error)
        return SetParametersResult(successful=not why, reason=why)

    def _have_set(self, changes: list[Parameter]) -> None:
        if self._engine is None:
            return
        self._rules.changed(self._engine, [change.name for change in changes])
        for camera in self._cameras.values():
            camera.calibration.renew()

    def _on_jump(self, jump: TimeJump) -> None:
        self.restart(Reason.TIME_JUMP, f"the clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s")

    # ---- heartbeat ----

    def _worker_reasons(self) -> Reason:
        worker = self._worker
        if worker is None or not worker.settled.is_set():
            return Reason.NONE
        if worker.rebuilding or worker.engine is not self._rules.engine:   # its rules are to come
            return Reason.WARMING_UP
        stalled = worker.busy_for() > self.parameters["stall_timeout"] or worker.dead
        return Reason.STALLED_WORKER if stalled else Reason.NONE

    def _beat(self) -> None:
        """Each duty by itself: what fails in one must not cost the others."""
        duties: list[Callable[[], Any]] = [camera.announce for camera in self._cameras.values()]
        duties += [self._overall.beat, self._diagnose, self._follow_engine, self._watch.end_if_hung,
                   self._watch.guard]
        for duty in duties:
            try:
                duty()
            except Exception as error:
                self._beat_failed(error)

    def _diagnose(self) -> None:
        self._diagnostics.tell("active" if self._gate.active else "inactive", self._problem, self._worker)

    def _follow_engine(self) -> None:
        """Memory ran out, or there is more again: another engine, perhaps on another device."""
        worker = self._worker
        if worker is None or worker.rebuilding:
            return
        if worker.degraded != self._degraded:
            self._degraded = worker.degraded
            self.get_logger().warning(f"memory: {worker.degraded or 'all runs as configured again'}")
        if self._rules.engine not in (None, worker.engine):
            self._rules.apply(worker.engine)

    def _beat_failed(self, error: Exception) -> None:
        self.get_logger().error(f"heartbeat failed: {type(error).__name__}: {error}",
                                throttle_duration_sec=5.0)
