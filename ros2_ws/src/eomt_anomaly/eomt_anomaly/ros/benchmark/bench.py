# SPDX-License-Identifier: MIT
"""Measured runs of one live detector: evenly paced, or unloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...report.recording import Recording, together
from ...report.statistics import summarize_cameras
from ..accounts import ReplayError
from ..live import Live, Play
from ..resources import Sample, Sampler
from . import load, text

OFFERED = 0.98  # a probe counts as offered at its rate if this share of it was published
UNLOADED_ROUNDS = 50
OF_A_BAG = ("alerts", "quality", "threshold", "notes")  # of `summarize`: say nothing of a repeated bag


@dataclass
class Run:
    """One run: the numbers, and what the plots need (all cameras in one recording)."""

    summary: dict[str, Any]
    recording: Recording
    samples: list[Sample]


class Bench:
    """Feeds the pictures of a bag to a live detector that is ready. Keeps every run in `runs`."""

    def __init__(self, live: Live, rounds: Sequence[load.Round], say: Callable[[str], Any]):
        self._live, self._rounds, self.say = live, rounds, say
        self._calibration = live.calibration()
        self.runs: list[Run] = []

    def unloaded(self, seconds: float) -> Run:
        """One picture of each camera at a time, the next when the alerts on the last have come: no queue.

        At most `UNLOADED_ROUNDS` rounds and about `seconds`, at least three; three more before that do
        not count.
        """
        self._measure("warm-up", None, self._one_by_one(3, seconds))
        self.runs.clear()
        run = self._measure("unloaded", None, self._one_by_one(UNLOADED_ROUNDS, seconds))
        if "service" not in run.summary["stages_ms"]:
            raise ReplayError(
                f"no frame was judged while the detector was idle ({run.summary['dropped']}), or it does not "
                "tell its durations: see its log"
            )
        return run

    def at(self, hz: float, seconds: float, name: str = "") -> Run:
        """Pictures of each camera at an even rate for `seconds`, at least ten rounds of them."""
        count = max(round(hz * seconds), 10)

        def play(begin, on_sent):
            player = self._live.player
            player.play_timed(((0.0, record) for record in self._calibration), begin, on_sent)
            player.play_timed(load.evenly(self._rounds, hz, count), begin, on_sent)

        return self._measure(name or f"{hz:.3g} Hz", hz, play)

    def service_s(self) -> float:
        """Seconds of the worker that one frame takes when nothing else waits (median of the unloaded run)."""
        return (
            next(r for r in self.runs if r.summary["name"] == "unloaded").summary["stages_ms"]["service"][
                "p50"
            ]
            / 1e3
        )

    def possible_hz(self) -> float:
        """Rounds a second that the worker could do, one picture after the other."""
        return 1.0 / (self.service_s() * max(map(len, self._rounds)))

    def _one_by_one(self, count: int, seconds: float) -> Play:
        def play(begin, on_sent):
            player = self._live.player
            player.play_timed(((0.0, record) for record in self._calibration), begin, on_sent)
            due = load.one_by_one(self._rounds, count, seconds, begin, self._live.answers)
            player.play_timed(due, begin, on_sent)

        return play

    def _measure(self, name: str, hz: float | None, play: Play) -> Run:
        self._live.reset()
        with Sampler(self._live.pid) as sampler:
            recordings = self._live.run(play, f"{name}: publishing", progress=False)
        recording = together(list(recordings.values()))
        sampler.keep(self._live.began, self._live.began + recording.duration_s)
        resources = sampler.summary(len(recording.judged))
        summary = summary_of(recordings, name, hz, self._live.stages(), resources)
        self.say("  " + text.line(summary))
        self.runs.append(Run(summary, recording, sampler.samples))
        return self.runs[-1]


def summary_of(
    recordings: Mapping[str, Recording],
    name: str,
    hz: float | None,
    stages: dict[str, Any],
    resources: dict[str, Any] | None,
) -> dict[str, Any]:
    """The numbers of one run, with `cameras` of each where there are several.

    `offered_hz` is the rate at which the pictures due at `hz` were published; `offered`: was it that?
    """
    numbers = _without_bag(summarize_cameras(recordings))
    if "cameras" in numbers:
        numbers["cameras"] = {camera: _without_bag(of) for camera, of in numbers["cameras"].items()}
    published = None if hz is None else _published_hz(together(list(recordings.values())), hz)
    return {
        "name": name,
        "wanted_hz": hz,
        "offered_hz": published,
        "offered": hz is None or published is None or published >= OFFERED * hz,
        **numbers,
        "stages_ms": stages,
        "resources": resources,
    }


def worst_loss(summary: Mapping[str, Any]) -> float:
    """The share of its frames that the camera lost which lost most."""
    return max((camera["loss"] for camera in summary.get("cameras", {}).values()), default=summary["loss"])


def _published_hz(recording: Recording, hz: float) -> float | None:
    """`hz` times how much of the pace was kept; None for fewer than two moments."""
    first, last = recording.frames[0], recording.frames[-1]
    took = last.sent_s - first.sent_s
    return round(hz * (last.due_s - first.due_s) / took, 3) if took > 0 else None


def _without_bag(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in numbers.items() if key not in OF_A_BAG}
