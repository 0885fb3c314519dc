# SPDX-License-Identifier: MIT
"""Charts as inline SVG: no library, no script. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from .recording import LEVELS, Recording, reason_text
from .statistics import level_runs

WIDTH, LEFT, RIGHT = 960, 110, 16


def timeline(recording: Recording, encounters: Sequence[Sequence[float]] | None) -> str:
    """Ground-truth obstacles (None: no row), the level on the alert topic, and every frame."""
    end = max(recording.duration_s, 1e-6)
    rows, top = [], 8

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds, 0.0), end) / end

    if encounters is not None:
        rows.append(label(top + 15, "obstacle"))
        rows += [
            _bar(
                x(begin),
                x(stop),
                top,
                20,
                "truth",
                f"ground truth: obstacle from {begin:.1f} s to {stop:.1f} s",
            )
            for begin, stop in encounters
        ]
        top += 30
    rows.append(label(top + 20, "alert level"))
    for begin, stop, level, reasons in level_runs(recording):
        why = f" ({reason_text(reasons)})" if reasons else ""
        rows.append(
            _bar(
                x(begin),
                x(stop),
                top,
                30,
                f"level{level}",
                f"{LEVELS[level]}{why}, {begin:.2f} s to {stop:.2f} s",
                LEVELS[level],
            )
        )
    top += 42
    rows.append(label(top + 13, "frames"))
    for frame in recording.frames:
        kind, word = ("judged", "judged") if frame.judged else ("dropped", "dropped")
        rows.append(
            f'<rect class="{kind}" x="{x(frame.sent_s) - 1:.1f}" y="{top}" width="2" height="18">'
            f"<title>frame {frame.index} at {frame.sent_s:.2f} s: {word}</title></rect>"
        )
    top += 30
    rows += [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{top - 4}"/>'
        f'<text class="tick" text-anchor="middle" x="{x(t):.1f}" y="{top + 10}">{t:g} s</text>'
        for t in ticks(0.0, end)
    ]
    return svg(top + 18, rows, "timeline of alerts and frames")


def histogram(values_ms: Iterable[float], marks: dict[str, float | None]) -> str:
    """Counts of durations in ms; `marks` are named vertical lines. A note where there is no value."""
    values = np.asarray(list(values_ms), np.float64)
    if not values.size:
        return "<p>No frame came back, so there is nothing to show.</p>"
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1.0)
    counts, edges = np.histogram(values, bins=min(40, max(8, values.size // 3)), range=(low, low + span))
    height, base, rows = 190, 160, []

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / span

    for count, begin, stop in zip(counts, edges, edges[1:]):
        if count:
            tall = 120 * count / counts.max()
            rows.append(
                f'<rect class="count" x="{x(begin) + 1:.1f}" width="{max(x(stop) - x(begin) - 2, 1):.1f}" '
                f'y="{base - tall:.1f}" height="{tall:.1f}"><title>{count} frames from {begin:.0f} to '
                f"{stop:.0f} ms</title></rect>"
            )
    rows += [
        f'<text class="tick" text-anchor="middle" x="{x(t):.1f}" y="{base + 16}">{t:g} ms</text>'
        for t in ticks(low, low + span)
    ]
    rows.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    rows.append(label(base - 50, "frames"))
    marked = sorted((value, name) for name, value in marks.items() if value is not None)
    for row, (value, name) in enumerate(marked):
        anchor, shift = ("end", -4) if x(value) > WIDTH * 0.8 else ("start", 4)
        y = 12 + 13 * (row % 3)
        rows.append(
            f'<line class="mark" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{y - 8}" y2="{base}"/>'
            f'<text class="marktext" text-anchor="{anchor}" x="{x(value) + shift:.1f}" y="{y}">'
            f"{escape(name)} {value:.0f} ms</text>"
        )
    return svg(height, rows, "histogram of latencies")


def latency_over_time(recording: Recording) -> str:
    """One dot a judged frame: when it was published against how long its alert took."""
    points = [(f.sent_s, f.latency_s * 1e3) for f in recording.frames if f.latency_s is not None]
    if not points:
        return ""
    end, top_ms = max(recording.duration_s, 1e-6), max(latency for _, latency in points) * 1.1 + 1e-9
    base, rows = 150, []

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(seconds, end) / end

    def y(latency: float) -> float:
        return base - 135 * latency / top_ms

    rows += [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{y(t) + 4:.1f}">{t:g} ms</text>'
        for t in ticks(0.0, top_ms, 4)
    ]
    rows += [
        f'<text class="tick" text-anchor="middle" x="{x(t):.1f}" y="{base + 16}">{t:g} s</text>'
        for t in ticks(0.0, end)
    ]
    rows += [
        f'<circle class="dot" cx="{x(when):.1f}" cy="{y(latency):.1f}" r="3"><title>published at {when:.2f} '
        's, '
        f"alert after {latency:.0f} ms</title></circle>"
        for when, latency in points
    ]
    return svg(base + 24, rows, "latency of each judged frame over time")


def ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Round numbers in [low, high], at most about `most` of them."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [round(step * index, 10) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def label(y: float, text: str) -> str:
    return f'<text class="rowlabel" text-anchor="end" x="{LEFT - 10}" y="{y}">{escape(text)}</text>'


def _bar(begin: float, end: float, top: float, height: float, kind: str, title: str, text: str = "") -> str:
    width = max(end - begin, 1.5)
    inside = (
        f'<text class="bartext" text-anchor="middle" x="{begin + width / 2:.1f}" '
        f'y="{top + height / 2 + 4:.1f}">'
        f"{escape(text)}</text>"
        if text and width > 9 * len(text)
        else ""
    )
    return (
        f'<g><rect class="{kind}" x="{begin:.1f}" y="{top}" width="{width:.1f}" height="{height}" '
        f'rx="2"/>{inside}'
        f"<title>{escape(title)}</title></g>"
    )


def svg(height: float, rows: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(rows)
        + "</svg>"
    )
