# SPDX-License-Identifier: MIT
"""Charts as inline SVG: no library, no script; a title on each mark says its value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

# Paul Tol's "bright" and two more: told apart by colour-blind readers, on light and dark ground.
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#e07b39", "#8c6bb1")
WIDTH, HEIGHT = 520, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 26, 12, 44


def pr_chart(curves: Mapping[str, Mapping[str, np.ndarray]], colors: Mapping[str, str], chance: float) -> str:
    """Precision over recall; the dashed line is the share of anomalous pixels, a random score's precision."""
    lines = {name: (np.append(0, c["tpr"]), np.append(c["precision"][:1], c["precision"]))
             for name, c in curves.items()}  # fmt: skip
    x, y = _linear(LEFT, WIDTH - RIGHT), _linear(HEIGHT - BOTTOM, TOP)
    marks = [f'<line class="mark" x1="{x(0)}" x2="{x(1)}" y1="{y(chance):.1f}" y2="{y(chance):.1f}"/>']
    fifths = [i / 5 for i in range(6)]
    return _plot(lines, colors, x, y, fifths, fifths, marks, "recall (TPR)", "precision", "PR curves")


def roc_chart(
    curves: Mapping[str, Mapping[str, np.ndarray]], colors: Mapping[str, str], lowest: float = 1e-4
) -> str:
    """TPR over FPR, the latter on a logarithmic scale from ``lowest``; the dashed line is TPR 95 %."""
    lines = {name: _from(lowest, c["fpr"], c["tpr"]) for name, c in curves.items()}
    linear, y = _linear(LEFT, WIDTH - RIGHT), _linear(HEIGHT - BOTTOM, TOP)

    def x(fpr: float) -> float:
        return linear(1 - math.log10(fpr) / math.log10(lowest))

    marks = [f'<line class="mark" x1="{x(lowest)}" x2="{x(1)}" y1="{y(0.95):.1f}" y2="{y(0.95):.1f}"/>']
    ticks = [10.0**k for k in range(round(math.log10(lowest)), 1)]
    fifths = [i / 5 for i in range(6)]
    return _plot(lines, colors, x, y, ticks, fifths, marks, "FPR (logarithmic)", "TPR", "ROC curves")


def histogram(name: str, edges: np.ndarray, counts: np.ndarray, mark: float | None, lowest=1e-5) -> str:
    """Share of normal (filled) and anomalous (outlined) pixels in each bin, logarithmic; ``mark``: threshold.

    edges [K+1], counts [2,K]: normal, anomalous.
    """
    width, height, base = 340, 190, 150
    x0, x1 = 48, width - 14
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    span = edges[-1] - edges[0]

    def x(value: float) -> float:
        return x0 + (x1 - x0) * (value - edges[0]) / span

    def y(share: float) -> float:
        return base - (base - 14) * max(0.0, 1 - math.log10(max(share, lowest)) / math.log10(lowest))

    rows = [_y_tick(y(s), f"{100 * s:g} %", x0, x1) for s in (1, 1e-2, 1e-4) if s >= lowest]
    for kind, row in zip(("normal", "anomalous"), shares):
        corners = [(x(edge), y(share)) for share, *ends in zip(row, edges, edges[1:]) for edge in ends]
        path = _path([(x(edges[0]), base), *corners, (x(edges[-1]), base)])
        rows.append(f'<path class="{kind}" d="{path}"><title>{kind} pixels</title></path>')
    rows.append(f'<line class="axis" x1="{x0}" x2="{x1}" y1="{base}" y2="{base}"/>')
    for value, anchor in ((edges[0], "start"), ((edges[0] + edges[-1]) / 2, "middle"), (edges[-1], "end")):
        rows.append(_text(x(value), base + 15, f"{value:.3g}", anchor, "tick"))
    if mark is not None and edges[0] <= mark <= edges[-1]:
        rows.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="12" y2="{base}"/>')
    rows.append(_text((x0 + x1) / 2, height - 8, name, "middle", "rowlabel"))
    return _svg(width, height, rows, f"histogram of {name}")


def legend(colors: Mapping[str, str], words: Mapping[str, str]) -> str:
    """A line of coloured keys."""
    return "<p>" + "".join(
        f'<span class="entry"><span class="key" style="background:{color}"></span>'
        f"{escape(words.get(name, name))}</span> "
        for name, color in colors.items()
    ) + "</p>"  # fmt: skip


def _plot(lines, colors, x, y, x_ticks, y_ticks, marks, x_label, y_label, title) -> str:
    rows = [_y_tick(y(t), f"{100 * t:g} %", LEFT, WIDTH - RIGHT) for t in y_ticks]
    rows += [_text(x(t), HEIGHT - BOTTOM + 16, f"{100 * t:g} %", "middle", "tick") for t in x_ticks]
    rows += [f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
             for t in x_ticks]  # fmt: skip
    rows += marks
    for name, (xs, ys) in reversed(list(lines.items())):  # the first one on top
        path = _path([(x(a), y(b)) for a, b in zip(xs, ys)])
        rows.append(
            f'<path class="curve" stroke="{colors[name]}" d="{path}"><title>{escape(name)}</title></path>'
        )
    rows.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle", "rowlabel"))
    turned = f'transform="rotate(-90 12 {HEIGHT / 2 - 20})"'
    rows.append(_text(12, HEIGHT / 2 - 20, y_label, "middle", "rowlabel", turned))
    return _svg(WIDTH, HEIGHT, rows, title)


def _from(lowest: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve at x >= lowest, beginning on that line; x [K] ascending, ends above lowest."""
    first = int(np.searchsorted(x, lowest, side="right"))
    return np.append(lowest, x[first:]), np.append(y[first - 1] if first else 0.0, y[first:])


def _linear(begin: float, end: float):
    return lambda share: begin + (end - begin) * float(share)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _y_tick(y: float, text: str, x0: float, x1: float) -> str:
    line = f'<line class="grid" x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(x0 - 6, y + 4, text, "end", "tick")


def _text(x: float, y: float, text: str, anchor: str, kind: str, more: str = "") -> str:
    return f'<text class="{kind}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _svg(width: int, height: int, rows: Sequence[str], title: str) -> str:
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
            + "".join(rows) + "</svg>")  # fmt: skip
