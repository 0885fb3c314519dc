# SPDX-License-Identifier: MIT
"""The report as one HTML file: pictures and charts inside, the video beside it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from .charts import timeline
from .layout import document, section, tile
from .pictures import colored_heatmap, data_uri, moments
from .recording import LEVELS, Recording
from .sections import frames, latency, levels, notes, number, origin, percent, quality_table


def page(
    recording: Recording,
    summary: dict,
    labels_of: Mapping[int, np.ndarray],
    video: str = "",
    poster: np.ndarray | None = None,
) -> str:
    """The whole report.

    `summary` is that of `statistics.summarize`; `video` the file name of the video, "" for none; `poster` the
    RGB picture shown before it plays.
    """
    quality = summary["quality"]
    spans = quality["obstacles"]["encounter_spans_s"] if quality else None
    parts = [
        _head(summary),
        _tiles(summary),
        section("What the operator sees", _video(video, poster)) if video else "",
        section(
            "Alerts over time",
            timeline(recording, spans) + _legend(spans is not None) + levels(summary["alerts"]),
        ),
        section("Moments", _moments(recording, labels_of, quality is not None)),
        section("Frames: in = judged + dropped", frames(summary)),
        section("Latency", latency(recording, summary)),
        section("Quality against ground truth", quality_table(quality, summary.get("ground_truth"))),
        section("How this was measured", origin(summary)),
        section("Read this before you rely on it", notes(summary["notes"])),
    ]
    return document("eomt_anomaly report", parts)


def _head(summary: dict) -> str:
    return (
        f"<h1>Obstacle alerts on {escape(Path(str(summary.get('bag', 'a bag'))).name)}</h1><p "
        "class=soft>Topic "
        f"<code>{escape(str(summary.get('topic', '')))}</code>, replayed at {number(summary.get('rate'))}× "
        "through "
        f"a live ROS 2 node; model {escape(str(summary.get('model_id', '')))} on "
        f"{escape(str(summary.get('device', '')))} ({escape(str(summary.get('precision', '')))}).</p>"
    )


def _tiles(summary: dict) -> str:
    lost = sum(summary["dropped"].values())
    share = lost / summary["frames_in"] if summary["frames_in"] else 1.0
    tiles = [
        tile(
            f"{summary['frames_out']} of {summary['frames_in']}",
            f"frames judged; {lost} dropped ({share:.0%})",
            "good" if share <= 0.05 else "warn" if share < 0.5 else "bad",
        ),
        tile(
            f"{number(summary['latency_ms']['p50'])} ms",
            f"median from picture to alert; 99 %: {number(summary['latency_ms']['p99'])} ms",
        ),
        tile(
            f"{number(summary['fps']['out'])} fps",
            f"judged, of {number(summary['fps']['in'])} fps published",
        ),
    ]
    quality = summary["quality"]
    if quality:
        found = quality["obstacles"]
        kind = (
            ""
            if not found["encounters"]
            else "good"
            if found["encounters_alerted"] == found["encounters"]
            else "bad"
        )
        tiles.append(
            tile(
                f"{found['encounters_alerted']} of {found['encounters']}", "obstacle encounters alerted", kind
            )
        )
        tiles.append(
            tile(
                f"{found['false_alert_frames']} of {found['clean_frames']}",
                "clean judged frames with a false alert",
                "bad" if found["false_alert_frames"] else "good",
            )
        )
        tiles.append(tile(percent(quality["pixels"]["auprc"]), "AuPRC of anomalous pixels"))
    else:
        seconds = summary["alerts"]["seconds_at_level"]
        tiles.append(tile(f"{seconds['CAUTION'] + seconds['STOP']:.1f} s", "at CAUTION or STOP"))
        tiles.append(tile(f"{summary['alerts']['tracks']}", "obstacle tracks"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _video(video: str, poster: np.ndarray | None) -> str:
    first = "" if poster is None else f' poster="{data_uri(poster, 1280)}"'
    return (
        f'<video src="{escape(video, quote=True)}"{first} controls loop muted playsinline></video><p '
        'class=soft>In real '
        "time: the camera with the alerts that had arrived by then; the newest overlay and heatmap, held "
        "until the "
        f"next and marked with their age; the state of the alert topic. File: "
        f"<code>{escape(video)}</code>.</p>"
    )


def _legend(truth: bool) -> str:
    keys = [(f"level{i}", name) for i, name in enumerate(LEVELS)] + [
        ("judged", "frame judged"),
        ("dropped", "frame dropped"),
    ]
    keys += [("truth", "obstacle on or near the road in the ground truth")] if truth else []
    colors = {
        "level0": "unknown",
        "level1": "clear",
        "level2": "caution",
        "level3": "stop",
        "judged": "blue",
        "dropped": "line",
        "truth": "truth",
    }
    return (
        "<p>"
        + "".join(
            f'<span class="key" style="background:var(--{colors[kind]})"></span>{escape(text)}'
            for kind, text in keys
        )
        + "</p>"
    )


def _moments(recording: Recording, labels_of: Mapping[int, np.ndarray], truth: bool) -> str:
    figures = []
    for caption, frame in moments(recording.frames, labels_of, recording.drivable_ids):
        overlay, heatmap = frame.maps("overlay"), frame.maps("heatmap")
        pictures = (overlay, None if heatmap is None else colored_heatmap(heatmap))
        images = "".join(
            f'<img src="{data_uri(p)}" alt="{escape(caption)}">' for p in pictures if p is not None
        )
        figures.append(
            f"<figure>{images}<figcaption>{escape(caption)}: frame {frame.index}, {frame.sent_s:.1f} s, "
            f"{LEVELS[frame.level]}, {len(frame.boxes)} obstacle(s).</figcaption></figure>"
        )
    if not figures:
        return "<p>No overlay came back, so there is nothing to show.</p>"
    classes = "".join(
        f'<span class="key" style="background:rgb{tuple(color)}"></span>{escape(name)}'
        for name, color in zip(recording.class_names, recording.class_colors)
    )
    return (
        f'<div class="grid">{"".join(figures)}</div><p class=soft>Above: the overlay as the node published '
        'it. Below: '
        "the anomaly heatmap, blue for familiar, red for anomalous."
        + (" Misses and false alerts are shown where there were any." if truth else "")
        + f"</p><p>{classes}</p>"
    )
