# SPDX-License-Identifier: MIT
"""The books of one run: every published picture was judged, or was dropped for a reason."""

from __future__ import annotations

from functools import partial

from ..report.recording import Frame, LevelChange, Recording
from .bag_io import stamp_of
from .player import Sent
from .recorder import Arrival, Counters, Recorder, boxes


class ReplayError(RuntimeError):
    """The replay could not be measured; the text says why and what to do."""


def recording_of(
    recorder: Recorder, pictures: list[Sent], begin: float, before: Counters, after: Counters
) -> Recording:
    """One camera in one run: its `pictures` sent after `begin` (monotonic), its counters before and after.

    Raises ReplayError if the detector saw other pictures than ours.
    """
    arrived: dict[int, Arrival] = {}
    for arrival in recorder.arrivals:
        if not arrival.message.heartbeat:
            stamp = arrival.message.header.stamp
            arrived.setdefault(stamp.sec * 1_000_000_000 + stamp.nanosec, arrival)
    frames = []
    for index, sent in enumerate(pictures):
        frame = Frame(
            index, stamp_of(sent.record.data), sent.due_s, sent.sent_s, camera=recorder.camera
        )
        if sent.stamp_ns is not None and (answer := arrived.pop(sent.stamp_ns, None)) is not None:
            message = answer.message
            frame.received_s, frame.age_s = answer.received - begin, answer.age_s
            frame.node_latency_s = message.latency.sec + message.latency.nanosec / 1e9
            frame.level, frame.reasons, frame.boxes = message.level, message.reasons, boxes(message)
            frame.maps = partial(recorder.picture, stamp_ns=sent.stamp_ns)
        frames.append(frame)
    levels = [LevelChange(a.received - begin, a.message.level, a.message.reasons) for a in recorder.arrivals]
    model = recorder.model
    channels = list(model.class_colors)
    end = max(
        (max(f.sent_s, f.received_s or 0.0) for f in frames), default=0.0
    )  # what comes later is the silence after it
    return Recording(
        frames,
        levels,
        _dropped(recorder.camera, frames, before, after),
        end,
        class_names=list(model.class_names),
        class_colors=list(zip(*[iter(channels)] * 3)),
        drivable_ids=list(model.drivable_ids),
        threshold=float(model.threshold),
    )


def _dropped(camera: str, frames: list[Frame], before: Counters, after: Counters) -> dict[str, int]:
    """Where the frames without an alert went, by the detector's counters; zero counts are left out."""
    judged = sum(frame.judged for frame in frames)
    lost = {reason: count - before.dropped.get(reason, 0) for reason, count in after.dropped.items()}
    unseen = len(frames) - (after.frames_in - before.frames_in)   # the last ones, after which none came
    lost["transport"] = lost.get("transport", 0) + unseen
    lost["alert_lost"] = after.frames_out - before.frames_out - judged
    lost["unfinished"] = after.pending
    if min(unseen, *lost.values()) < 0 or judged + sum(lost.values()) != len(frames):
        raise ReplayError(
            f"camera {camera}: {len(frames)} pictures were published and {judged} alerts came, but the "
            f"detector counted {after.frames_in - before.frames_in} in and {lost} dropped: something else "
            "publishes on its topic, or it was restarted"
        )
    return {reason: count for reason, count in lost.items() if count}
