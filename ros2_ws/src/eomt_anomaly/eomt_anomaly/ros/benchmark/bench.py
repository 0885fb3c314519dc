# SPDX-License-Identifier: MIT
"""Measured runs of one live detector: evenly paced, or unloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...report.recording import Recording
from ...report.statistics import summarize
from ..accounts import ReplayError
from ..bag_io import Record
from ..live import Live, Play
from ..resources import Sample, Sampler
from . import load, text

OFFERED = 0.98  # a probe counts as offered at its rate if this share of it was published
UNLOADED_FRAMES = 50
OF_A_BAG = ("alerts", "quality", "threshold", "notes")  # of `summarize`: say nothing of a repeated bag


@dataclass
class Run:
    """One run: the numbers, and what the plots need."""

    summary: dict[str, Any]
    recording: Recording
    samples: list[Sample]


class Bench:
    """Feeds the pictures of a bag to a live detector that is ready. Keeps every run in `runs`."""

    def __init__(self, live: Live, records: Sequence[Record], say: Callable[[str], Any]):
        self._live, self._records, self.say = live, records, say
        self._calibration = live.calibration()
        self.runs: list[Run] = []

    def _answers(self) -> int:
        return self._live.recorder.answers

    def unloaded(self, seconds: float) -> Run:
        """One picture at a time, the next when the alert on the last has come: no queue, no drops.

        At most `UNLOADED_FRAMES` pictures and about `seconds`, at least three; three more before that do
        not count.
        """
        self._measure("warm-up", None, self._one_by_one(3, seconds))
        self.runs.clear()
        run = self._measure("unloaded", None, self._one_by_one(UNLOADED_FRAMES, seconds))
        if "service" not in run.summary["stages_ms"]:
            raise ReplayError(
                f"no frame was judged while the detector was idle ({run.summary['dropped']}), or it does not "
                "tell its durations: see its log"
            )
        return run

    def at(self, hz: float, seconds: float, name: str = "") -> Run:
        """Pictures at an even rate for `seconds`, at least ten of them."""
        count = max(round(hz * seconds), 10)

        def play(begin, on_sent):
            player = self._live.player
            player.play_timed(((0.0, record) for record in self._calibration), begin, on_sent)
            player.play_timed(load.evenly(self._records, hz, count), begin, on_sent)

        return self._measure(name or f"{hz:.3g} Hz", hz, play)

    def service_s(self) -> float:
        """Seconds of the worker that one frame takes when nothing else waits (median of the unloaded run)."""
        return (
            next(r for r in self.runs if r.summary["name"] == "unloaded").summary["stages_ms"]["service"][
                "p50"
            ]
            / 1e3
        )

    def _one_by_one(self, count: int, seconds: float) -> Play:
        def play(begin, on_sent):
            player = self._live.player
            player.play_timed(((0.0, record) for record in self._calibration), begin, on_sent)
            due = load.one_by_one(self._records, count, seconds, begin, self._answers)
            player.play_timed(due, begin, on_sent)

        return play

    def _measure(self, name: str, hz: float | None, play: Play) -> Run:
        self._live.reset()
        with Sampler(self._live.pid) as sampler:
            recording = self._live.run(play, f"{name}: publishing", progress=False)
        summary = summary_of(recording, name, hz, self._live.stages(), sampler.summary(len(recording.judged)))
        self.say("  " + text.line(summary))
        self.runs.append(Run(summary, recording, sampler.samples))
        return self.runs[-1]


def summary_of(
    recording: Recording,
    name: str,
    hz: float | None,
    stages: dict[str, Any],
    resources: dict[str, Any] | None,
) -> dict[str, Any]:
    """The numbers of one run; `offered`: were the pictures published at the wanted rate?"""
    numbers = {key: value for key, value in summarize(recording).items() if key not in OF_A_BAG}
    published = numbers["fps"]["in"]
    return {
        "name": name,
        "wanted_hz": hz,
        "offered": hz is None or published is None or published >= OFFERED * hz,
        "loss": round(1 - numbers["frames_out"] / numbers["frames_in"], 5),
        **numbers,
        "stages_ms": stages,
        "resources": resources,
    }
