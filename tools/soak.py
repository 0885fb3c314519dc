#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the live detector for tens of thousands of frames and says whether anything grows or is lost.

  python tools/soak.py --frames 50000 --output out/soak               # a tiny network, random weights
  python tools/soak.py --frames 500 --checkpoint default --size 640 360 --cameras 1

Cameras with moving pictures join one after the other, each with its own rate between 5 and 30 Hz; the first
sends JPEG, the last has a calibration, and its overlay, mask and cloud are read, as are all alerts. Every
second: resident memory, open file descriptors and threads of the detector's process, and its books. When
enough frames have come, sending stops, and the books are closed when nothing is pending. Leaves soak.json and
soak.png; the exit status is 0 only if every check in soak.json is met.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ros2_ws/src/eomt_anomaly")]

import soak_traffic  # noqa: E402
from soak_report import MAX_TRANSPORT, books, draw, judge, table  # noqa: E402

from eomt_anomaly.ros.processes import Child, isolate, write_parameters  # noqa: E402

RATES_HZ = (5.0, 30.0)
RAMP = 0.2  # share of the run in which cameras join
START_S = 600.0  # as the node's build_timeout
DRAIN_S = 60.0


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
    parser.add_argument(
        "--max-transport-loss", type=float, default=MAX_TRANSPORT, help="share of what is sent"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="give up after so long")
    parser.add_argument("--output", type=Path, default=Path("out/soak"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    isolate()
    with tempfile.TemporaryDirectory() as folder:
        arguments = detector_arguments(args, Path(folder))
        with Child("eomt_anomaly.ros.detector", arguments, args.output / "detector.log") as child:
            samples, cameras, pictures = record(child, args)
    summary = judge(samples, cameras, pictures, args.frames, args.max_transport_loss) | {
        "frames_wanted": args.frames,
        "checkpoint": args.checkpoint or "tiny, random weights",
        "size": list(args.size),
        "host": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
    (args.output / "soak.json").write_text(json.dumps({**summary, "samples": samples}, indent=1) + "\n")
    draw(samples, summary, args.output / "soak.png")
    print(json.dumps({key: value for key, value in summary.items() if key != "cameras"}, indent=2))
    print(table(summary))
    return 0 if summary["passed"] else 1


def detector_arguments(args: argparse.Namespace, folder: Path) -> list[str]:
    """Arguments of the detector: its cameras, its checkpoint, and a size to warm up for."""
    parameters = soak_traffic.parameters(args.cameras) | {"max_batch": 4}
    parameters |= {f"{name}.warmup_size": list(args.size) for name in soak_traffic.names(args.cameras)}
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


def record(
    child: Child, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], dict[str, int]]:
    """Send until enough has reached the node, and drain: samples, each camera's books, pictures read."""
    rclpy.init()
    node = rclpy.create_node("soak", enable_rosout=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    names = soak_traffic.names(args.cameras)
    readers = soak_traffic.Readers(node, names)
    cameras = [
        soak_traffic.Camera(node, name, tuple(args.size), jpeg=i == 0, calibrated=i == len(names) - 1)
        for i, name in enumerate(names)
    ]
    for camera, rate in zip(cameras, np.linspace(*RATES_HZ, len(cameras))):
        node.create_timer(1 / rate, camera.send)
    samples: list[dict[str, Any]] = []
    started = time.monotonic()
    next_sample, next_word = started + 1, started

    def step() -> None:
        nonlocal next_sample, next_word
        executor.spin_once(timeout_sec=0.05)
        if time.monotonic() < next_sample:
            return
        next_sample += 1
        child.check()
        samples.append(
            {
                "seconds": round(time.monotonic() - started, 2),
                "sent": [camera.sent for camera in cameras],
                "accounts": dict(readers.accounts),
                **of_process(child.process.pid),
            }
        )
        if time.monotonic() >= next_word:
            next_word += 15
            print(
                "{} of {} frames, {} cameras, {rss_mb:.1f} MB, {descriptors} descriptors, "
                "{threads} threads".format(
                    readers.received, args.frames, sum(c.sending for c in cameras), **samples[-1]
                ),
                flush=True,
            )

    try:
        while readers.received < args.frames and time.monotonic() - started < 60 * args.minutes:
            step()
            if not readers.received and time.monotonic() - started > START_S:
                raise SystemExit(f"no frame in {START_S:g} s. The detector:\n{child.last_words()}")
            if readers.accounts and all(camera.connected() for camera in cameras):  # it runs
                joined = 1 + int(len(cameras) * readers.received / max(1, RAMP * args.frames))
                for camera in cameras[:joined]:
                    camera.sending = True
        drain(step, cameras, readers)
        accounts = dict(readers.accounts)
        found = books({camera.name: camera.sent for camera in cameras}, accounts, readers.alerts)
        return samples, found, readers.pictures
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def drain(
    step: Callable[[], None], cameras: list[soak_traffic.Camera], readers: soak_traffic.Readers
) -> None:
    """Stop sending; spin until two books in succession are the same and nothing is pending."""
    for camera in cameras:
        camera.sending = False
    stopped = time.monotonic()
    before, heard = None, stopped + 1  # what is on its way may arrive
    while time.monotonic() - stopped < DRAIN_S:
        step()
        if readers.heard > heard:
            now = dict(readers.accounts)
            if now == before and not readers.pending:
                return
            before, heard = now, readers.heard


def of_process(pid: int) -> dict[str, float]:
    """Resident memory, open descriptors and threads of a process, from /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


if __name__ == "__main__":
    sys.exit(main())
