# SPDX-License-Identifier: MIT
"""Make the installed ROS 2 wheels usable for building messages: `.venv/bin/python tools/fix_ros_paths.py`.

The cmake files in the wheels name the header folders of the machine that built them
(`/opt/python/cp311-cp311/...`). They are replaced by this interpreter's. Running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

# Such as /opt/python/cp311-cp311/include/python3.11 and .../python3.11/site-packages/numpy/_core/include
PYTHON_HEADERS = re.compile(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+")
NUMPY_HEADERS = re.compile(r"/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages/numpy/_?core/include")
FOREIGN = "/opt/python/cp"


def fix(prefix: Path, python_headers: str, numpy_headers: str) -> list[Path]:
    """Replace the foreign header folders in every cmake file of `prefix`; return the files changed.

    Raises ValueError if a file still names a folder of the build machine afterwards.
    """
    changed = []
    for path in cmake_files(prefix):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if FOREIGN not in text:
            continue
        # Functions, so that a backslash in a path is not read as a group.
        fixed = PYTHON_HEADERS.sub(lambda _: python_headers, text)
        fixed = NUMPY_HEADERS.sub(lambda _: numpy_headers, fixed)
        if FOREIGN in fixed:
            start = fixed.index(FOREIGN)
            raise ValueError(
                f"{path} names {fixed[start : start + 90].split(';')[0]!r}, which this script does not know; "
                "pin the ROS wheels of requirements/ros.txt, or extend tools/fix_ros_paths.py"
            )
        # Written beside and moved over: pip may have hard-linked the file from its cache.
        scratch = path.with_name(path.name + ".new")
        scratch.write_text(fixed, encoding="utf-8", errors="surrogateescape")
        scratch.replace(path)
        changed.append(path)
    return changed


def cmake_files(prefix: Path) -> list[Path]:
    """The exported cmake files below `prefix`, sorted."""
    return sorted(path for folder in ("share", "lib/cmake") for path in (prefix / folder).rglob("*.cmake"))


def main() -> int:
    try:
        import numpy
    except ImportError:
        print(
            f"error: {sys.executable} has no numpy; run it after `pip install -r requirements/ros.txt`",
            file=sys.stderr,
        )
        return 1
    prefix = Path(sys.prefix)
    if not cmake_files(prefix):
        print(
            f"error: no cmake files below {prefix}/share: {sys.executable} has no ROS 2 wheels",
            file=sys.stderr,
        )
        return 1
    headers = sysconfig.get_path("include")
    if not (Path(headers) / "Python.h").is_file():
        print(
            f"error: {headers}/Python.h is missing; install Python's headers (Debian: apt install "
            f"python3.{sys.version_info.minor}-dev)",
            file=sys.stderr,
        )
        return 1
    try:
        changed = fix(prefix, headers, numpy.get_include())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(changed)} cmake files mended" if changed else "cmake files already mended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
