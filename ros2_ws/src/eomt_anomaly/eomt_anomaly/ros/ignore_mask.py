# SPDX-License-Identifier: MIT
"""Where the vehicle sees itself: a picture file that the parameter `CAM.ignore_mask` names."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from .compressed import InvalidInput


def read_mask(camera: str, file: str) -> np.ndarray | None:
    """bool [H,W], True where the picture is white; None for "". Raises ValueError if it cannot be read."""
    if not file:
        return None
    picture = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ValueError(f"{camera}.ignore_mask is {file!r}: no such picture file")
    return picture > 127


def check_mask(mask: np.ndarray | None, picture: Any) -> None:
    """Raises InvalidInput for a mask of another size than the picture [H,W,3]."""
    if mask is not None and mask.shape != picture.shape[:2]:
        its, pictures = ("x".join(map(str, shape[1::-1])) for shape in (mask.shape, picture.shape))
        raise InvalidInput(f"ignore_mask is {its} px, but the picture is {pictures}: "
                           "give one of the picture's size")
