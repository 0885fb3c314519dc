# SPDX-License-Identifier: MIT
"""One measured replay: a bag through a live detector in another process, every frame accounted for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ..report.recording import Frame, LevelChange, Recording
from .bag_io import COMPRESSED, RAW, Bag, Topic, stamp_of
from .player import Player, Sent
from .processes import Child, isolate, write_parameters
from .recorder import Counters, Recorder, boxes

NODE = "eomt_anomaly_replay"
SETTLE_S = 1.5  # after the last frame's end, for the last messages and a fresh /diagnostics


class ReplayError(RuntimeError):
    """The replay could not be measured; the text says why and what to do."""


@dataclass
class Settings:
    """What to replay and how. `parameters` go to the detector; `pictures` are recorded beside the alerts."""

    bag: Path
    output: Path  # folder for the detector's log and parameters
    topic: str | None = None
    rate: float = 1.0
    start_offset_s: float = 0.0
    camera: str = "front"
    parameters: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    attach: bool = False  # to a running detector, in the ROS domain of the environment
    detector: str = "/detector"
    startup_s: float = 180.0
    drain_s: float = 60.0
    domain_id: int | None = None
    module: str = "eomt_anomaly.ros.detector"  # what is started


@dataclass
class Outcome:
    """`engine` are the detector's own words on its engine; `recorder` holds the pictures."""

    recording: Recording
    engine: dict[str, str]
    recorder: Recorder


@contextlib.contextmanager
def replay(
    settings: Settings, bag: Bag, topic: Topic, say: Callable[[str], Any] = print
) -> Iterator[Outcome]:
    """Run it; the pictures are there until the context is left. Every process started here is ended here.

    Raises ReplayError, ChildError or BagError.
    """
    if not settings.attach:
        isolate(settings.domain_id)
    settings.output.mkdir(parents=True, exist_ok=True)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node, picture_node = (
            stack.enter_context(_spinning(name, stop)) for name in (NODE, NODE + "_pictures")
        )
        recorder = Recorder(node, picture_node, settings.detector, settings.camera, settings.pictures)
        stack.callback(recorder.close)
        with contextlib.nullcontext() if settings.attach else _start(settings, bag, topic) as child:
            recording = _measure(settings, bag, topic, node, recorder, child, say)
            engine = recorder.engine_values()
        yield Outcome(recording, engine, recorder)


@contextlib.contextmanager
def _spinning(name: str, stop: threading.Event) -> Iterator[Node]:
    """A node that is spun in a thread of its own."""
    node = rclpy.create_node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

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


def published_as(topic: Topic) -> str:
    """The name under which the pictures are replayed: compressed ones need /compressed at its end."""
    return (
        topic.name + "/compressed"
        if topic.msgtype == COMPRESSED and not topic.name.endswith("/compressed")
        else topic.name
    )


def _start(settings: Settings, bag: Bag, topic: Topic) -> Child:
    camera = settings.camera
    info = bag.camera_info_of(topic.name)
    parameters = {
        "cameras": [camera],
        f"{camera}.image_topic": published_as(topic),
        f"{camera}.transport": "raw" if topic.msgtype == RAW else "compressed",
        **({f"{camera}.camera_info_topic": info.name} if info else {}),
        **settings.parameters,
    }
    file = settings.output / "detector.yaml"
    write_parameters(file, parameters)
    name = settings.detector.rpartition("/")
    return Child(
        settings.module,
        [
            "--ros-args",
            "-r",
            f"__node:={name[2]}",
            "-r",
            f"__ns:={name[0] or '/'}",
            "--params-file",
            str(file),
        ],
        settings.output / "detector.log",
    )


def _measure(
    settings: Settings,
    bag: Bag,
    topic: Topic,
    node: Node,
    recorder: Recorder,
    child: Child | None,
    say: Callable[[str], Any],
) -> Recording:
    info = bag.camera_info_of(topic.name)
    names = [topic.name] + ([info.name] if info else [])
    player = Player(node, bag, names, {topic.name: published_as(topic)}, stamped=names)
    _wait_ready(settings, recorder, player, topic.name, child, say)
    before = recorder.counters
    sent: list[Sent] = []
    say(f"replaying {topic.name}: {topic.count} pictures, {bag.duration_s:.1f} s at {settings.rate:g}x")
    begin = time.monotonic() + 0.2
    failure: list[BaseException] = []
    thread = threading.Thread(target=_play, args=(player, settings, sent, begin, failure), daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(1.0)
            if child is not None:
                child.check()
            _progress(recorder, [s for s in sent if s.record.topic == topic.name], begin, say)
    finally:
        player.stopped.set()
        thread.join()
    if failure:
        raise failure[0]
    pictures = [s for s in sent if s.record.topic == topic.name]
    if not pictures:
        raise ReplayError(f"no picture of {topic.name} was published: the bag has none after --start-offset")
    after = _drain(settings, recorder, begin + pictures[-1].sent_s, child, say)
    return _recording(recorder, pictures, begin, before, after)


def _play(
    player: Player, settings: Settings, sent: list[Sent], begin: float, failure: list[BaseException]
) -> None:
    try:
        player.play(settings.rate, settings.start_offset_s, sent.append, begin)
    except Exception as error:
        failure.append(error)


def _wait_ready(
    settings: Settings,
    recorder: Recorder,
    player: Player,
    topic: str,
    child: Child | None,
    say: Callable[[str], Any],
) -> None:
    begin = told = time.monotonic()
    say("waiting for the detector" + ("" if child is None else f" (its log: {child.log})"))
    while True:
        if child is not None:
            child.check()
        if recorder.problem:
            raise ReplayError(f"the detector says: {recorder.problem}")
        quiet = recorder.counters is not None and not recorder.counters.pending
        if recorder.active and quiet and topic not in player.missing_subscribers():
            say(f"the detector is active after {time.monotonic() - begin:.1f} s")
            return
        now = time.monotonic()
        if now - begin > settings.startup_s:
            state = (
                "it publishes no alerts"
                if not recorder.arrivals
                else f"it does not subscribe to {topic}"
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
            say(f"  still waiting, {now - begin:.0f} s")
        time.sleep(0.05)


def _progress(recorder: Recorder, pictures: list[Sent], begin: float, say: Callable[[str], Any]) -> None:
    judged = sum(not a.message.heartbeat and a.received >= begin for a in list(recorder.arrivals))
    level = recorder.arrivals[-1].message.level if recorder.arrivals else 0
    word = ("UNKNOWN", "CLEAR", "CAUTION", "STOP")[level]
    say(f"  {time.monotonic() - begin:5.1f} s: {len(pictures)} published, {judged} judged, level {word}")


def _drain(
    settings: Settings, recorder: Recorder, last: float, child: Child | None, say: Callable[[str], Any]
) -> Counters:
    """Wait until the detector has settled every frame; `last` is when the last picture was published."""
    end = last + settings.drain_s
    while True:
        counters = recorder.counters
        if counters.heard > last + SETTLE_S and not counters.pending:
            return counters
        if time.monotonic() > end:
            say(f"the detector was still busy {settings.drain_s:g} s after the last picture")
            return counters
        if child is not None:
            child.check()
        time.sleep(0.05)


def _recording(
    recorder: Recorder, pictures: list[Sent], begin: float, before: Counters, after: Counters
) -> Recording:
    arrived = {}
    for arrival in recorder.arrivals:
        if not arrival.message.heartbeat:
            stamp = arrival.message.header.stamp
            arrived.setdefault(stamp.sec * 1_000_000_000 + stamp.nanosec, arrival)
    frames = []
    for index, sent in enumerate(pictures):
        frame = Frame(index, stamp_of(sent.record.data), sent.due_s, sent.sent_s)
        if (arrival := arrived.get(sent.stamp_ns)) is not None:
            message = arrival.message
            frame.received_s, frame.age_s = arrival.received - begin, arrival.age_s
            frame.node_latency_s = message.latency.sec + message.latency.nanosec / 1e9
            frame.level, frame.reasons, frame.boxes = message.level, message.reasons, boxes(message)
            frame.maps = lambda name, stamp=sent.stamp_ns: recorder.picture(name, stamp)
        frames.append(frame)
    levels = [LevelChange(a.received - begin, a.message.level, a.message.reasons) for a in recorder.arrivals]
    model = recorder.model
    channels = list(model.class_colors)
    end = max(
        frames[-1].sent_s, *(f.received_s or 0.0 for f in frames)
    )  # what comes later is the silence after it
    return Recording(
        frames,
        levels,
        _dropped(frames, before, after),
        end,
        class_names=list(model.class_names),
        class_colors=list(zip(*[iter(channels)] * 3)),
        drivable_ids=list(model.drivable_ids),
        threshold=float(model.threshold),
    )


def _dropped(frames: list[Frame], before: Counters, after: Counters) -> dict[str, int]:
    """Where the frames without an alert went, by the detector's counters; zero counts are left out.

    Raises ReplayError if the detector saw other pictures than ours.
    """
    judged = sum(frame.judged for frame in frames)
    lost = {reason: count - before.dropped.get(reason, 0) for reason, count in after.dropped.items()}
    lost["transport"] = len(frames) - (after.frames_in - before.frames_in)
    lost["alert_lost"] = after.frames_out - before.frames_out - judged
    lost["unfinished"] = after.pending
    if min(lost.values()) < 0 or judged + sum(lost.values()) != len(frames):
        raise ReplayError(
            f"{len(frames)} pictures were published and {judged} alerts came, but the detector counted "
            f"{after.frames_in - before.frames_in} in and {lost} dropped: something else publishes on "
            "its topic, or it was restarted"
        )
    return {reason: count for reason, count in lost.items() if count}
