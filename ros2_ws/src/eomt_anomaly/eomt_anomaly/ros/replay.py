# SPDX-License-Identifier: MIT
"""One measured replay: a bag, as it was recorded, through a live detector in another process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..report.recording import Recording
from .bag_io import Bag, Topic
from .live import connect
from .recorder import Recorder
from .resources import Sampler
from .start import Settings


@dataclass
class Outcome:
    """`engine` are the detector's own words on its engine, `stages` its durations (ms, see `Live.stages`),
    `sampler` what its process took; `recorder` holds the pictures."""

    recording: Recording
    engine: dict[str, str]
    stages: dict[str, dict[str, float]]
    sampler: Sampler
    recorder: Recorder


@contextlib.contextmanager
def replay(
    settings: Settings, bag: Bag, topic: Topic, say: Callable[[str], Any] = print
) -> Iterator[Outcome]:
    """Run it; the pictures are there until the context is left. Every process started here is ended here.

    Raises ReplayError, ChildError or BagError.
    """
    with connect(settings, bag, topic, say) as live:
        with live.detector(), Sampler(live.pid) as sampler:
            recording = live.run(
                live.play_bag,
                f"replaying {topic.name}: {topic.count} pictures, {bag.duration_s:.1f} s "
                f"at {settings.rate:g}x",
            )
            engine, stages = live.recorder.engine_values(), live.stages()
        yield Outcome(recording, engine, stages, sampler, live.recorder)
