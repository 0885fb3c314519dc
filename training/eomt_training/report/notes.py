# SPDX-License-Identifier: MIT
"""What the report says about its own numbers."""

SCORES = (
    "All in %. Under AuPRC its 95 % interval when frames are drawn again. On road: drivable pixels and "
    "anomalies only. TNR@80: true-negative rate where 80 % of the anomalous pixels fire. sIoU, PPV, F1*: "
    "components at the best-F1 threshold, as in SegmentMeIfYouCan's {track} track."
)
MASK2ANOMALY = (
    "mask2anomaly is our variant of Rai et al. (2023): the strongest confident mask is of every class and "
    "soft; the authors' code takes stuff other than road and sidewalk, and binarises it at 0.5."
)
CONDITIONS = "“Fires” is at the checkpoint's alert threshold: what bad weather alone does to the alerts."
CURVES = "Dashed: a random score's precision, and TPR 95 %. The legend says AuPRC in %."
HISTOGRAMS = (
    "Filled: normal pixels; outlined: anomalous ones; each as a share of its kind, on a logarithmic scale. "
    "Dashed: the best-F1 threshold."
)
ANOMALY_FRAMES = (
    "By AuPRC of {main} in the frame. Picture, classes, score (blue: familiar, red: anomalous). Violet "
    "outlines: ground truth; white outlines: at or above the alert threshold."
)
CONFUSION = "A row is a true class; its cells say as what its pixels were labelled, in % of the row."
SEMANTIC_FRAMES = (
    "By mIoU in the frame. Picture, prediction, ground truth (black: unlabelled), mistakes in red."
)
