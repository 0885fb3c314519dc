# SPDX-License-Identifier: MIT
"""The report as one HTML file: pictures and charts inside, the video beside it."""
from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from .charts import histogram, latency_over_time, timeline
from .pictures import colored_heatmap, data_uri, moments
from .recording import LEVELS, Recording

REASONS = {
    "overwritten": "a newer picture came before the detector was free: it takes the newest and never queues",
    "stale": "the picture was already too old when the detector reached it (parameter max_age)",
    "invalid": "the message or its stamp was wrong",
    "inactive": "the node was not active",
    "disabled": "the detector was switched off",
    "error": "inference failed",
    "transport": "published, but never arrived at the detector",
    "alert_lost": "judged by the detector, but its alert did not arrive here in time (alerts expire after five heartbeats)",
    "unfinished": "still being judged when the recording ended",
}


def page(recording: Recording, summary: dict, labels_of: dict[int, np.ndarray], video: str = "",
         poster: np.ndarray | None = None) -> str:
    """The whole report. `summary` is that of `statistics.summarize`; `video` the file name of the video, "" for none;
    `poster` the RGB picture shown before it plays."""
    quality = summary["quality"]
    spans = quality["obstacles"]["encounter_spans_s"] if quality else None
    parts = [
        _head(summary), _tiles(summary),
        _section("What the operator sees", _video(video, poster)) if video else "",
        _section("Alerts over time", timeline(recording, spans) + _legend(spans is not None)
                 + _levels(summary["alerts"])),
        _section("Moments", _moments(recording, labels_of, quality is not None)),
        _section("Frames: in = judged + dropped", _frames(summary)),
        _section("Latency", _latency(recording, summary)),
        _section("Quality against ground truth", _quality(quality)),
        _section("How this was measured", _origin(summary)),
        _section("Read this before you rely on it", _notes(summary["notes"])),
    ]
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>eomt_anomaly report</title>'
            f"<style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n")


def _head(summary: dict) -> str:
    return (f"<h1>Obstacle alerts on {escape(Path(str(summary.get('bag', 'a bag'))).name)}</h1><p class=soft>Topic "
            f"<code>{escape(str(summary.get('topic', '')))}</code>, replayed at {_number(summary.get('rate'))}× through "
            f"a live ROS 2 node; model {escape(str(summary.get('model_id', '')))} on "
            f"{escape(str(summary.get('device', '')))} ({escape(str(summary.get('precision', '')))}).</p>")


def _tiles(summary: dict) -> str:
    lost = sum(summary["dropped"].values())
    share = lost / summary["frames_in"] if summary["frames_in"] else 1.0
    tiles = [_tile(f"{summary['frames_out']} of {summary['frames_in']}", f"frames judged; {lost} dropped ({share:.0%})",
                   "good" if share <= 0.05 else "warn" if share < 0.5 else "bad"),
             _tile(f"{_number(summary['latency_ms']['p50'])} ms", "median from picture to alert; 99 %: "
                   f"{_number(summary['latency_ms']['p99'])} ms"),
             _tile(f"{_number(summary['fps']['out'])} fps", f"judged, of {_number(summary['fps']['in'])} fps published")]
    quality = summary["quality"]
    if quality:
        found = quality["obstacles"]
        kind = "" if not found["encounters"] else \
            "good" if found["encounters_alerted"] == found["encounters"] else "bad"
        tiles.append(_tile(f"{found['encounters_alerted']} of {found['encounters']}", "obstacle encounters alerted", kind))
        tiles.append(_tile(f"{found['false_alert_frames']} of {found['clean_frames']}", "clean judged frames with a false "
                           "alert", "bad" if found["false_alert_frames"] else "good"))
        tiles.append(_tile(_percent(quality["pixels"]["auprc"]), "AuPRC of anomalous pixels"))
    else:
        seconds = summary["alerts"]["seconds_at_level"]
        tiles.append(_tile(f"{seconds['CAUTION'] + seconds['STOP']:.1f} s", "at CAUTION or STOP"))
        tiles.append(_tile(f"{summary['alerts']['tracks']}", "obstacle tracks"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _video(video: str, poster: np.ndarray | None) -> str:
    first = "" if poster is None else f' poster="{data_uri(poster, 1280)}"'
    return (f'<video src="{escape(video, quote=True)}"{first} controls loop muted playsinline></video><p class=soft>In real '
            "time: the camera with the alerts that had arrived by then; the newest overlay and heatmap, held until the "
            f"next and marked with their age; the state of the alert topic. File: <code>{escape(video)}</code>.</p>")


def _legend(truth: bool) -> str:
    keys = [(f"level{i}", name) for i, name in enumerate(LEVELS)] + [("judged", "frame judged"), ("dropped", "frame dropped")]
    keys += [("truth", "obstacle on or near the road in the ground truth")] if truth else []
    colors = {"level0": "unknown", "level1": "clear", "level2": "caution", "level3": "stop", "judged": "blue",
              "dropped": "line", "truth": "truth"}
    return "<p>" + "".join(f'<span class="key" style="background:var(--{colors[kind]})"></span>{escape(text)}'
                           for kind, text in keys) + "</p>"


def _levels(alerts: dict) -> str:
    rows = [(name, alerts["frames_at_level"][name], f"{alerts['seconds_at_level'][name]:.1f}") for name in LEVELS]
    first = alerts["first_alert_s"]
    return (_table(("level", "judged frames", "seconds on the alert topic"), rows)
            + f"<p class=soft>{alerts['level_changes']} changes of level or reason, {alerts['tracks']} obstacle tracks, first alert "
            + (f"{first:.2f} s after the start" if first is not None else "never") + ". UNKNOWN means that the node does "
            "not vouch for the road: before the first judgements, and whenever the newest one is too old.</p>")


def _moments(recording: Recording, labels_of: dict[int, np.ndarray], truth: bool) -> str:
    figures = []
    for caption, frame in moments(recording.frames, labels_of, recording.drivable_ids):
        heatmap = frame.maps("heatmap")
        pictures = [frame.maps("overlay")] + ([colored_heatmap(heatmap)] if heatmap is not None else [])
        images = "".join(f'<img src="{data_uri(p)}" alt="{escape(caption)}">' for p in pictures)
        figures.append(f"<figure>{images}<figcaption>{escape(caption)}: frame {frame.index}, {frame.sent_s:.1f} s, "
                       f"{LEVELS[frame.level]}, {len(frame.boxes)} obstacle(s).</figcaption></figure>")
    if not figures:
        return "<p>No overlay came back, so there is nothing to show.</p>"
    classes = "".join(f'<span class="key" style="background:rgb{tuple(color)}"></span>{escape(name)}'
                      for name, color in zip(recording.class_names, recording.class_colors))
    return (f'<div class="grid">{"".join(figures)}</div><p class=soft>Above: the overlay as the node published it. Below: '
            "the anomaly heatmap, blue for familiar, red for anomalous."
            + (" Misses and false alerts are shown where there were any." if truth else "") + f"</p><p>{classes}</p>")


def _frames(summary: dict) -> str:
    rows = [("published", summary["frames_in"], "by the replay, on the camera's topic"),
            ("judged", summary["frames_out"], "an alert on exactly this frame came back")]
    rows += [(f"dropped: {reason}", count, REASONS.get(reason, "as counted by the detector"))
             for reason, count in summary["dropped"].items()]
    text = "" if sum(summary["dropped"].values()) else "<p>No frame was dropped.</p>"
    return text + _table(("", "frames", "meaning"), rows)


def _latency(recording: Recording, summary: dict) -> str:
    names = {"latency_ms": "publishing the picture → its alert arrives here",
             "age_ms": "the picture's stamp → its alert arrives here",
             "node_latency_ms": "what the node itself reports: picture received → alert published",
             "publish_lateness_ms": "how late the replay was in publishing"}
    keys = ("p50", "p95", "p99", "p999", "max")
    rows = [(text, *(_number(summary[name][key]) for key in keys), summary[name]["count"]) for name, text in names.items()]
    marks = {name: summary["latency_ms"][name] for name in ("p50", "p95", "p99")}
    return (_table(("ms", "p50", "p95", "p99", "p99.9", "max", "frames"), rows)
            + "<h3>Publishing → alert</h3>" + histogram((f.latency_s * 1e3 for f in recording.judged), marks)
            + latency_over_time(recording)
            + "<p class=soft>Percentiles are values that occurred. With fewer than 1000 frames, p99.9 is the maximum.</p>")


def _quality(quality: dict | None) -> str:
    if quality is None:
        return "<p>This bag has no ground truth (a topic named <code>…/ground_truth</code>), so quality is not known.</p>"
    pixel, mask, found = quality["pixels"], quality["masks"], quality["obstacles"]
    delays = ", ".join(f"{delay:.2f} s" for delay in found["time_to_first_alert_s"]) or "none was alerted"
    rows = [("AuPRC of anomalous pixels", _percent(pixel["auprc"]), f"average precision over every pixel that is not void, "
             f"{pixel['frames']} judged frames; a random score would have {_percent(pixel['anomalous_share'])}"),
            ("FPR95", _percent(pixel["fpr95"]), "normal pixels above the threshold that finds 95 % of the anomalous ones"),
            ("mIoU of the class mask", _percent(mask["miou"]), f"{mask['frames']} judged frames, anomalies and void left out"),
            ("obstacles found", f"{found['obstacles_found']} of {found['obstacles_due']}", "on judged frames: anomalous "
             f"components of at least {found['min_obstacle_px']} px on or near the road that an alert's box overlaps"),
            ("encounters alerted", f"{found['encounters_alerted']} of {found['encounters']}", "stretches of time with an "
             "obstacle on or near the road"),
            ("time to the first alert", delays, "from publishing the first frame of each encounter, dropped frames included"),
            ("false alerts", f"{found['false_alert_frames']} of {found['clean_frames']}", "judged frames at CAUTION or above "
             "without any anomaly in them or in the 2 s before"),
            ("stray boxes", f"{found['stray_boxes']} of {found['alert_boxes']}", "alerts that overlap no anomalous component")]
    bars = "".join(f'<tr><td>{escape(name)}</td><td class="n">{_percent(value)}</td><td style="width:60%"><div class="bar" '
                   f'style="width:{100 * value:.1f}%"></div></td></tr>' for name, value in mask["iou"].items())
    return (_table(("", "", "what it means"), rows)
            + (f"<h3>IoU of each class</h3><table>{bars}</table>" if bars else ""))


def _origin(summary: dict) -> str:
    rows = [(name, summary.get(name)) for name in ("command", "started", "bag", "bag_sha256", "topic", "ground_truth", "rate",
            "model_id", "checkpoint_sha256", "score", "threshold", "threshold_source", "device", "precision", "subscribed")]
    rows += [(f"host: {name}", value) for name, value in summary.get("host", {}).items()]
    rows += [(f"version: {name}", value) for name, value in summary.get("versions", {}).items()]
    body = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(_plain(value))}</code></td></tr>"
                   for name, value in rows if value not in (None, "", []))
    return f"<table>{body}</table>"


def _notes(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _plain(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else _number(value) \
        if isinstance(value, float) else str(value)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _tile(number: str, text: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{escape(number)}</b><small>{escape(text)}</small></div>'


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    def cell(tag: str, value) -> str:
        numeric = isinstance(value, (int, float)) or str(value).replace(".", "").isdigit()
        return f'<{tag}{" class=n" if numeric else ""}>{escape(str(value))}</{tag}>'
    numeric = [rows and (isinstance(v, (int, float)) or str(v).replace(".", "").isdigit()) for v in rows[0]]
    top = "".join(f'<th{" class=n" if right else ""}>{escape(text)}</th>' for text, right in zip(head, numeric))
    body = "".join("<tr>" + "".join(cell("td", value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
