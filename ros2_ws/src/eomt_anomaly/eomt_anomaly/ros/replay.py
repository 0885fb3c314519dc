# SPDX-License-Identifier: MIT
"""One measured replay: a bag, as it was recorded, through a live detector in another process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..report.recording import Recording
from .accounts import ReplayError
from .bag_io import Bag
from .live import connect
from .recorder import Recorder
from .resources import Sampler
from .start import Settings


@dataclass
class Outcome:
    """`recordings` by camera; `engine` are the detector's own words on its engine, `stages` its durations
    (ms, see `Live.stages`), `sampler` what its process took; `recorder` knows its model."""

    recordings: dict[str, Recording]
    engine: dict[str, str]
    stages: dict[str, dict[str, float]]
    sampler: Sampler
    recorder: Recorder


@contextlib.contextmanager
def replay(settings: Settings, bag: Bag, say: Callable[[str], Any] = print) -> Iterator[Outcome]:
    """Run it; the pictures are there until the context is left. Every process started here is ended here.

    Raises ReplayError, ChildError or BagError.
    """
    told = ", ".join(f"{c.topic.name}: {c.topic.count} pictures" for c in settings.cameras)
    with connect(settings, bag, say) as live:
        with live.detector(), Sampler(live.pid) as sampler:
            recordings = live.run(
                live.play_bag, f"replaying {told}, {bag.duration_s:.1f} s at {settings.rate:g}x"
            )
            ran_s = max(recording.duration_s for recording in recordings.values())
            for camera in settings.cameras:
                if not recordings[camera.name].frames:
                    raise ReplayError(
                        f"no picture of {camera.topic.name} was published: the bag has none after "
                        "--start-offset"
                    )
            engine, stages = live.recorder.engine_values(), live.stages()
        sampler.keep(live.began, live.began + ran_s)
        yield Outcome(recordings, engine, stages, sampler, live.recorder)
