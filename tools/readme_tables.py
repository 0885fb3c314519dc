# SPDX-License-Identifier: MIT
"""Writes the parameter tables of README.md anew from the code; a test fails while they differ.

Needs the environment that `make` sets up: `python tools/readme_tables.py`.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ros2_ws/src/eomt_anomaly"))

from eomt_anomaly.ros.parameters import markdown  # noqa: E402

BLOCK = re.compile(r"(<!-- parameters: .*? -->\n).*?(\n<!-- /parameters -->)", re.DOTALL)


def main() -> None:
    """Replace the block between the two comments. Raises SystemExit where they are missing."""
    readme = ROOT / "README.md"
    text, count = BLOCK.subn(lambda m: m[1] + markdown().strip() + m[2], readme.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{readme} has {count} parameter blocks: keep the two comments around the tables")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
