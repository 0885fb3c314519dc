# SPDX-License-Identifier: MIT
"""Peak memory of one contestant or stage, in a process of its own (this module is its main).

Resident memory before the first image and at its highest while images run; on a GPU torch's allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from . import contestants, stages
from .setting import Setting, Skipped

RUNS = 2
RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc: larger blocks go back to the system when freed
MODULE = __name__ if __name__ != "__main__" else __spec__.name


class Failed(RuntimeError):
    """The child gave no answer; the text has its last line."""


def peak(name: str, setting: Setting, work: Path, timeout_s: float = 1800) -> dict[str, Any]:
    """`built_mb`, `peak_mb`, their difference `extra_mb`; on CUDA also `gpu_built_mb`, `gpu_peak_mb`.

    All in 1e6 bytes. name: of a contestant, or of a way through a stage (`stages`). work: the folder of
    graphs, so that the child need not write them. Raises Failed with the child's words, or after `timeout_s`.
    """
    job = json.dumps({"name": name, "setting": asdict(setting), "work": str(work)})
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with tempfile.TemporaryFile("w+") as errors:
        try:
            child = subprocess.run(
                [sys.executable, "-m", MODULE, job],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=timeout_s,
                env={**os.environ, **RETURN_FREED, "PYTHONPATH": path},
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"its process was not done after {timeout_s:g} s") from error
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if child.returncode:
        raise Failed(
            f"its process ended with status {child.returncode}: {said[-1] if said else 'no message'}"
        )
    return json.loads(child.stdout.strip().splitlines()[-1])


@torch.inference_mode()
def measure(name: str, setting: Setting, work: Path) -> dict[str, Any]:
    """What the child does; see `peak`. Meaningless in a process that has done other things."""
    setting.set_threads()
    device = torch.device(setting.device)
    run, before, close = _subject(name, setting, work)
    before()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another libc than glibc
        ctypes.CDLL(None).malloc_trim(0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        gpu = {"gpu_built_mb": torch.cuda.memory_allocated(device) / 1e6}
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew (proc(5))
    built = _status("VmRSS")
    for _ in range(RUNS):
        before()
        run()
    highest = _status("VmHWM")
    found = {"built_mb": built, "peak_mb": highest, "extra_mb": highest - built}
    if device.type == "cuda":
        found |= gpu | {"gpu_peak_mb": torch.cuda.max_memory_allocated(device) / 1e6}
    close()
    return {key: round(value, 1) for key, value in found.items()}


def _subject(
    name: str, setting: Setting, work: Path
) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], None]]:
    """What to run, what comes before each run, and what ends it."""
    model = setting.model()
    if name.split()[-1] in stages.OURS:
        ways = stages.build_stages(setting, model)
        ways.runs[name]()  # what libraries allocate once is not the stage's
        return ways.runs[name], ways.before, lambda: None
    contestant, images = contestants.build(name, setting, model, work), setting.images()
    return lambda: contestant.run(images), lambda: None, contestant.close


def _status(field: str) -> float:
    """A field of /proc/self/status, 1e6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status has no {field}: memory cannot be measured here")


def main(argv: list[str]) -> int:
    job = json.loads(argv[0])
    values = job["setting"]
    setting = Setting(**{**values, "size": tuple(values["size"])})
    try:
        print(json.dumps(measure(job["name"], setting, Path(job["work"]))))
    except (Skipped, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
