# SPDX-License-Identifier: MIT
"""What killed processes left of Fast DDS's shared memory. Without this, each kill costs the machine a segment
(64 MB with our profile) until /dev/shm is full and no camera picture gets through."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

LOCK = re.compile(r"(fastdds|fastrtps)_[0-9a-f]{16}_el")   # from Fast DDS 3 on; before (Jazzy)
YOUNG_S = 10.0   # a process that is just starting opens its lock file before it locks it


def remove_orphans(folder: Path = Path("/dev/shm")) -> int:
    """Remove the segments that no living process owns; returns their bytes.

    While its owner lives, whoever that is, Fast DDS holds `flock` on the file `…_el` of a segment; the tool
    `fastdds shm clean` goes by that, too. Files of other users or of processes that start now are left alone.
    """
    freed = 0
    for lock in folder.glob("fast*_el"):
        try:
            if LOCK.fullmatch(lock.name) and time.time() - lock.stat().st_mtime > YOUNG_S and _is_free(lock):
                segment = lock.with_name(lock.name.removesuffix("_el"))
                freed += segment.stat().st_size if segment.exists() else 0
                segment.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        except (FileNotFoundError, PermissionError):
            pass   # somebody else's, or gone meanwhile
    return freed


def _is_free(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)   # let go of with the descriptor
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
