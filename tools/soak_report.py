# SPDX-License-Identifier: MIT
"""What a soak shows: books that balance, slopes, fairness, and a plot. Plain data in, plain data out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WARM = 0.3  # share of the run left out of the slopes: allocators and caches fill
MAX_GROWTH_MB = 1.0  # a 10,000 frames
MAX_TRANSPORT = 0.01  # share of the pictures sent that may be lost before the node
FAIR = 0.8  # a camera gets this share of what the best-served one gets, or of all it sends
MOST_SAMPLES = 1000  # of the slope: it looks at every pair


def theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Median of the slopes of all pairs of points (Sen 1968): values that alternate have none."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_SAMPLES)).astype(int))
    x, y = x[keep], y[keep]
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] > x[i]
    return float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])) if apart.any() else 0.0


def books(
    sent: dict[str, int], accounts: dict[str, Any], alerts: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Each camera's frames after the drain, and `wrong`: what in them does not balance ("" if all does).

    Exact: sent = in + outside (before the first one the node took, after the last), in = judged + dropped by
    reason (transport is one), nothing pending, and an alert for every judged frame, except as many as gaps in
    the alerts' sequence show to be lost on the way here.
    """
    found = {}
    for name, number in sent.items():
        account, heard = accounts.get(name), alerts[name]
        if account is None:
            found[name] = {"sent": number, "wrong": "the node has no account of it"}
            continue
        dropped = {k.removeprefix("dropped_"): v for k, v in account.items() if k.startswith("dropped_")}
        got, judged, pending = account["frames_in"], account["frames_out"], account["frames_pending"]
        missing = judged - heard["frames"]
        wrong = [
            text
            for bad, text in (
                (got > number, "more received than sent"),
                (pending, "frames still pending"),
                (got != judged + sum(dropped.values()), "in is not judged + dropped"),
                (missing < 0, "more alerts on frames than judged frames"),
                (missing > heard["gaps"], "judged frames whose alert was never sent"),
            )
            if bad
        ]
        found[name] = {
            "sent": number,
            "lost_in_transport": number - got + dropped.get("transport", 0),
            "outside": number - got,
            "received": got,
            "judged": judged,
            "dropped": {reason: count for reason, count in dropped.items() if count},
            "pending": pending,
            "alerts_on_frames": heard["frames"],
            "heartbeats": heard["heartbeats"],
            "sequence_gaps": heard["gaps"],
            "wrong": "; ".join(wrong),
        }
    return found


def judge(
    samples: list[dict[str, Any]],
    cameras: dict[str, dict[str, Any]],
    pictures: dict[str, int],
    wanted: int,
    max_transport: float = MAX_TRANSPORT,
) -> dict[str, Any]:
    """The summary: `checks` {name: met}, `passed` if all are, and the numbers behind them."""
    received = np.array([sum(a["frames_in"] for a in s["accounts"].values()) for s in samples])
    steady = received >= WARM * received[-1]
    growth = {
        key: 10_000 * theil_sen(received[steady], np.array([s[key] for s in samples], float)[steady])
        for key in ("rss_mb", "descriptors", "threads")
    }
    first = next(s for s, k in zip(samples, steady) if k)["accounts"]
    gained = {
        name: [camera.get(new, 0) - first.get(name, {}).get(old, 0)
               for new, old in (("received", "frames_in"), ("judged", "frames_out"))]
        for name, camera in cameras.items()
    }
    most = max(judged for _, judged in gained.values())
    for name, (came, judged) in gained.items():
        cameras[name]["served_share"] = round(judged / max(1, min(came, most)), 3)
    total = {
        key: sum(camera.get(key, 0) for camera in cameras.values())
        for key in ("sent", "outside", "received", "judged", "lost_in_transport", "sequence_gaps")
    }
    checks = {
        "enough frames": total["received"] >= wanted,
        "books balance": not any(camera["wrong"] for camera in cameras.values()),
        f"lost in transport: at most {max_transport:.1%}": total["lost_in_transport"]
        <= max_transport * total["sent"],
        f"memory: less than {MAX_GROWTH_MB:g} MB a 10,000 frames": growth["rss_mb"] < MAX_GROWTH_MB,
        "descriptors and threads flat": all(abs(growth[key]) < 1 for key in ("descriptors", "threads")),
        f"fair: at least {FAIR:.0%}": min(c["served_share"] for c in cameras.values()) >= FAIR,
        "overlays and masks came": min(pictures["overlay"], pictures["mask"]) > 0,
    }
    return {
        "passed": all(checks.values()),
        "checks": {name: bool(met) for name, met in checks.items()},
        "frames": total,
        "minutes": round(samples[-1]["seconds"] / 60, 1),
        "growth_per_10k_frames": {key: round(value, 3) for key, value in growth.items()},
        "pictures": pictures,
        "cameras": cameras,
    }


def table(summary: dict[str, Any]) -> str:
    """Each camera in a line."""
    keys = ("sent", "outside", "lost_in_transport", "received", "judged", "sequence_gaps", "served_share")
    lines = [f"{'camera':12}" + "".join(f"{key:>18}" for key in keys)]
    for name, camera in summary["cameras"].items():
        cells = "".join(f"{camera.get(key, '–'):>18}" for key in keys)
        lines.append(f"{name:12}{cells}  {camera['wrong']}")
    return "\n".join(lines)


def draw(samples: list[dict[str, Any]], summary: dict[str, Any], path: Path) -> None:
    """Memory, descriptors and threads, and frames judged and dropped, over frames received."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    received = [sum(a["frames_in"] for a in s["accounts"].values()) for s in samples]
    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True, constrained_layout=True)
    figure.suptitle(
        f"{summary['frames']['received']} frames, {len(summary['cameras'])} cameras, {summary['minutes']} "
        f"minutes: memory {summary['growth_per_10k_frames']['rss_mb']:+.2f} MB per 10,000 frames"
    )
    axes[0].plot(received, [s["rss_mb"] for s in samples])
    axes[0].set(ylabel="resident memory, MB")
    axes[0].set_ylim(bottom=0)
    for key in ("descriptors", "threads"):
        axes[1].plot(received, [s[key] for s in samples], label=key)
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    for key in sorted({k for s in samples for a in s["accounts"].values() for k in a}):
        if key.startswith("dropped_") or key == "frames_out":
            totals = [sum(a.get(key, 0) for a in s["accounts"].values()) for s in samples]
            axes[2].plot(received, totals, label=key)
    axes[2].set(ylabel="frames, all cameras", xlabel="frames received, all cameras")
    axes[2].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
