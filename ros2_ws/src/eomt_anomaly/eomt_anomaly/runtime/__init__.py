# SPDX-License-Identifier: MIT
"""Runs the network fast: images in, maps out."""

from .engine import Engine, Ticket
from .errors import InvalidImage, NonFiniteOutput
from .pipeline import Prediction

__all__ = ["Engine", "InvalidImage", "NonFiniteOutput", "Prediction", "Ticket"]
