# SPDX-License-Identifier: MIT
"""From a checkpoint to an exported folder (`eomt_anomaly.runtime.exported`): graph, description, parity."""

from .folder import export_folder
from .graph import ExportGraph
from .parity import TOLERANCE

__all__ = ["TOLERANCE", "ExportGraph", "export_folder"]
