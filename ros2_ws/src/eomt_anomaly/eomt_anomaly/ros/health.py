# SPDX-License-Identifier: MIT
"""What one camera's level is worth right now: the last judgement, or UNKNOWN and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..alerts import Level, Reason


@dataclass(frozen=True)
class Verdict:
    """Level and reasons as they may be published."""

    level: Level
    reasons: Reason


class Health:
    """Times are monotonic seconds; ages are seconds since the image's stamp.

    A judgement stands until its frame is older than `stale_timeout`, the camera falls silent for that long,
    or a fault comes after it. Faults (bad messages, errors, a time jump) last until a frame is judged.
    """

    def __init__(self):
        self.reset()

    def reset(self, fault: Reason = Reason.NONE, text: str = "") -> None:
        """Forget all input and judgements."""
        self.arrived: float | None = None       # when the last message came, good or bad
        self.judged: float | None = None        # when the last judgement was made
        self._seen: float = 0.0                 # the moment the judged frame shows, on the monotonic clock
        self._verdict = Verdict(Level.UNKNOWN, Reason.NONE)
        self.fault, self.text = fault, text

    def arrival(self, now: float) -> None:
        """A message came."""
        self.arrived = now

    def failed(self, reason: Reason, text: str) -> None:
        """A frame could not be judged."""
        self.fault |= reason
        self.text = text

    def judgement(self, now: float, age: float, level: Level, reasons: Reason,
                  meanwhile: Reason = Reason.NONE) -> None:
        """A frame that is `age` seconds old at `now` was judged. Faults that came `meanwhile` stand.

        A negative age, of a camera whose clock runs ahead, counts as none: it must not lengthen a limit.
        """
        self.judged, self._seen = now, now - max(age, 0.0)
        self._verdict = Verdict(level, reasons)
        self.fault = meanwhile
        if not meanwhile:
            self.text = ""

    def input_age(self, now: float) -> float | None:
        """Age of the last judged frame, or None."""
        return None if self.judged is None else now - self._seen

    def verdict(self, now: float, stale_timeout: float, gate: Reason = Reason.NONE) -> Verdict:
        """The level now. `gate` holds reasons outside the camera: inactive, disabled, a stalled worker."""
        why = gate
        if not gate & (Reason.INACTIVE | Reason.DISABLED):
            why |= self.fault
            if self.arrived is None:
                why |= Reason.NO_INPUT
            elif now - self.arrived > stale_timeout:
                why |= Reason.STALE_INPUT
            if self.judged is not None and now - self._seen > stale_timeout:
                why |= Reason.STALE_INPUT
            if not why and self.judged is None:
                why = Reason.WARMING_UP
        return Verdict(Level.UNKNOWN, why) if why else self._verdict
