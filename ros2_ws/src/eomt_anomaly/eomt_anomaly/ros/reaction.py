# SPDX-License-Identifier: MIT
"""How late the alerts can be at worst, from the parameters alone. Pure; derived in docs/safety.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .qos import MISSED_BEATS

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem


def worst_case(parameters: SupportsGetItem[str, Any]) -> dict[str, float]:
    """Seconds from the first moment an obstacle can be seen, at worst, by what they lead to.

    not_clear: a message that is not CLEAR, for an obstacle in the corridor; not_clear_beside: outside it.
    lost, lost_beside: the same where the process dies meanwhile: the deadline that is missed then.

    CLEAR is never sent for a picture older than `stale_timeout`, and at least one message comes in each
    period of the heartbeat: so the next judgement comes at most `stale_timeout` and a period after a picture,
    or a message says UNKNOWN before it. A level rises when `caution_hits` (beside: `confirm_hits`) pictures
    show a region. Pictures more than `monitor.max_gap_s` apart confirm nothing, but are never CLEAR either,
    so the limits hold for every `stale_timeout`. Assumes a camera whose clock is the node's, and adds nothing
    for the transport and the scheduler.
    """
    period = 1.0 / parameters["heartbeat_rate"]
    longest = parameters["stale_timeout"] + period   # from a picture to the next judgement
    corridor, beside = (parameters[f"monitor.{name}"] * longest for name in ("caution_hits", "confirm_hits"))
    silence = (MISSED_BEATS - 1) * period            # the first missed beat is in the limit already
    return {"not_clear": corridor, "not_clear_beside": beside,
            "lost": corridor + silence, "lost_beside": beside + silence}
