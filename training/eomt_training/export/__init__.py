# SPDX-License-Identifier: MIT
"""From a checkpoint to an exported folder (`eomt_anomaly.runtime.exported`): graph, description, parity."""

from eomt_anomaly.runtime.onnx_graph import ExportGraph

from .folder import export_folder
from .parity import TOLERANCE

__all__ = ["TOLERANCE", "ExportGraph", "export_folder"]
