# SPDX-License-Identifier: MIT
"""A known class as a natural anomaly: a network that never learns it is asked whether it is surprised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eomt_anomaly.model import Label

from .folders import Frames, Sample


class LeftOut:
    """The frames with another label wherever a class of ``names`` is: IGNORE to train, OUTLIER to evaluate.

    Raises ValueError for a name that is no class of ``labels``.
    """

    def __init__(self, frames: Frames, names: Sequence[str], labels: Sequence[Label], value: int):
        ids = {label.name: label.id for label in labels}
        if unknown := [name for name in names if name not in ids]:
            raise ValueError(f"cannot leave out {', '.join(unknown)}: the classes are {', '.join(ids)}")
        self.frames, self.value = frames, value
        self.ids = np.array([ids[name] for name in names])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        sample = self.frames[index]
        labels = np.where(np.isin(sample.labels, self.ids), np.uint8(self.value), sample.labels)
        return Sample(sample.image, labels, sample.name)
