# SPDX-License-Identifier: MIT
"""Which of Fast DDS's files in /dev/shm may be removed."""

import fcntl
import os

from eomt_anomaly.ros.shared_memory import YOUNG_S, remove_orphans


def segment(folder, name, age=YOUNG_S + 60, made_by="fastdds"):
    lock = folder / f"{made_by}_{name}_el"
    (folder / f"{made_by}_{name}").write_bytes(b"x" * 1000)
    lock.touch()
    moment = lock.stat().st_mtime - age
    os.utime(lock, (moment, moment))
    return lock


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_what_nobody_owns_is_removed_and_counted(tmp_path):
    segment(tmp_path, "0" * 16)
    segment(tmp_path, "1" * 16, made_by="fastrtps")   # Jazzy's Fast DDS 2
    assert remove_orphans(tmp_path) == 2000 and not names(tmp_path)
    assert remove_orphans(tmp_path) == 0


def test_what_a_living_process_owns_stays(tmp_path):
    with segment(tmp_path, "a" * 16).open("r+") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == 0 and len(names(tmp_path)) == 2
    assert remove_orphans(tmp_path) == 1000   # the owner is gone


def test_what_is_being_made_or_is_no_segment_stays(tmp_path):
    segment(tmp_path, "b" * 16, age=YOUNG_S - 5)
    segment(tmp_path, "port7411")
    (tmp_path / "sem.fastdds_port7411_mutex").touch()
    before = names(tmp_path)
    assert remove_orphans(tmp_path) == 0 and names(tmp_path) == before


def test_a_lock_without_its_segment_is_removed_and_no_folder_is_no_error(tmp_path):
    segment(tmp_path, "c" * 16)
    (tmp_path / f"fastdds_{'c' * 16}").unlink()
    assert remove_orphans(tmp_path) == 0 and not names(tmp_path)
    assert remove_orphans(tmp_path / "none") == 0
