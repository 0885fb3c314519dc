# SPDX-License-Identifier: MIT
"""Plots of a benchmark as inline SVG: lines over a number, stacked stages, ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .charts import LEFT, RIGHT, WIDTH, svg, ticks

COLORS = 6  # series0 … series5 of the style sheet
BASE, TOP = 210, 26
Points = Sequence[tuple[float, float]]


def digits(value: float) -> str:
    """Three digits, more where the whole number has more: 0.123, 12.3, 1234."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def legend(names: Sequence[str]) -> str:
    """Keys for series in their order, as HTML."""
    keys = (
        f'<span class="key" style="background:var(--series{i % COLORS})"></span>{escape(name)}'
        for i, name in enumerate(names)
    )
    return f"<p>{''.join(keys)}</p>"


def lines(
    series: Mapping[str, Points], x_unit: str, y_unit: str, limit: tuple[float, str] | None = None
) -> str:
    """Connected dots, one colour a series, from zero up; `limit` is a dashed line (y, its name)."""
    points = [point for one in series.values() for point in one]
    if not points:
        return "<p>There is nothing to show.</p>"
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    right = right if right > left else left + max(abs(left), 1.0)
    high = max([y for _, y in points] + ([limit[0]] if limit else [])) * 1.08 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - RIGHT - 12) * (x - left) / (right - left), BASE - (
            BASE - TOP
        ) * y / high

    rows = []
    for t in ticks(0.0, high, 5):
        _, y = at(left, t)
        rows.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{t:g}</text>'
        )
    for t in ticks(left, right):
        x, _ = at(t, 0)
        rows.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{BASE + 17}">{t:g}</text>')
    rows.append(
        f'<text class="rowlabel" text-anchor="end" x="{WIDTH - RIGHT}" y="{BASE + 34}">'
        f"{escape(x_unit)}</text>"
    )
    rows.append(f'<text class="rowlabel" x="{LEFT - 40}" y="14">{escape(y_unit)}</text>')
    if limit:
        _, y = at(left, limit[0])
        rows.append(
            f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="marktext" x="{LEFT + 6}" y="{y - 5:.1f}">{escape(limit[1])}</text>'
        )
    for index, (name, one) in enumerate(series.items()):
        color = f"series{index % COLORS}"
        places = [at(x, y) for x, y in sorted(one)]
        rows.append(f'<polyline class="{color}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
        if len(one) <= 60:
            rows += [
                f'<circle class="{color}" cx="{px:.1f}" cy="{py:.1f}" r="3.5"><title>{escape(name)}: '
                f"{x:.4g} {escape(x_unit)}, {y:.4g} {escape(y_unit)}</title></circle>"
                for (px, py), (x, y) in zip(places, sorted(one))
            ]
    return (legend(list(series)) if len(series) > 1 else "") + svg(BASE + 42, rows, f"{y_unit} over {x_unit}")


def stacked(rows_of: Mapping[str, Mapping[str, float]], parts: Sequence[str], unit: str = "ms") -> str:
    """One bar a row, its parts one after the other; a part that a row lacks has no length."""
    longest = max((sum(row.get(part, 0.0) for part in parts) for row in rows_of.values()), default=0.0)
    if not longest > 0:
        return "<p>There is nothing to show.</p>"
    left, top, rows = 190, 6, []
    scale = (WIDTH - left - 90) / longest
    for name, row in rows_of.items():
        rows.append(
            f'<text class="rowlabel" text-anchor="end" x="{left - 10}" y="{top + 16}">{escape(name)}</text>'
        )
        x = float(left)
        for index, part in enumerate(parts):
            width = row.get(part, 0.0) * scale
            rows.append(
                f'<rect class="series{index % COLORS}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="22">'
                f"<title>{escape(part)}: {digits(row.get(part, 0.0))} {unit}</title></rect>"
            )
            x += width
        total = sum(row.get(part, 0.0) for part in parts)
        rows.append(f'<text class="tick" x="{x + 6:.1f}" y="{top + 16}">{digits(total)} {unit}</text>')
        top += 30
    return legend(parts) + svg(top, rows, "time by stage")


def ratios(rows_of: Mapping[str, float]) -> str:
    """One bar a ratio, from 1 outwards on a log scale: left is less, right is more."""
    spread = max((abs(math.log(value)) for value in rows_of.values() if value > 0), default=0.0)
    spread, middle, top, rows = max(spread, math.log(1.1)), 560, 22, []
    scale = 300 / spread
    for value in (math.exp(-spread), 1.0, math.exp(spread)):
        x = middle + scale * math.log(value)
        rows.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="12">{value:.3g}</text>')
    for name, value in rows_of.items():
        end = middle + scale * math.log(value) if value > 0 else 0.0
        rows.append(
            f'<text class="rowlabel" text-anchor="end" x="240" y="{top + 13}">{escape(name)}</text>'
            f'<rect class="series{int(value > 1)}" x="{min(end, middle):.1f}" y="{top}" '
            f'width="{max(abs(end - middle), 1):.1f}" height="16"/>'
            f'<text class="tick" text-anchor="end" x="{WIDTH - 6}" y="{top + 13}">{value:.3f}</text>'
        )
        top += 22
    rows.append(f'<line class="axis" x1="{middle}" x2="{middle}" y1="16" y2="{top}"/>')
    return svg(top + 6, rows, "ratios")
