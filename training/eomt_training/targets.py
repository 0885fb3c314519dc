# SPDX-License-Identifier: MIT
"""From a label image to the mask set that queries are matched with.

Label images are uint8: 0..C-1 a known class, `ORDINARY` what has no class and is nothing unusual (sand
beside a road, rock, water), `OUTLIER` an object no class covers, `IGNORE` unlabelled.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

ORDINARY, OUTLIER, IGNORE = 253, 254, 255


@dataclass
class Targets:
    """The masks of one image: a class each, one for all that is ordinary, one for all outliers."""

    labels: Tensor  # [H,W] long
    ids: Tensor  # [T] long, class id, ORDINARY or OUTLIER

    def labels_at(self, points: Tensor) -> Tensor:
        """Labels at points [..., P, 2] in [0,1] (x, y), nearest pixel -> [..., P]."""
        height, width = self.labels.shape
        x = (points[..., 0] * width).long().clamp_(0, width - 1)
        y = (points[..., 1] * height).long().clamp_(0, height - 1)
        return self.labels[y, x]


def targets_of(labels: Tensor) -> list[Targets]:
    """labels [B,H,W] -> one `Targets` for each image."""
    return [Targets(image, ids[ids != IGNORE]) for image in labels.long() for ids in [image.unique()]]
