# SPDX-License-Identifier: MIT
"""What EoMT-EXT is measured against: ERFNet, a dense outlier-exposure head, plain EoMT."""

from __future__ import annotations

from pathlib import Path

from eomt_anomaly.model import EomtExt

from .dense import DenseConfig, DenseNet
from .erfnet import ErfNet, ErfNetConfig
from .files import kind_of
from .predictor import AnomalyPredictor, EomtExtPredictor

__all__ = ["AnomalyPredictor", "DenseConfig", "DenseNet", "EomtExtPredictor", "ErfNet", "ErfNetConfig",
           "open_predictor"]


def open_predictor(folder: str | Path, backbone: str | Path | None = None) -> AnomalyPredictor:
    """The network of a checkpoint folder of any kind, in eval mode, behind one interface.

    backbone: file or folder of the frozen backbone, where a checkpoint leaves it out and it is in no usual
    place. Raises FileNotFoundError or ValueError that says what is missing or does not fit.
    """
    kind = kind_of(folder)
    if kind == "erfnet":
        return ErfNet.from_pretrained(folder)
    if kind == "dense":
        return DenseNet.from_pretrained(folder, backbone)
    if kind == "eomt_ext":
        options = {} if backbone is None else {"backbone": backbone}
        return EomtExtPredictor(EomtExt.from_pretrained(folder, **options))
    raise ValueError(f"{folder}: unknown kind {kind!r}: choose a checkpoint of erfnet, dense or eomt_ext")
