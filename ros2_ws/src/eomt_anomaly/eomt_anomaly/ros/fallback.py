# SPDX-License-Identifier: MIT
"""What to give up when memory runs out, and when to try for more again. Pure policy, no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem

SMALLEST_SIDE = 238       # px (17 patches of 14): below this, distant obstacles are smaller than a patch
STEP = 3 / 4              # of the short side; memory for attention falls to about a third
LONGEST_S = 3600.0        # between tries for more, however often they have failed


@dataclass(frozen=True)
class EngineSettings:
    """How to build the engine (see `runtime.Engine`); empty and None leave the choice to it."""

    checkpoint: str
    backbone: str = ""
    device: str = "auto"
    precision: str = "auto"
    backend: str = "torch"
    short_side: int | None = None
    threads: int | None = None
    compile: bool = False
    cuda_graphs: bool = True
    gpu_jpeg: bool = False
    shapes: tuple[tuple[int, int], ...] = ()    # (height, width) of the pictures to come, as far as known

    @classmethod
    def chosen(cls, values: SupportsGetItem[str, Any],
               shapes: Sequence[tuple[int, int]] = ()) -> EngineSettings:
        """Those of the node's parameters; a number of 0 leaves the choice to the engine."""
        given = {field.name: values[field.name] for field in fields(cls) if field.name != "shapes"}
        given["shapes"] = tuple(shapes)
        return cls(**given | {name: given[name] or None for name in ("short_side", "threads")})

    def describe(self) -> str:
        """The settings a fallback changes, in words."""
        where = "" if self.device == "auto" else f" on {self.device}"   # auto: where it was before
        return f"short side {self.short_side} px{where}"


def lower_rung(settings: EngineSettings, short_side: int | None) -> EngineSettings | None:
    """The next cheaper settings, or None at the bottom. `short_side`: what the engine runs at now, px.

    Exported graphs (backends other than torch) run on the CPU at one size: they have none. What was chosen
    by measurement goes on in torch.
    """
    if settings.backend == "auto":
        settings = replace(settings, backend="torch")
    if settings.backend != "torch":
        return None
    side = settings.short_side or short_side
    if side is not None and side * STEP >= SMALLEST_SIDE:
        return replace(settings, short_side=int(side * STEP))
    if settings.device != "cpu":
        precision = "auto" if settings.precision == "fp16" else settings.precision  # no CPU has fp16
        return replace(settings, device="cpu", precision=precision)
    return None


@dataclass(frozen=True)
class Rung:
    """Settings of the engine, and whether it gets one image a pass."""

    settings: EngineSettings
    single: bool = False


class Ladder:
    """Where the engine stands, what was given up for it, and when to try for more. One thread calls it.

    A try is due after `retry_s` seconds in which memory did not run out; the wait doubles, up to `LONGEST_S`,
    whenever a try fails or memory runs out after it. 0: never.
    """

    def __init__(self, settings: EngineSettings, retry_s: float, clock: Callable[[], float] = time.monotonic):
        self._rungs = [Rung(settings)]   # best first, the last one is in force
        self._wait, self._clock = retry_s, clock
        self._since, self._tried = 0.0, False
        self._why = ""                   # the last try failed

    @property
    def rung(self) -> Rung:
        """What is in force."""
        return self._rungs[-1]

    def describe(self) -> str:
        """What was given up, in words; "" for nothing."""
        best, rung = self._rungs[0], self.rung
        parts = ["one image a pass"] * rung.single
        parts += [rung.settings.describe()] * (rung.settings != best.settings)
        why = f"; the last try for more failed: {self._why}" if self._why else ""
        return f"{', '.join(parts)} (out of memory{why})" if parts else ""

    def ran_out(self) -> None:
        """Memory ran out: the wait begins anew, and is longer if this came of a try."""
        if self._tried:
            self._wait, self._tried = min(2 * self._wait, LONGEST_S), False
        self._since = self._clock()

    def down(self, rung: Rung) -> None:
        """Go down to `rung`."""
        self._rungs.append(rung)

    def fell_back(self, left: Rung, why: str) -> None:
        """The try failed: what was in force before it is so again, and the wait is longer."""
        self.ran_out()
        self.down(left)
        self._why = why

    def due(self) -> bool:
        """Whether to try for more now."""
        return len(self._rungs) > 1 and 0 < self._wait <= self._clock() - self._since

    def up(self) -> Rung:
        """Go up by one; returns what was in force."""
        self._tried, self._since, self._why = True, self._clock(), ""
        return self._rungs.pop()
