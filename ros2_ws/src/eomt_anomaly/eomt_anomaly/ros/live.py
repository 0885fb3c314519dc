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

from ..report.recording import LEVELS, UNKNOWN, Recording
from .accounts import ReplayError, recording_of
from .bag_io import Bag, Record
from .player import Player, Sent
from .processes import Child, isolate
from .recorder import Counters, Recorder
from .start import Settings, start_detector

NODE = "eomt_anomaly_replay"
SETTLE_S = 1.5  # after the last frame's end, for the last messages and a fresh /diagnostics
RESET_S = 10.0  # for the answer of ~/reset

Play = Callable[[float, Callable[[Sent], Any]], Any]


class Live:
    """The player and a recorder for each camera; `detector` brings the other side. Made by `connect`."""

    def __init__(
        self,
        settings: Settings,
        bag: Bag,
        node: Node,
        recorders: dict[str, Recorder],
        say: Callable[[str], Any],
    ):
        """`recorders` by the camera's name, in the order of `settings.cameras`."""
        self.settings, self.bag, self.recorders = settings, bag, recorders
        self._node, self._say = node, say
        self._pictures = {camera.topic.name: camera.name for camera in settings.cameras}
        self._infos = list(dict.fromkeys(c.info.name for c in settings.cameras if c.info))
        names = [*self._pictures, *self._infos]
        remap = {camera.topic.name: camera.published_as for camera in settings.cameras}
        self.player = Player(node, bag, names, remap, stamped=names)
        self._child: Child | None = None
        self.began = 0.0  # of the last run, on time.monotonic()

    @property
    def recorder(self) -> Recorder:
        """The first camera's: what is not of a camera, each of them hears."""
        return next(iter(self.recorders.values()))

    def answers(self) -> int:
        """How many pictures were answered so far, by an alert or a refusal."""
        return sum(recorder.answers for recorder in self.recorders.values())

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
                self._child = stack.enter_context(start_detector(self.settings))
            self._wait_ready()
            yield

    def run(self, play: Play, what: str, progress: bool = True) -> dict[str, Recording]:
        """One measured run: `play(begin, on_sent)` publishes, and returns early once the player is stopped.

        Returns each camera's recording. Raises ReplayError, ChildError, or what `play` raises.
        """
        before = {name: recorder.counters for name, recorder in self.recorders.items()}
        sent: list[Sent] = []
        failure: list[BaseException] = []
        self._say(what)
        begin = self.began = time.monotonic() + 0.2

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
        pictures: dict[str, list[Sent]] = {name: [] for name in self.recorders}
        for one in sent:
            if one.record.topic in self._pictures:
                pictures[self._pictures[one.record.topic]].append(one)
        last = max((each[-1].sent_s for each in pictures.values() if each), default=None)
        if last is None:
            raise ReplayError(
                f"no picture of {', '.join(self._pictures)} was published: the bag has none after "
                "--start-offset"
            )
        after = self._drain(begin + last)
        return {
            name: recording_of(recorder, pictures[name], begin, before[name], after[name])
            for name, recorder in self.recorders.items()
        }

    def play_bag(self, begin: float, on_sent: Callable[[Sent], Any]) -> None:
        """For `run`: the bag as recorded, at the settings' rate."""
        self.player.play(self.settings.rate, self.settings.start_offset_s, on_sent, begin)

    def calibration(self) -> list[Record]:
        """The bag's first CameraInfo message beside each camera's pictures, where there is one."""
        first = (next(self.bag.records([name]), None) for name in self._infos)
        return [record for record in first if record is not None]

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
        settings, child = self.settings, self._child
        begin = told = time.monotonic()
        self._say("waiting for the detector" + ("" if child is None else f" (its log: {child.log})"))
        while True:
            self._check()
            if self.recorder.problem:
                raise ReplayError(f"the detector says: {self.recorder.problem}")
            missing = self.player.missing_subscribers()
            late = next(
                (c for c in settings.cameras if c.topic.name in missing or not self._ready(c.name)), None
            )
            if late is None:
                self._say(f"the detector is active after {time.monotonic() - begin:.1f} s")
                return
            now, recorder = time.monotonic(), self.recorders[late.name]
            if now - begin > settings.startup_s:
                state = (
                    "it publishes no alerts"
                    if not recorder.arrivals
                    else f"it does not subscribe to {late.published_as}"
                    if recorder.active
                    else "it does not become active"
                )
                raise ReplayError(
                    f"no detector {settings.detector} with camera {late.name} was ready after "
                    f"{settings.startup_s:g} s: {state}"
                    + (f"\n{child.last_words()}" if child is not None else "")
                )
            if now - told > 5.0:
                told = now
                self._say(f"  still waiting, {now - begin:.0f} s")
            time.sleep(0.05)

    def _ready(self, camera: str) -> bool:
        recorder = self.recorders[camera]
        return recorder.active and recorder.idle

    def _progress(self, sent: list[Sent], begin: float) -> None:
        published = sum(s.record.topic in self._pictures for s in list(sent))
        judged, words = 0, []
        for name, recorder in self.recorders.items():
            arrivals = list(recorder.arrivals)
            judged += sum(not a.message.heartbeat and a.received >= begin for a in arrivals)
            level = LEVELS[arrivals[-1].message.level if arrivals else UNKNOWN]
            words.append(level if len(self.recorders) == 1 else f"{name} {level}")
        self._say(
            f"  {time.monotonic() - begin:5.1f} s: {published} published, {judged} judged, "
            f"level {', '.join(words)}"
        )

    def _drain(self, last: float) -> dict[str, Counters]:
        """Wait until the detector has settled every frame; `last` is when the last picture was published."""
        end = last + self.settings.drain_s
        while True:
            counters = {name: recorder.counters for name, recorder in self.recorders.items()}
            if all(c.heard > last + SETTLE_S and not c.pending for c in counters.values()):
                return counters
            if time.monotonic() > end:
                self._say(f"the detector was still busy {self.settings.drain_s:g} s after the last picture")
                return counters
            self._check()
            time.sleep(0.05)


@contextlib.contextmanager
def connect(settings: Settings, bag: Bag, say: Callable[[str], Any] = print) -> Iterator[Live]:
    """Join the ROS graph; the recorders' pictures are there until the context is left."""
    if not settings.attach:
        isolate(settings.domain_id)
    settings.output.mkdir(parents=True, exist_ok=True)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    with contextlib.ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node, picture_node = (stack.enter_context(spinning(name)) for name in (NODE, NODE + "_pictures"))
        recorders = {}
        for camera in settings.cameras:
            recorder = Recorder(node, picture_node, settings.detector, camera.name, settings.pictures)
            recorders[camera.name] = recorder
            stack.callback(recorder.close)
        yield Live(settings, bag, node, recorders, say)


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
