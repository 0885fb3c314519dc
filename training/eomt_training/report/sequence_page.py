# SPDX-License-Identifier: MIT
"""The report of `sequence_quality.py replay` as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .page import document, note, section
from .tables import number, table

NOTE = (
    "An obstacle counts as found if an alert is about it in at least one frame in which it covers so much "
    "(or stands so far away). Intervals: 95 %, drives drawn again; exact bounds where all or none are found. "
    "Other scores are mapped to the first one's scale, so that each has its pixel false-positive rate on the "
    "tuning drives."
)
ORIGIN = (
    "date",
    "commit",
    "checkpoint",
    "weights_sha256",
    "split",
    "rate_hz",
    "short_side",
    "precision",
    "threshold",
    "pixel_fpr_tuning",
    "second_look",
    "parameters",
    "seed",
)


def sequence_page(result: dict[str, Any]) -> str:
    """The page of a result of `sequence_quality.py replay`; the first score is the main one."""
    scores = result["scores"]
    main = next(iter(scores))
    figures = scores[main]
    checks = [
        [escape(k.replace("_", " ")), "met" if met else "<b>not met</b>"]
        for k, met in result["targets"].items()
    ]
    parts = [
        section(f"Targets, {main}", table(["target", ""], checks)),
        section("Every score", _summary(scores) + note(NOTE)),
        section("Obstacles on the road found, by share of the picture", _recall(scores, "share", "≥ {} %")),
        section("... and by distance", _recall(scores, "distance", "{} m")),
        section("Frames to the first alert", _first_alert(figures)),
        section("Drives, worst first", _drives(figures)),
        section(
            "How this was measured",
            table(
                ["", ""],
                [
                    [key.replace("_", " "), f"<code>{escape(str(result[key]))}</code>"]
                    for key in ORIGIN
                    if key in result
                ],
            ),
        ),
    ]
    lead = (
        f"{figures['drives']} drives with obstacles, {figures['clean_drives']} clean ones "
        f"({figures['false_alerts_per_minute']['minutes']:.1f} min), {figures['frames']} frames"
    )
    return document(f"Alerts over whole drives: {result['split']}", lead, parts)


def _share(row: Mapping[str, Any]) -> str:
    span = f"<br><small>{number(row['low'])} to {number(row['high'])}; {row['found']} of {row['of']}</small>"
    return number(row["percent"]) + " %" + span


def _rate(row: Mapping[str, Any]) -> str:
    return f"{number(row['rate'], 2)}<br><small>{number(row['low'], 2)} to {number(row['high'], 2)}</small>"


def _summary(scores: Mapping[str, Any]) -> str:
    head = [
        "score",
        "found, ≥ 0.5 %",
        "false alerts/min",
        "false STOPs/min",
        "clean time alerting %",
        "frames to first alert",
        "level changes/s",
        "... without tracking",
        "time UNKNOWN %",
    ]
    rows = []
    for name, f in scores.items():
        median = f["first_alert"]["0.5"]["median_frames"]
        rows.append(
            [
                f"<code>{escape(name)}</code>",
                _share(f["recall_by_share"]["0.5"]),
                _rate(f["false_alerts_per_minute"]),
                _rate(f["false_stops_per_minute"]),
                number(f["clean_time_alerting"]),
                number(median, 0),
                number(f["flicker_tracked"], 2),
                number(f["flicker_untracked"], 2),
                number(f["time_unknown"]),
            ]
        )
    return table(head, rows)


def _recall(scores: Mapping[str, Any], by: str, words: str) -> str:
    bins = list(next(iter(scores.values()))[f"recall_by_{by}"])
    rows = [
        [f"<code>{escape(name)}</code>", *(_share(f[f"recall_by_{by}"][b]) for b in bins)]
        for name, f in scores.items()
    ]
    return table(["score", *(words.format(b) for b in bins)], rows)


def _first_alert(figures: Mapping[str, Any]) -> str:
    rows = [
        [
            f"≥ {share} %",
            number(f["median_frames"], 0),
            number(f["p95_frames_of_found"], 0),
            str(f["never"]),
            str(f["obstacles"]),
        ]
        for share, f in figures["first_alert"].items()
    ]
    return table(["from the frame it covers", "median", "95 % of those found", "never", "obstacles"], rows)


def _drives(figures: Mapping[str, Any]) -> str:
    """By obstacles missed, then by false alerts."""
    order = sorted(figures["by_drive"], key=lambda d: (d["found"] - d["of"], -d["false_alerts"], d["name"]))
    rows = [
        [
            f"<code>{escape(d['name'])}</code>",
            f"{d['found']} of {d['of']}",
            str(d["false_alerts"]),
            number(d["minutes"], 2),
        ]
        for d in order
    ]
    return table(["drive", "obstacles ≥ 0.5 % found", "false alerts", "minutes"], rows)
