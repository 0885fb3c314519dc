# SPDX-License-Identifier: MIT
"""EoMT-EXT, torch in and torch out: no ROS, no files but its own checkpoints."""

from . import scores
from .config import Decoder, EomtExtConfig, Label, patches
from .eomt_ext import ANOMALY, NORMAL, VOID, EomtExt, EomtExtOutput

__all__ = ["ANOMALY", "NORMAL", "VOID", "Decoder", "EomtExt", "EomtExtConfig", "EomtExtOutput", "Label",
           "patches", "scores"]
