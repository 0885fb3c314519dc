# SPDX-License-Identifier: MIT
"""Two measurements side by side, as ratios. Pure: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

TIMES = ("latency_ms", "age_ms", "node_latency_ms", "jitter_ms")
KEYS = ("p50", "p95", "p99", "p999")
NUMBERS = {
    "fps.out": "frames judged a second",
    "loss": "share of the frames that were dropped",
    "search.sustained_hz": "highest sustainable rate, Hz",
    "resources.cpu_ms_per_frame": "CPU time a frame, ms",
    "resources.rss_mb.max": "resident memory, MB",
    "resources.gpu_memory_mb": "GPU memory, MB",
}
SAME = (
    "mode",
    "bag_sha256",
    "topic",
    "camera",
    "device",
    "precision",
    "wanted_hz",
    "rate",
    "seconds",
    "checkpoint_sha256",
    "degraded",
    "parameters",
    "subscribed",
    "host",
    "versions",
)
RESAMPLES = 2000


class NotComparable(ValueError):
    """The two do not belong beside each other; the text says why."""


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Two summaries: `rows` of {name, a, b, ratio = b / a}, medians first, and `differs`: {name: [a, b]}.

    Rows are there for what both have. Raises NotComparable for two modes, or where nothing is in both.
    """
    if a.get("mode") != b.get("mode"):
        raise NotComparable(f"one was measured with --mode {a.get('mode')}, the other with {b.get('mode')}")
    rows = []
    names = dict.fromkeys([*_leaves(a), *_leaves(b)])
    for name in sorted(names, key=lambda n: KEYS.index(n.rpartition(".")[2]) if _is_time(n) else len(KEYS)):
        left, right = _at(a, name), _at(b, name)
        if left is not None and right is not None:
            rows.append(
                {"name": name, "a": left, "b": right, "ratio": round(right / left, 4) if left else None}
            )
    if not rows:
        raise NotComparable("the two files have no number in common: are they summaries of bag_benchmark?")
    of_a, of_b = dict(_about(a)), dict(_about(b))
    differs = {n: [of_a.get(n), of_b.get(n)] for n in of_a | of_b if of_a.get(n) != of_b.get(n)}
    return {"rows": rows, "differs": differs}


def paired(a: Mapping[int, float], b: Mapping[int, float], seed: int = 0) -> dict[str, Any]:
    """Times of the same frames by two contestants, frame → s: the median of b / a over the frames of both.

    `interval` is a 95 % percentile bootstrap over `RESAMPLES` resamples of the frames (Efron 1979). None: no
    frame in both.
    """
    common = sorted(a.keys() & b.keys())
    if not common:
        return {"frames": 0, "median_ratio": None, "interval": None}
    ratios = np.array([b[i] / a[i] for i in common])
    draws = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))  # [R, frames]
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return {
        "frames": len(common),
        "median_ratio": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def lines(found: Mapping[str, Any], names: tuple[str, str] = ("a", "b")) -> str:
    """A comparison as text."""
    text = [f"{'':34}{names[0][-16:]:>17}{names[1][-16:]:>17}{'b / a':>9}"]
    for row in found["rows"]:
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3f}"
        text.append(f"{row['name']:34}{row['a']:>17.6g}{row['b']:>17.6g}{ratio:>9}")
    for name, (left, right) in found.get("differs", {}).items():
        text.append(f"differs: {name}: {_short(left)} and {_short(right)}")
    return "\n".join(text)


def _about(summary: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What was measured and how: (name, value); parameters, versions and the host's one by one."""
    for name in SAME:
        value = summary.get(name)
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", one) for key, one in value.items())
        else:
            yield name, value


def _leaves(summary: Mapping[str, Any]) -> Iterator[str]:
    for group in TIMES:
        for key in KEYS:
            yield f"{group}.{key}"
    for stage in summary.get("stages_ms") or {}:
        yield f"stages_ms.{stage}.p50"
        yield f"stages_ms.{stage}.p99"
    for camera in summary.get("cameras") or {}:
        for number in ("latency_ms.p50", "latency_ms.p99", "age_ms.p99", "loss"):
            yield f"cameras.{camera}.{number}"
    yield from NUMBERS


def _is_time(name: str) -> bool:
    return name.rpartition(".")[2] in KEYS


def _at(summary: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path, or None."""
    here: Any = summary
    for part in path.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return None
        here = here[part]
    return float(here) if isinstance(here, (int, float)) and not isinstance(here, bool) else None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
