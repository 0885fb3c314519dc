# SPDX-License-Identifier: MIT
"""How good a checkpoint is on labelled frames: classes, every anomaly score, controls, its threshold."""

from .anomaly import Anomalies, evaluate_anomaly, summary
from .calibration import beside, calibration, normal_scores
from .control import evaluate_control
from .frames import anomaly_truth
from .predictor import Predictor, Predicts
from .semantic import Progress, class_colors, evaluate_semantic

__all__ = [
    "Anomalies",
    "Predictor",
    "Predicts",
    "Progress",
    "anomaly_truth",
    "beside",
    "calibration",
    "class_colors",
    "evaluate_anomaly",
    "evaluate_control",
    "evaluate_semantic",
    "normal_scores",
    "summary",
]
