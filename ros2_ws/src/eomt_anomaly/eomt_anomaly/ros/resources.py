# SPDX-License-Identifier: MIT
"""What a process takes: CPU time, memory, threads and descriptors from /proc, GPU memory from nvidia-smi."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PERIOD_S, GPU_PERIOD_S = 0.2, 1.0
WARM = 0.3  # share of a run left out of the memory's slope: allocators and caches fill
FLAT_SHARE, FLAT_MB = 0.02, 8.0  # memory counts as flat that grows by less than either of these
SLOPE_FRAMES = 1000  # below so many the slope for 10,000 is mostly noise
NAMES = ("time_s", "cpu_s", "rss_mb", "threads", "descriptors", "gpu_mb")
Sample = tuple[float, float, float, int, int, "float | None"]  # NAMES


@dataclass
class Sampler:
    """Samples process `pid` in a thread while the context is entered; None: nothing is sampled.

    `samples` are tuples of `NAMES`: seconds since the context was entered, CPU seconds since the process
    began, resident MB, counts, and MB of GPU memory in use (None without nvidia-smi). The GPU figure is the
    process's own where the driver tells, else of all GPUs together.
    """

    pid: int | None
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> Sampler:
        self._over = threading.Event()
        self._gpu_read = float("-inf")
        self._gpu: float | None = None
        self._smi = shutil.which("nvidia-smi")
        self._begin = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def keep(self, begin: float, end: float) -> None:
        """Forget the samples beyond those that enclose `begin` to `end` (seconds, on time.monotonic())."""
        times = [sample[0] for sample in self.samples]
        first = max(bisect_right(times, begin - self._begin) - 1, 0)
        self.samples = self.samples[first : bisect_left(times, end - self._begin) + 1]

    def summary(self, frames: int = 0) -> dict[str, Any] | None:
        """The samples in numbers, with CPU time for each of `frames`; None for too few samples."""
        return summarize(self.samples, frames)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # the process has ended: what was sampled stands
                if self.pid is not None:
                    cpu, rss, threads, descriptors = read_process(self.pid)
                    now = time.monotonic() - self._begin
                    self.samples.append((now, cpu, rss, threads, descriptors, self._gpu_mb()))
            if self._over.wait(PERIOD_S):
                return

    def _gpu_mb(self) -> float | None:
        now = time.monotonic()
        if self._smi and now - self._gpu_read > GPU_PERIOD_S:
            self._gpu, self._gpu_read = read_gpu(self._smi, self.pid), now
        return self._gpu


def read_process(pid: int) -> tuple[float, float, int, int]:
    """(CPU s of all its threads, resident MB, threads, open descriptors). Raises OSError if it has ended."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(") ")[2].split()  # after the name: field 3 of proc(5)
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    rss = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return cpu, rss, int(fields[17]), len(list((folder / "fd").iterdir()))


def read_gpu(smi: str, pid: int | None) -> float | None:
    """MB of GPU memory that the process has, or all GPUs where the driver does not tell; None if it fails."""
    for query, mine in (("compute-apps=pid,used_memory", True), ("gpu=index,memory.used", False)):
        try:
            done = subprocess.run(
                [smi, f"--query-{query}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        rows = [row.split(",") for row in done.stdout.splitlines() if "," in row]
        wanted = [value.strip() for key, value in rows if not mine or key.strip() == str(pid)]
        if wanted and all(value.isdigit() for value in wanted):
            return sum(map(int, wanted)) * 2**20 / 1e6
    return None


def summarize(samples: list[Sample], frames: int = 0) -> dict[str, Any] | None:
    """CPU (100 % is one core), resident memory and its slope, peaks of threads, descriptors, GPU memory."""
    if len(samples) < 2:
        return None
    columns = dict(zip(NAMES, zip(*samples)))
    seconds = columns["time_s"][-1] - columns["time_s"][0]
    cpu = columns["cpu_s"][-1] - columns["cpu_s"][0]
    time_s, rss = (np.asarray(columns[name], np.float64) for name in ("time_s", "rss_mb"))
    late = time_s >= time_s[0] + WARM * seconds
    slope = np.polyfit(time_s[late], rss[late], 1)[0] if late.sum() > 1 else 0.0  # MB/s
    fifth = max(late.sum() // 5, 1)
    growth = float(np.median(rss[late][-fifth:]) - np.median(rss[late][:fifth]))
    limit = max(FLAT_MB, FLAT_SHARE * float(np.median(rss)))
    gpu = [value for value in columns["gpu_mb"] if value is not None]
    per_frame = seconds / max(frames, 1)
    return {
        "seconds": round(seconds, 2),
        "cpu_percent": round(100 * cpu / seconds, 1),
        "cpu_ms_per_frame": round(1e3 * cpu / frames, 2) if frames else None,
        "rss_mb": {"first": round(rss[0], 1), "last": round(rss[-1], 1), "max": round(rss.max(), 1)},
        "rss_growth_mb": round(growth, 2),
        "rss_mb_per_10k_frames": round(slope * per_frame * 1e4, 1) if frames >= SLOPE_FRAMES else None,
        "rss_growth_limit_mb": round(limit, 2),
        "memory_flat": growth <= limit,
        "threads_max": max(columns["threads"]),
        "descriptors_max": max(columns["descriptors"]),
        "gpu_memory_mb": max(gpu) if gpu else None,
    }
