# SPDX-License-Identifier: MIT
"""The modes that put load on a live detector: given rates, search, overload, and what outputs cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..accounts import ReplayError
from .bench import Bench, Run, worst_loss
from .listeners import Listeners
from .search import search

MAX_LOSS = 0.01
AGE_IN_SERVICE_TIMES = 2.5
FAIR = 0.8  # of what the best served camera gets, every other one gets (or all of its own)
FREE_MS = 1.0  # outputs nobody listens to take less than this
HIGHEST_HZ = 500.0
LOWEST_HZ = 0.02


def at_rates(bench: Bench, rates: Sequence[float], seconds: float) -> tuple[Run, dict[str, Any]]:
    """The unloaded run, then each rate; the last one is the headline."""
    bench.unloaded(seconds)
    return [bench.at(hz, seconds) for hz in rates][-1], {}


def find_rate(
    bench: Bench, seconds: float, most: int, max_loss: float = MAX_LOSS
) -> tuple[Run, dict[str, Any]]:
    """The highest rate with a loss of at most `max_loss` of each camera's frames, for any reason.

    Raises ReplayError if no rate held.
    """
    bench.unloaded(seconds)
    start = min(max(bench.possible_hz(), LOWEST_HZ), HIGHEST_HZ)

    def probe(hz: float) -> tuple[bool, Run]:
        run = bench.at(hz, seconds, f"probe {hz:.3g} Hz")
        return worst_loss(run.summary) <= max_loss and run.summary["offered"], run

    found = search(probe, start, most=most, lowest=LOWEST_HZ, highest=HIGHEST_HZ)
    if found.sustained is None:
        raise ReplayError(
            f"no rate held: even at {found.failed:.3g} Hz more than {100 * max_loss:g} % of the frames of a "
            f"camera were lost ({found.probes[-1][2].summary['dropped']})"
        )
    best = next(run for hz, held, run in found.probes if held and hz == found.sustained)
    limit = next((run for hz, _, run in found.probes if hz == found.failed), None)
    by_replay = limit is not None and not limit.summary["offered"]
    result = {
        "sustained_hz": round(found.sustained, 3),
        "failed_hz": None if found.failed is None else round(found.failed, 3),
        "converged": found.converged,
        "limited_by": "nothing tried" if limit is None else "the replay" if by_replay else "the detector",
        "max_loss": max_loss,
        "probes": [
            {"hz": round(hz, 3), "held": held, "loss": worst_loss(run.summary),
             "dropped": run.summary["dropped"]}  # fmt: skip
            for hz, held, run in found.probes
        ],
    }
    bench.say(f"highest sustainable rate: {result['sustained_hz']:g} Hz, limited by {result['limited_by']}")
    return best, {"search": result}


def overload(
    bench: Bench,
    seconds: float,
    most: int,
    factor: float,
    sustained: float | None,
    max_loss: float = MAX_LOSS,
) -> tuple[Run, dict[str, Any]]:
    """`factor` times the sustainable rate, which is searched for where it is not given (Hz)."""
    extra: dict[str, Any] = {}
    if sustained is None:
        _, extra = find_rate(bench, seconds, most, max_loss)
        sustained = extra["search"]["sustained_hz"]
    else:
        bench.unloaded(seconds)
    run = bench.at(factor * sustained, seconds, f"overload {factor:g}x")
    extra["overload"] = {"factor": factor, "sustained_hz": sustained}
    extra["checks"] = checks(run.summary)
    return run, extra


def checks(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What an overloaded node must still keep: name, value, limit, met (None: not known)."""
    service, age = summary["stages_ms"].get("service", {}).get("p50"), summary["age_ms"]["p99"]
    resources = summary["resources"]
    balance = summary["frames_in"] - summary["frames_out"] - sum(summary["dropped"].values())
    times = None if not service or age is None else round(age / service, 3)
    share = fairness(summary.get("cameras", {}))
    fair = [] if share is None else [
        {"name": "judged of the worst served camera, of what the best served gets", "value": share,
         "limit": FAIR, "met": share >= FAIR}]  # fmt: skip
    return [
        {"name": "p99 age, in service times", "value": times, "limit": AGE_IN_SERVICE_TIMES,
         "met": None if times is None else times <= AGE_IN_SERVICE_TIMES},
        {"name": "frames without an account", "value": balance, "limit": 0, "met": balance == 0},
        {"name": "offered at the wanted rate", "value": summary["offered_hz"], "limit": summary["wanted_hz"],
         "met": summary["offered"]},
        {"name": "growth of memory, MB", "value": resources and resources["rss_growth_mb"],
         "limit": resources and resources["rss_growth_limit_mb"],
         "met": resources and resources["memory_flat"]},
        *fair,
    ]  # fmt: skip


def fairness(cameras: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Judged frames of the worst served camera, as a share of its own or of the best served one's.

    The fewer of the two count: a camera with few pictures has its due once all are judged (max-min fairness).
    None for fewer than two cameras, or where no frame was judged.
    """
    seen = [camera for camera in cameras.values() if camera["frames_in"]]
    best = max((camera["frames_out"] for camera in seen), default=0)
    if len(seen) < 2 or not best:
        return None
    return round(min(camera["frames_out"] / min(camera["frames_in"], best) for camera in seen), 3)


def outputs(
    bench: Bench, seconds: float, rounds: int, hz: float | None, listeners: Callable[[], Listeners]
) -> tuple[Run, dict[str, Any]]:
    """Alerts alone against every output subscribed to, in turns, at `hz` (None: half of what it can do)."""
    bench.unloaded(seconds)
    hz = hz or 0.5 * bench.possible_hz()
    alone, heard = [], []
    for index in range(rounds):
        alone.append(bench.at(hz, seconds, f"alerts alone, round {index + 1}"))
        with listeners():
            heard.append(bench.at(hz, seconds, f"every output, round {index + 1}"))
    kinds = {
        "outputs_ms": lambda s: s["stages_ms"].get("outputs", {}).get("p50"),
        "node_latency_ms": lambda s: s["node_latency_ms"]["p50"],
        "service_ms": lambda s: s["stages_ms"].get("service", {}).get("p50"),
        "cpu_ms_per_frame": lambda s: s["resources"] and s["resources"]["cpu_ms_per_frame"],
    }
    table = {kind: _pair(read, alone, heard) for kind, read in kinds.items()}
    free = table["outputs_ms"]["alone"]
    check = {"name": "outputs nobody listens to, ms a frame", "value": free, "limit": FREE_MS,
             "met": None if free is None else free < FREE_MS}  # fmt: skip
    return alone[-1], {"outputs": {"hz": round(hz, 3), "rounds": rounds, **table}, "checks": [check]}


def _pair(read: Callable[[dict], float | None], alone: list[Run], heard: list[Run]) -> dict[str, Any]:
    """Medians over the rounds, and the median of their ratios."""
    pairs = [(read(a.summary), read(b.summary)) for a, b in zip(alone, heard)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return {"alone": None, "subscribed": None, "ratio": None}
    ratios = [b / a for a, b in known if a]
    return {
        "alone": round(statistics.median(a for a, _ in known), 3),
        "subscribed": round(statistics.median(b for _, b in known), 3),
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
    }
