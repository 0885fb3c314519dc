#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the live detector for tens of thousands of frames and says whether anything grows or is lost.

  python tools/soak.py --frames 50000 --output out/soak               # a tiny network, random weights
  python tools/soak.py --frames 500 --checkpoint default --size 640 360 --cameras 1

Cameras join one after the other, each with its own rate between 5 and 30 Hz. Every second: resident memory,
open file descriptors and threads of the detector's process, and each camera's account of frames. Leaves
soak.json and soak.png; the exit status is 0 only if memory, descriptors and threads stay flat, every frame
has an account and no camera starves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ros2_ws/src/eomt_anomaly")]

from eomt_anomaly.ros.processes import Child, isolate, write_parameters  # noqa: E402

RATES_HZ = (5.0, 30.0)
RAMP = 0.2  # share of the run in which cameras join
WARM = 0.3  # share of the run left out of the slopes: allocators and caches fill
START_S = 120.0
MAX_GROWTH_MB = 1.0  # a 10,000 frames
FAIR = 0.8  # a camera gets this share of what the best-served one gets, or of all it sends


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=50_000, help="frames that reach the node")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument(
        "--checkpoint", default="", help="a folder, or 'default' (the package's); else random weights"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(80, 60), metavar=("WIDTH", "HEIGHT"), help="px")
    parser.add_argument("--minutes", type=float, default=60.0, help="give up after so long")
    parser.add_argument("--output", type=Path, default=Path("out/soak"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    isolate()
    rates = np.linspace(*RATES_HZ, args.cameras)
    with tempfile.TemporaryDirectory() as folder:
        arguments = detector_arguments(args, Path(folder))
        with Child("eomt_anomaly.ros.detector", arguments, args.output / "detector.log") as child:
            samples = record(child, rates, args)
    summary = judge(samples, rates) | {
        "frames_wanted": args.frames,
        "checkpoint": args.checkpoint or "tiny, random weights",
        "size": list(args.size),
        "host": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    (args.output / "soak.json").write_text(json.dumps({**summary, "samples": samples}, indent=1) + "\n")
    draw(samples, summary, args.output / "soak.png")
    print(json.dumps(summary, indent=2))
    return 0 if summary["passed"] else 1


def detector_arguments(args: argparse.Namespace, folder: Path) -> list[str]:
    """Arguments of the detector: its cameras, its checkpoint, and a size to warm up for."""
    names = [f"camera{i}" for i in range(args.cameras)]
    parameters: dict[str, Any] = {"cameras": names, "max_batch": 4}
    parameters |= {f"{name}.warmup_size": list(args.size) for name in names}
    if args.checkpoint != "default":
        checkpoint = args.checkpoint or str(folder / "checkpoint")
        if not args.checkpoint:
            random_checkpoint(Path(checkpoint))
            parameters |= {"drivable_labels": ["class_0"]}
        parameters |= {"checkpoint": checkpoint}
        if not (Path(checkpoint) / "calibration.json").is_file():
            parameters |= {"threshold": 0.5}
    write_parameters(folder / "parameters.yaml", parameters)
    return ["--ros-args", "--params-file", str(folder / "parameters.yaml")]


def random_checkpoint(folder: Path) -> None:
    """A tiny network with random weights that runs through the real engine."""
    import torch

    from eomt_anomaly.model import EomtExt, EomtExtConfig

    torch.manual_seed(0)
    EomtExt(EomtExtConfig.preset("tiny", image_size=56)).save_pretrained(folder)


def record(child: Child, rates: np.ndarray, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Send pictures until enough have reached the node; a sample each second."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from eomt_anomaly.ros.conversions import image_message

    rclpy.init()
    node = rclpy.create_node("soak", enable_rosout=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    width, height = args.size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    message = image_message(picture, "rgb8", Header(frame_id="optical"))
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [node.create_publisher(Image, f"camera{i}/image_raw", qos) for i in range(len(rates))]
    sent = [0] * len(rates)
    joined = 0
    accounts: dict[str, dict[str, int]] = {}

    def send(i: int) -> None:
        if i < joined:
            message.header.stamp = node.get_clock().now().to_msg()
            publishers[i].publish(message)
            sent[i] += 1

    def on_diagnostics(array: DiagnosticArray) -> None:
        for status in array.status:
            values = {v.key: int(v.value) for v in status.values if v.key.startswith(("frames_", "dropped_"))}
            if values:
                accounts[status.name.rpartition(" ")[2]] = values

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    for i, rate in enumerate(rates):
        node.create_timer(1 / rate, lambda i=i: send(i))
    samples: list[dict[str, Any]] = []
    started = time.monotonic()
    next_sample, next_word = started + 1, started
    try:
        while time.monotonic() - started < 60 * args.minutes:
            executor.spin_once(timeout_sec=0.05)
            received = sum(a["frames_in"] for a in accounts.values())
            if received >= args.frames:
                break
            if accounts:  # it runs
                joined = min(len(rates), 1 + int(len(rates) * received / max(1, RAMP * args.frames)))
            if time.monotonic() < next_sample:
                continue
            next_sample += 1
            child.check()
            if not received and time.monotonic() - started > START_S:
                raise SystemExit(f"no frame in {START_S:g} s. The detector:\n{child.last_words()}")
            samples.append(
                {
                    "seconds": round(time.monotonic() - started, 2),
                    "sent": list(sent),
                    "accounts": {name: dict(values) for name, values in accounts.items()},
                    **of_process(child.process.pid),
                }
            )
            if time.monotonic() >= next_word:
                next_word += 15
                print(
                    "{} of {} frames, {} cameras, {rss_mb:.1f} MB, {descriptors} descriptors, "
                    "{threads} threads".format(received, args.frames, joined, **samples[-1]),
                    flush=True,
                )
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    return samples


def of_process(pid: int) -> dict[str, float]:
    """Resident memory, open descriptors and threads of a process, from /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def judge(samples: list[dict[str, Any]], rates: np.ndarray) -> dict[str, Any]:
    """Slopes by least squares over the samples after the warm-up, the accounts' sums, and fairness."""
    last = samples[-1]["accounts"]
    received = np.array([sum(a["frames_in"] for a in s["accounts"].values()) for s in samples])
    steady = received >= WARM * received[-1]
    growth = {}
    for key in ("rss_mb", "descriptors", "threads"):
        values = np.array([sample[key] for sample in samples])
        growth[key] = float(10_000 * np.polyfit(received[steady], values[steady], 1)[0])
    lost = {
        name: a["frames_in"] - sum(value for key, value in a.items() if key != "frames_in")
        for sample in samples
        for name, a in sample["accounts"].items()
    }
    first = next(s for s, k in zip(samples, steady) if k)["accounts"]
    names = [f"camera{i}" for i in range(len(rates))]
    gained = {
        key: np.array([last.get(n, {}).get(key, 0) - first.get(n, {}).get(key, 0) for n in names])
        for key in ("frames_in", "frames_out")
    }
    due = np.minimum(gained["frames_in"], gained["frames_out"].max())
    served = gained["frames_out"] / np.maximum(due, 1)
    flat = growth["rss_mb"] < MAX_GROWTH_MB and all(abs(growth[k]) < 1 for k in ("descriptors", "threads"))
    return {
        "passed": bool(flat and not any(lost.values()) and served.min() >= FAIR),
        "frames": int(received[-1]),
        "judged": int(sum(a["frames_out"] for a in last.values())),
        "minutes": round(samples[-1]["seconds"] / 60, 1),
        "growth_per_10k_frames": {key: round(value, 3) for key, value in growth.items()},
        "frames_without_account": int(sum(map(abs, lost.values()))),
        "lowest_served_share": round(float(served.min()), 3),
        "accounts": last,
    }


def draw(samples: list[dict[str, Any]], summary: dict[str, Any], path: Path) -> None:
    """Memory, descriptors and threads, and frames judged and dropped, over frames received."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    received = [sum(a["frames_in"] for a in s["accounts"].values()) for s in samples]
    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True, constrained_layout=True)
    axes[0].plot(received, [s["rss_mb"] for s in samples])
    axes[0].set(ylabel="resident memory, MB")
    figure.suptitle(
        f"{summary['frames']} frames, {len(summary['accounts'])} cameras, {summary['minutes']} minutes: "
        f"memory {summary['growth_per_10k_frames']['rss_mb']:+.2f} MB per 10,000 frames"
    )
    axes[0].set_ylim(bottom=0)
    for key in ("descriptors", "threads"):
        axes[1].plot(received, [s[key] for s in samples], label=key)
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    totals: dict[str, list[int]] = {}
    for sample in samples:
        for key in {k for a in sample["accounts"].values() for k in a} | set(totals):
            totals.setdefault(key, [0] * len(samples))
    for i, sample in enumerate(samples):
        for account in sample["accounts"].values():
            for key, value in account.items():
                totals[key][i] += value
    for key in sorted(k for k in totals if k.startswith("dropped_") or k == "frames_out"):
        axes[2].plot(received, totals[key], label=key)
    axes[2].set(ylabel="frames, all cameras", xlabel="frames received, all cameras")
    axes[2].legend()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
