# SPDX-License-Identifier: MIT
"""Sequences on disk, as `render_sequences.py` writes them: FOLDER/NAME/{images,labels}/, sequence.json.

Label images: a class id, 200 + the id of an obstacle, 255 void.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..json_files import read_object

OBSTACLE, VOID = 200, 255
SPECK_PX = 30  # an obstacle of fewer visible pixels is not in the frame: nobody could say what it is
ABOUT = "sequence.json"


@dataclass(frozen=True)
class Visible:
    """An obstacle in a frame: share of the picture in [0,1], metres away, box (x, y, width, height) in px."""

    obstacle: int
    share: float
    distance_m: float
    box: tuple[int, int, int, int]


class Sequence:
    """One rendered drive. `about` is sequence.json: rate_hz, size, K, height_m, pitch_rad, obstacles, ..."""

    def __init__(self, folder: Path):
        """Raises FileNotFoundError or ValueError, naming the folder, for what is no finished sequence."""
        path = folder / ABOUT
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: render the sequence with render_sequences.py")
        self.folder, self.name = folder, folder.name
        self.about = read_object(path)
        needed = {"rate_hz", "size", "K", "height_m", "pitch_rad", "obstacles", "distances_m"}
        missing = needed - self.about.keys()
        if missing:
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: render it again")

    def __len__(self) -> int:
        return len(self.about["distances_m"])

    @property
    def clean(self) -> bool:
        """Whether it has no obstacle at all."""
        return not self.about["obstacles"]

    def image(self, index: int) -> np.ndarray:
        """RGB uint8 [H,W,3]."""
        return self._read("images", f"{index:05d}.jpg", cv2.IMREAD_COLOR)[..., ::-1]

    def labels(self, index: int) -> np.ndarray:
        """uint8 [H,W]."""
        return self._read("labels", f"{index:05d}.png", cv2.IMREAD_UNCHANGED)

    def visible(self, index: int) -> list[Visible]:
        """The obstacles in a frame."""
        away = {int(k): v for k, v in self.about["distances_m"][index].items()}
        return visible(self.labels(index), away)

    def _read(self, kind: str, file: str, how: int) -> np.ndarray:
        picture = cv2.imread(str(self.folder / kind / file), how)
        if picture is None:
            raise FileNotFoundError(f"{self.folder / kind / file} cannot be read: render the sequence again")
        return picture


def visible(labels: np.ndarray, distances_m: dict[int, float]) -> list[Visible]:
    """Obstacles with at least SPECK_PX pixels in a label image uint8 [H,W]."""
    found = []
    for obstacle, away in distances_m.items():
        mask = (labels == OBSTACLE + obstacle).astype(np.uint8)
        pixels = int(mask.sum())
        if pixels >= SPECK_PX:
            x, y, w, h = cv2.boundingRect(mask)
            found.append(Visible(obstacle, pixels / mask.size, away, (x, y, w, h)))
    return found


def open_sequences(root: Path) -> list[Sequence]:
    """Every finished sequence in a folder, by name. Raises FileNotFoundError where there is none."""
    found = [Sequence(path.parent) for path in sorted(root.glob(f"*/{ABOUT}"))]
    if not found:
        raise FileNotFoundError(f"no sequences in {root}: render some with render_sequences.py")
    return found
