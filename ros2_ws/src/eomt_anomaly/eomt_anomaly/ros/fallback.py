# SPDX-License-Identifier: MIT
"""What to give up when memory runs out: resolution first, then the GPU. Pure policy, no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

SMALLEST_SIDE = 238       # px (17 patches of 14): below this, distant obstacles are smaller than a patch
STEP = 3 / 4              # of the short side; memory for attention falls to about a third


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

    def describe(self) -> str:
        """The settings a fallback changes, in words."""
        return f"short side {self.short_side} px on {self.device}"


def lower_rung(settings: EngineSettings, short_side: int | None) -> EngineSettings | None:
    """The next cheaper settings, or None at the bottom. `short_side`: what the engine runs at now, px.

    Exported graphs (backends other than torch) run on the CPU at one size: they have none.
    """
    if settings.backend != "torch":
        return None
    side = settings.short_side or short_side
    if side is not None and side * STEP >= SMALLEST_SIDE:
        return replace(settings, short_side=int(side * STEP))
    if settings.device != "cpu":
        return replace(settings, device="cpu")
    return None
