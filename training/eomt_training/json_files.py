# SPDX-License-Identifier: MIT
"""JSON that earlier runs left: damage is told with the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file's object. Raises OSError, or ValueError that names the file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no JSON object: give it as it was written")
    return found
