# SPDX-License-Identifier: MIT
"""A live detector in another process, fed from a bag and listened to; every frame is accounted for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from ..report.recording import Recording
from .accounts import ReplayError, recording_of
from .bag_io import Bag, Record, Topic
from .player import Player, Sent
from .processes import Child, isolate
from .recorder import Counters, Recorder
from .start import Settings, published_as, start_detector

NODE = "eomt_anomaly_replay"
SETTLE_S = 1.5  # after the last frame's end, for the last messages and a fresh /diagnostics
RESET_S = 10.0  # for the answer of ~/reset

Play = Callable[[float, Callable[[Sent], Any]], Any]


class Live:
    """The player's and the recorder's side; `detector` brings the other one. Made by `connect`."""

    def __init__(
        self,
        settings: Settings,
        bag: Bag,
        topic: Topic,
        node: Node,
        recorder: Recorder,
        say: Callable[[str], Any],
    ):
        self.settings, self.bag, self.topic, self.recorder = settings, bag, topic, recorder
        self._node, self._say = node, say
        self._info = bag.camera_info_of(topic.name)
        names = [topic.name] + ([self._info.name] if self._info else [])
        self.player = Player(node, bag, names, {topic.name: published_as(topic)}, stamped=names)
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the detector that was started here; None when attached to another one."""
        return None if self._child is None else self._child.process.pid

    @contextlib.contextmanager
    def detector(self) -> Iterator[None]:
        """Start the detector, or find the running one, and wait until it is ready.

        Raises ReplayError or ChildError.
        """
        with contextlib.ExitStack() as stack:
            if not self.settings.attach:
                child = start_detector(self.settings, self.topic, self._info)
                self._child = stack.enter_context(child)
            self._wait_ready()
            yield

    def run(self, play: Play, what: str, progress: bool = True) -> Recording:
        """One measured run: `play(begin, on_sent)` publishes, and returns early once the player is stopped.

        Raises ReplayError, ChildError, or what `play` raises.
        """
        before = self.recorder.counters
        sent: list[Sent] = []
        failure: list[BaseException] = []
        self._say(what)
        begin = time.monotonic() + 0.2

        def work() -> None:
            try:
                play(begin, sent.append)
            except Exception as error:
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(1.0)
                self._check()
                if progress:
                    self._progress(sent, begin)
        except BaseException:
            self.player.stopped.set()
            raise
        finally:
            thread.join()
        if failure:
            raise failure[0]
        pictures = [s for s in sent if s.record.topic == self.topic.name]
        if not pictures:
            raise ReplayError(
                f"no picture of {self.topic.name} was published: the bag has none after --start-offset"
            )
        after = self._drain(begin + pictures[-1].sent_s)
        return recording_of(self.recorder, pictures, begin, before, after)

    def play_bag(self, begin: float, on_sent: Callable[[Sent], Any]) -> None:
        """For `run`: the bag as recorded, at the settings' rate."""
        self.player.play(self.settings.rate, self.settings.start_offset_s, on_sent, begin)

    def calibration(self) -> list[Record]:
        """The bag's first CameraInfo message beside the pictures, if there is one."""
        records = self.bag.records([self._info.name]) if self._info else iter(())
        return [record for record in [next(records, None)] if record is not None]

    def reset(self) -> None:
        """Let the detector forget tracks, levels and durations. Raises ReplayError if it does not answer."""
        client: Any = self._node.create_client(Trigger, f"{self.settings.detector}/reset")
        try:
            if not client.wait_for_service(RESET_S):
                raise ReplayError(f"{self.settings.detector} has no service ~/reset: is it another version?")
            answered = threading.Event()
            client.call_async(Trigger.Request()).add_done_callback(lambda _: answered.set())
            if not answered.wait(RESET_S):
                raise ReplayError(f"{self.settings.detector} did not answer ~/reset within {RESET_S:g} s")
        finally:
            self._node.destroy_client(client)

    def stages(self) -> dict[str, dict[str, float]]:
        """What the detector last said of its durations: kind → {"p50", "p95", "p99"} in ms."""
        found: dict[str, dict[str, float]] = {}
        for key, value in self.recorder.engine_values().items():
            kind, mark, name = key.rpartition("_ms_")
            if mark:
                found.setdefault(kind, {})[name] = float(value)
        return found

    def _check(self) -> None:
        if self._child is not None:
            self._child.check()

    def _wait_ready(self) -> None:
        settings, recorder, child = self.settings, self.recorder, self._child
        begin = told = time.monotonic()
        self._say("waiting for the detector" + ("" if child is None else f" (its log: {child.log})"))
        while True:
            self._check()
            if recorder.problem:
                raise ReplayError(f"the detector says: {recorder.problem}")
            heard = self.topic.name not in self.player.missing_subscribers()
            if recorder.active and recorder.idle and heard:
                self._say(f"the detector is active after {time.monotonic() - begin:.1f} s")
                return
            now = time.monotonic()
            if now - begin > settings.startup_s:
                state = (
                    "it publishes no alerts"
                    if not recorder.arrivals
                    else f"it does not subscribe to {self.topic.name}"
                    if recorder.active
                    else "it does not become active"
                )
                raise ReplayError(
                    f"no detector {settings.detector} with camera {settings.camera} was ready after "
                    f"{settings.startup_s:g} s: {state}"
                    + (f"\n{child.last_words()}" if child is not None else "")
                )
            if now - told > 5.0:
                told = now
                self._say(f"  still waiting, {now - begin:.0f} s")
            time.sleep(0.05)

    def _progress(self, sent: list[Sent], begin: float) -> None:
        arrivals = list(self.recorder.arrivals)
        published = sum(s.record.topic == self.topic.name for s in list(sent))
        judged = sum(not a.message.heartbeat and a.received >= begin for a in arrivals)
        level = arrivals[-1].message.level if arrivals else 0
        word = ("UNKNOWN", "CLEAR", "CAUTION", "STOP")[level]
        self._say(
            f"  {time.monotonic() - begin:5.1f} s: {published} published, {judged} judged, level {word}"
        )

    def _drain(self, last: float) -> Counters:
        """Wait until the detector has settled every frame; `last` is when the last picture was published."""
        end = last + self.settings.drain_s
        while True:
            counters = self.recorder.counters
            if counters.heard > last + SETTLE_S and not counters.pending:
                return counters
            if time.monotonic() > end:
                self._say(f"the detector was still busy {self.settings.drain_s:g} s after the last picture")
                return counters
            self._check()
            time.sleep(0.05)


@contextlib.contextmanager
def connect(settings: Settings, bag: Bag, topic: Topic, say: Callable[[str], Any] = print) -> Iterator[Live]:
    """Join the ROS graph; the recorder's pictures are there until the context is left."""
    if not settings.attach:
        isolate(settings.domain_id)
    settings.output.mkdir(parents=True, exist_ok=True)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    with contextlib.ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node, picture_node = (stack.enter_context(spinning(name)) for name in (NODE, NODE + "_pictures"))
        recorder = Recorder(node, picture_node, settings.detector, settings.camera, settings.pictures)
        stack.callback(recorder.close)
        yield Live(settings, bag, topic, node, recorder, say)


@contextlib.contextmanager
def spinning(name: str) -> Iterator[Node]:
    """A node that is spun in a thread of its own."""
    node = rclpy.create_node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, name=name, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        stop.set()
        thread.join()
        executor.remove_node(node)
        node.destroy_node()
