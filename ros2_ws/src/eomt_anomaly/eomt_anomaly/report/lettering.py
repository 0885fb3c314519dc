# SPDX-License-Identifier: MIT
"""Words in pictures, of the live overlay and of reports."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def put_text(picture: np.ndarray, text: str, at: tuple[int, int], scale: float, color: Sequence[int]) -> None:
    """Draw text into a picture, uint8 [H,W,3], with a black edge, so that it reads on any ground.

    at: (x, y) of the lower left corner, px. scale: OpenCV's; 1 is letters of about 22 px. color: as the
    picture's channels.
    """
    thickness, edge = max(1, round(1.6 * scale)), max(1, round(scale))
    # The edge is the same letters beside themselves: thicker ones are wider in OpenCV 5.
    around = [(right * edge, down * edge) for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    ink = tuple(int(channel) for channel in color)
    for (right, down), shade in [*((step, (0, 0, 0)) for step in around), ((0, 0), ink)]:
        cv2.putText(picture, text, (at[0] + right, at[1] + down), cv2.FONT_HERSHEY_SIMPLEX, scale, shade,
                    thickness, cv2.LINE_AA)
