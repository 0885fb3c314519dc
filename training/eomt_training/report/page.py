# SPDX-License-Identifier: MIT
"""The report of one evaluation as one HTML file: style, charts and pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from eomt_anomaly.report.pictures import data_uri

from . import charts, notes
from .figures import AnomalyFigures, Panel
from .tables import by_auprc, conditions_table, confusion_table, iou_table, number, scores_table, table

ORIGIN = (
    *("date", "commit", "command", "checkpoint", "weights_sha256", "dataset", "pasted", "split", "every"),
    *("frames", "seed", "track", "degraded_severity", "temperature", "short_side", "precision", "device"),
    "minutes",
)


def page(
    result: dict[str, Any],
    figures: dict[str, AnomalyFigures] | None = None,
    panels: dict[str, list[Panel]] | None = None,
    labels: Sequence[Any] = (),
) -> str:
    """The whole report of a result as `evaluate.py --output` writes it.

    ``figures`` by condition (``clean`` first) for an anomaly result, ``panels`` for a semantic one;
    ``labels`` explain the class colours.
    """
    if "iou" in result:
        title, parts = "Classes", _semantic(result, panels or {})
    else:
        title, parts = "Anomaly scores", _anomaly(result, figures or {})
    title = f"{title} on {result['dataset']} {result['split']}"
    if labels:
        colors = {label.name: f"rgb{tuple(label.color)}" for label in labels}
        parts.append(section("Class colours", charts.legend(colors, {})))
    parts.append(section("How this was measured", origin(result)))
    lead = f"{result['checkpoint']}, {result['frames']} frames, short side {result['short_side']} px"
    return document(title, lead, parts)


def document(title: str, lead: str, parts: Sequence[str]) -> str:
    """A whole HTML page of sections, with the style inside."""
    style = "".join(
        files(package).joinpath("style.css").read_text(encoding="utf-8")
        for package in ("eomt_anomaly.report", __package__)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{style}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p class=soft>{escape(lead)}</p>{''.join(parts)}</main></body></html>\n"
    )


def _anomaly(result: dict[str, Any], figures: dict[str, AnomalyFigures]) -> list[str]:
    scores = result["scores"]
    main = "eomt_ext" if "eomt_ext" in scores else next(iter(scores))
    row, others = scores[main], [item for item in by_auprc(scores) if item[0] != main]
    interval = f"{number(row['auprc_low'])} to {number(row['auprc_high'])}"
    shown = [
        (row["auprc"], 1, f"AuPRC of {main}, 95 % interval {interval}"),
        (row["fpr95"], 1, "FPR95: normal pixels that fire when 95 % of the anomalous do"),
        (row["f1_star"], 1, "F1* over components"),
        *((other["auprc"], 1, f"AuPRC of {name}, the best other score") for name, other in others[:1]),
        (result["prevalence"], 2, "of pixels are anomalous: a random score's AuPRC"),
    ]
    words = note(notes.SCORES.format(track=result["track"]))
    if "mask2anomaly" in scores:
        words += note(notes.MASK2ANOMALY)
    parts = [tiles(shown), section("Every score on the same weights", scores_table(scores, main) + words)]
    if result.get("degraded") or result.get("baselines"):
        words = note(notes.CONDITIONS) if "fpr_at_threshold" in row else ""
        parts.append(section("Conditions and baselines", conditions_table(result) + words))
    for condition, drawn in figures.items():
        parts += _drawn(condition, drawn, result, main)
    return parts


def _drawn(condition: str, drawn: AnomalyFigures, result: dict[str, Any], main: str) -> list[str]:
    clean = condition == "clean"
    measured, where = (result, "") if clean else (result["degraded"][condition], f": {condition}")
    scores = dict(by_auprc(measured["scores"]))
    colors = dict(zip(result["scores"], charts.COLORS * 2))  # a score's colour stays in every chart
    colors = {name: colors[name] for name in scores}
    curves = {name: drawn.curves[name] for name in scores}
    captions = {name: f"{name} {number(row['auprc'])}" for name, row in scores.items()}
    pr = charts.pr_chart(curves, colors, measured["prevalence"] / 100)
    both = f'<div class="charts">{pr}{charts.roc_chart(curves, colors)}</div>'
    legend = charts.legend(colors, captions)
    parts = [section(f"PR and ROC{where}", legend + both + note(notes.CURVES))]
    if clean:
        drawings = "".join(
            charts.histogram(name, *drawn.histograms[name], row["best_f1_threshold"])
            for name, row in scores.items()
        )
        body = f'<div class="histograms">{drawings}</div>{note(notes.HISTOGRAMS)}'
        parts.append(section("How scores spread", body))
    words = note(notes.ANOMALY_FRAMES.format(main=main))
    return parts + _frames(where, drawn.worst, drawn.best, words)


def _semantic(result: dict[str, Any], panels: dict[str, list[Panel]]) -> list[str]:
    shown = [
        (result["miou"], 1, "mIoU"),
        (result["macc"], 1, "mean accuracy of the classes"),
        (result["aacc"], 1, "of pixels labelled right"),
    ]
    matrix = confusion_table(list(result["iou"]), result["confusion"]) + note(notes.CONFUSION)
    parts = [tiles(shown), section("Classes", iou_table(result)), section("Confusion", matrix)]
    return parts + _frames("", panels.get("worst", []), panels.get("best", []), note(notes.SEMANTIC_FRAMES))


def _frames(where: str, worst: Sequence[Panel], best: Sequence[Panel], words: str) -> list[str]:
    kinds = (("Worst frames", worst), ("Best frames", best))
    return [section(title + where, _strips(panels) + words) for title, panels in kinds if panels]


def _strips(panels: Sequence[Panel]) -> str:
    def figure(panel: Panel) -> str:
        words = escape(panel.caption)
        images = "".join(f'<img src="{data_uri(p)}" alt="{words}">' for p in panel.pictures)
        return f'<figure><div class="strip">{images}</div><figcaption>{words}</figcaption></figure>'

    return "".join(map(figure, panels))


def origin(result: dict[str, Any]) -> str:
    known = [(key.replace("_", " "), _told(result[key])) for key in ORIGIN if result.get(key) is not None]
    return table(["", ""], [[key, f"<code>{escape(value)}</code>"] for key, value in known])


def _told(value: Any) -> str:
    return (" ".join(value) or "nothing") if isinstance(value, list) else str(value)


def tiles(values: Sequence[tuple[float, int, str]]) -> str:
    """(value in %, digits, meaning) each."""
    shown = (
        f"<b>{number(value, digits)} %</b><small>{escape(text)}</small>" for value, digits, text in values
    )
    return f'<div class="tiles">{"".join(f"<div class=tile>{tile}</div>" for tile in shown)}</div>'


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def note(text: str) -> str:
    return f"<p class=soft>{escape(text)}</p>"
