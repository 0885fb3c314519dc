# SPDX-License-Identifier: MIT
"""Percentiles of durations, and the numbers of a recording that go into summary.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .recording import CAUTION, LEVELS, UNKNOWN, Frame, Recording, together

OF_ALL = ("threshold", "notes")  # of `summarize`: they belong to no single camera
PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def percentiles(values: Iterable[float | None], scale: float = 1.0) -> dict[str, float | int | None]:
    """p50, p95, p99, p999, mean, max and count; None where there are no values.

    A percentile is a value that occurred (the smallest that at least that share does not exceed), so that the
    tail of a short run is its maximum and never an interpolation below it.
    """
    sample = np.asarray([v for v in values if v is not None], np.float64) * scale
    if not sample.size:
        return dict.fromkeys((*PERCENTILES, "mean", "max")) | {"count": 0}
    picked = np.percentile(sample, list(PERCENTILES.values()), method="inverted_cdf")
    numbers = dict(zip(PERCENTILES, picked)) | {"mean": sample.mean(), "max": sample.max()}
    return {**{name: round(float(value), 3) for name, value in numbers.items()}, "count": int(sample.size)}


def summarize(recording: Recording, quality: dict | None = None) -> dict:
    """The contents of summary.json: every number of the report, units in the names."""
    recording.check()
    judged = recording.judged
    return {
        "frames_in": len(recording.frames),
        "frames_out": len(judged),
        "dropped": dict(recording.dropped),
        "loss": round(1 - len(judged) / len(recording.frames), 5) if recording.frames else 0.0,
        "fps": {"in": _rate(recording.frames, "sent_s"), "out": _rate(judged, "received_s")},
        "duration_s": round(recording.duration_s, 3),
        "latency_ms": percentiles((f.latency_s for f in judged), 1e3),
        "age_ms": percentiles((f.age_s for f in judged), 1e3),
        "node_latency_ms": percentiles((f.node_latency_s for f in judged), 1e3),
        "jitter_ms": percentiles((abs(b.latency_s - a.latency_s) for a, b in _pairs(judged)), 1e3),
        "interval_ms": percentiles((b.received_s - a.received_s for a, b in _pairs(judged)), 1e3),
        "publish_lateness_ms": percentiles((f.sent_s - f.due_s for f in recording.frames), 1e3),
        "alerts": alerts_summary(recording),
        "quality": quality,
        "threshold": recording.threshold,
        **recording.info,
        "notes": list(recording.notes),
    }


def summarize_cameras(
    recordings: Mapping[str, Recording], quality: Mapping[str, dict | None] | None = None
) -> dict[str, Any]:
    """`summarize` of a run by camera's name: of the only one, or of all together with `cameras` for each.

    Levels, alerts and quality are a camera's own: with several they stand in `cameras` alone.
    """
    quality = quality or {}
    if len(recordings) == 1:
        [(name, recording)] = recordings.items()
        return summarize(recording, quality.get(name))
    each = {}
    for name, recording in recordings.items():
        numbers = summarize(replace(recording, info={}), quality.get(name))
        each[name] = {key: value for key, value in numbers.items() if key not in OF_ALL}
    return {**summarize(together(list(recordings.values()))), "alerts": None, "cameras": each}


def alerts_summary(recording: Recording) -> dict:
    """Frames and seconds at each level, how often it changed, the tracks, and the first alert."""
    judged = recording.judged
    alerted_s = [f.received_s for f in recording.frames if f.received_s is not None and f.level >= CAUTION]
    return {
        "frames_at_level": {
            name: sum(frame.level == level for frame in judged) for level, name in enumerate(LEVELS)
        },
        "seconds_at_level": seconds_at_level(recording),
        "level_changes": max(len(level_runs(recording)) - 1, 0),
        "tracks": len({box.track_id for frame in judged for box in frame.boxes}),
        "first_alert_s": round(alerted_s[0], 3) if alerted_s else None,
    }


def level_runs(recording: Recording) -> list[tuple[float, float, int, int]]:
    """(begin s, end s, level, reasons) of each stretch; UNKNOWN until the first alert message."""
    changes: list[tuple[float, int, int]] = [(0.0, UNKNOWN, 0)]
    for change in sorted(recording.levels, key=lambda c: c.time_s):
        state = (change.level, change.reasons)
        if change.time_s <= 0:
            changes[0] = (0.0, *state)
        elif changes[-1][1:] != state and change.time_s < recording.duration_s:
            changes.append((change.time_s, *state))
    ends = [begin for begin, *_ in changes[1:]] + [recording.duration_s]
    return [(begin, end, level, reasons) for (begin, level, reasons), end in zip(changes, ends)]


def seconds_at_level(recording: Recording) -> dict[str, float]:
    """How long the alert topic said what."""
    seconds = dict.fromkeys(LEVELS, 0.0)
    for begin, end, level, _ in level_runs(recording):
        seconds[LEVELS[level]] += end - begin
    return {name: round(value, 3) for name, value in seconds.items()}


def _pairs(judged: list[Frame]) -> Iterator[tuple[Any, Any]]:
    """Each judged frame with the one before it of its camera."""
    before: dict[str, Frame] = {}
    for frame in judged:
        if frame.camera in before:
            yield before[frame.camera], frame
        before[frame.camera] = frame


def _rate(frames: list, when: str) -> float | None:
    """Frames a second between the first and the last, None for fewer than two."""
    times = sorted(getattr(frame, when) for frame in frames)
    return (
        round((len(times) - 1) / (times[-1] - times[0]), 3)
        if len(times) > 1 and times[-1] > times[0]
        else None
    )
