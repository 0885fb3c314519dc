# SPDX-License-Identifier: MIT
"""The parts of the report that are tables and charts, as HTML. Every number stands beside its meaning."""
from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .charts import histogram, latency_over_time
from .plots import digits
from .recording import LEVELS, Recording

REASONS = {
    "overwritten": "a newer picture came before the detector was free: it takes the newest and never queues",
    "stale": "the picture was already too old when the detector reached it (parameter max_age)",
    "invalid": "the message or its stamp was wrong",
    "frozen": "the camera sent the same picture for longer than frozen_timeout",
    "inactive": "the node was not active",
    "disabled": "the detector was switched off",
    "error": "inference failed",
    "transport": "published, but never arrived at the detector",
    "alert_lost": "judged by the detector, but its alert did not arrive here in time (alerts expire after "
    "five heartbeats)",
    "unfinished": "still being judged when the recording ended",
}


def levels(alerts: dict) -> str:
    """Frames and seconds at each level."""
    rows = [
        (name, alerts["frames_at_level"][name], f"{alerts['seconds_at_level'][name]:.1f}") for name in LEVELS
    ]
    first = alerts["first_alert_s"]
    return (
        table(("level", "judged frames", "seconds on the alert topic"), rows)
        + f"<p class=soft>{alerts['level_changes']} changes of level or reason, {alerts['tracks']} obstacle "
          "tracks, first alert "
        + (f"{first:.2f} s after the start" if first is not None else "never")
        + ". UNKNOWN means that the node does "
        "not vouch for the road: before the first judgements, and whenever the newest one is too old.</p>"
    )


def frames(summary: dict) -> str:
    """The books: published, judged, dropped by reason."""
    rows = [
        ("published", summary["frames_in"], "by the replay, on the camera's topic"),
        ("judged", summary["frames_out"], "an alert on exactly this frame came back"),
    ]
    rows += [
        (f"dropped: {reason}", count, REASONS.get(reason, "as counted by the detector"))
        for reason, count in summary["dropped"].items()
    ]
    text = "" if sum(summary["dropped"].values()) else "<p>No frame was dropped.</p>"
    return text + table(("", "frames", "meaning"), rows)


def latency(recording: Recording, summary: dict) -> str:
    """Percentiles, histogram and course of the latency."""
    names = {
        "latency_ms": "publishing the picture → its alert arrives here",
        "age_ms": "the picture's stamp → its alert arrives here",
        "node_latency_ms": "what the node itself reports: picture received → alert published",
        "publish_lateness_ms": "how late the replay was in publishing",
    }
    keys = ("p50", "p95", "p99", "p999", "max")
    rows = [
        (text, *(number(summary[name][key]) for key in keys), summary[name]["count"])
        for name, text in names.items()
    ]
    marks = {name: summary["latency_ms"][name] for name in ("p50", "p95", "p99")}
    return (
        table(("ms", "p50", "p95", "p99", "p99.9", "max", "frames"), rows)
        + "<h3>Publishing → alert</h3>"
        + histogram((f.latency_s * 1e3 for f in recording.frames if f.latency_s is not None), marks)
        + latency_over_time(recording)
        + "<p class=soft>Percentiles are values that occurred. With fewer than 1000 frames, p99.9 is the "
          "maximum.</p>"
    )


def quality_table(quality: dict | None, truth: str | None = None) -> str:
    """Quality against ground truth, each number with its meaning. `truth` is its topic, None for none."""
    if quality is None and truth:
        return (
            f"<p>Quality is not known: the ground truth <code>{escape(truth)}</code> could not be compared "
            "with the outputs. The notes below say why.</p>"
        )
    if quality is None:
        return (
            "<p>This bag has no ground truth (a topic named <code>…/ground_truth</code>), so quality is not "
            "known.</p>"
        )
    pixel, mask, found = quality["pixels"], quality["masks"], quality["obstacles"]
    delays = ", ".join(f"{delay:.2f} s" for delay in found["time_to_first_alert_s"]) or "none was alerted"
    share = pixel["anomalous_share"]
    rows = [
        (
            "AuPRC of anomalous pixels",
            percent(pixel["auprc"]),
            f"average precision over every pixel that is not void, {pixel['frames']} judged frames"
            + ("" if share is None else f"; a random score would have {percent(share)}"),
        ),
        (
            "FPR95",
            percent(pixel["fpr95"]),
            "normal pixels above the threshold that finds 95 % of the anomalous ones",
        ),
        (
            "mIoU of the class mask",
            percent(mask["miou"]),
            f"{mask['frames']} judged frames, anomalies and void left out",
        ),
        (
            "obstacles found",
            f"{found['obstacles_found']} of {found['obstacles_due']}",
            "on judged frames: anomalous "
            f"components of at least {found['min_obstacle_px']} px on or near the road that an alert's box "
            "overlaps",
        ),
        (
            "encounters alerted",
            f"{found['encounters_alerted']} of {found['encounters']}",
            "stretches of time with an obstacle on or near the road",
        ),
        (
            "time to the first alert",
            delays,
            "from publishing the first frame of each encounter, dropped frames included",
        ),
        (
            "false alerts",
            f"{found['false_alert_frames']} of {found['clean_frames']}",
            "judged frames at CAUTION or above without any anomaly in them or in the 2 s before",
        ),
        (
            "stray boxes",
            f"{found['stray_boxes']} of {found['alert_boxes']}",
            "alerts that overlap no anomalous component",
        ),
    ]
    bars = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{percent(value)}</td><td style="width:60%"><div '
        'class="bar" '
        f'style="width:{100 * value:.1f}%"></div></td></tr>'
        for name, value in mask["iou"].items()
    )
    return table(("", "", "what it means"), rows) + (
        f"<h3>IoU of each class</h3><table>{bars}</table>" if bars else ""
    )


def origin(summary: dict) -> str:
    """Model, host, versions, hashes and command."""
    rows = [
        (name, summary.get(name))
        for name in (
            "command",
            "started",
            "bag",
            "bag_sha256",
            "topic",
            "ground_truth",
            "rate",
            "model_id",
            "checkpoint_sha256",
            "score",
            "threshold",
            "threshold_source",
            "device",
            "precision",
            "degraded",
            "subscribed",
        )
    ]
    rows += [(f"host: {name}", value) for name, value in summary.get("host", {}).items()]
    rows += [(f"version: {name}", value) for name, value in summary.get("versions", {}).items()]
    body = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(_plain(value))}</code></td></tr>"
        for name, value in rows
        if value not in (None, "", [])
    )
    return f"<table>{body}</table>"


def notes(notes: Sequence[str]) -> str:
    """What the reader must know."""
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table whose numeric columns are aligned to the right."""
    def numeric(value) -> bool:
        return isinstance(value, (int, float)) or str(value).replace(".", "").isdigit()

    def cell(tag: str, value, right: bool) -> str:
        return f"<{tag}{' class=n' if right else ''}>{escape(str(value))}</{tag}>"

    first = rows[0] if rows else head
    top = "".join(cell("th", text, numeric(value)) for text, value in zip(head, first))
    body = "".join("<tr>" + "".join(cell("td", v, numeric(v)) for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _plain(value) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, (list, tuple))
        else number(value)
        if isinstance(value, float)
        else str(value)
    )


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else digits(value)


def percent(value: float | None) -> str:
    """A share as a percentage, or a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"
