# SPDX-License-Identifier: MIT
"""`calibration.json` of a checkpoint folder: the threshold of a score, and the weights it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .checkpoint import CALIBRATION, read_json
from .scores import SCORES


def read_calibration(folder: Path, sha256: str) -> dict[str, Any]:
    """calibration.json of a folder: `score` (in SCORES), `threshold` in (0,1), more; {} if no file.

    `other_sizes`, a list of the same for other short sides, may be among it: see `for_size`.

    Raises ValueError, with the remedy, for one that is not valid, or whose `weights_sha256` is not `sha256`:
    its threshold says nothing about these weights.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
        _check_calibration(values, sha256)
        others = values.get("other_sizes", [])
        if not isinstance(others, list):
            raise ValueError("other_sizes must be a list")
        for other in others:
            _check_calibration(other, sha256)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a valid calibration: {error}; "
                         "write it anew with training/evaluate.py calibrate") from error
    return values


def _check_calibration(values: Any, sha256: str) -> None:
    if not isinstance(values, dict) or values.get("score") not in list(SCORES):   # it may be unhashable
        raise ValueError(f"score must be one of {', '.join(SCORES)}")
    threshold = values.get("threshold")
    if not isinstance(threshold, float) or not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold is {threshold!r}, but must lie between 0 and 1")
    if (calibrated := values.get("weights_sha256", sha256)) != sha256:
        raise ValueError(f"it was made for weights {str(calibrated)[:8]}, but these are {sha256[:8]}")


def for_size(calibration: dict[str, Any], short_side: int, score: str | None = None) -> dict[str, Any]:
    """The calibration made at this short side (px) and, if given, of this score; else the file's first."""
    found = [calibration, *calibration.get("other_sizes", [])]
    return next((one for one in found if one.get("short_side") == short_side
                 and score in (None, one.get("score"))), calibration)
