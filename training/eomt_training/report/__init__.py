# SPDX-License-Identifier: MIT
"""What an evaluation showed, as one self-contained HTML file: tables, curves, histograms, pictures."""

from .figures import AnomalyFigures, Panel, anomaly_figures, semantic_panels
from .page import page

__all__ = ["AnomalyFigures", "Panel", "anomaly_figures", "page", "semantic_panels"]
