# SPDX-License-Identifier: MIT
"""How right the outputs were, against ground truth: pixels, masks and obstacles.

Label pictures are uint8 [H,W]: class ids, 254 = anomaly, 255 = void (judged by nobody).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .recording import CAUTION, Box, Frame

ANOMALY, VOID = 254, 255
MAX_PIXELS = 30_000_000  # scores sorted at once: about 1 GB; more frames than that are thinned evenly
MIN_OBSTACLE_PX = 50  # smaller ground-truth components are neither hit nor missed
NEAR_ROAD = 0.02  # of the picture's height: how near the drivable surface an obstacle must be
HOLD_S = 2.0  # after an obstacle has gone the level is held on purpose
GAP_S = 1.0  # an obstacle unseen for longer is a new encounter


def pixel_quality(scores: np.ndarray, anomalous: np.ndarray) -> dict[str, float | None]:
    """Exact AuPRC (average precision) and FPR95 of flat arrays: float scores, bool truth.

    AuPRC = Σ (R_k − R_{k−1}) P_k over the distinct scores; FPR95 is the false-positive rate at the highest
    threshold that finds at least 95 % of the anomalous pixels. None where one of the two kinds is absent.
    """
    positives = int(anomalous.sum())
    negatives = anomalous.size - positives
    if not positives or not negatives:
        return {"auprc": None, "fpr95": None}
    order = np.argsort(-scores)
    ranked = scores[order]
    last = np.append(
        np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1
    )  # [K] last of each distinct score
    true = np.cumsum(anomalous[order])[last]  # [K] anomalous pixels found
    recall = true / positives
    auprc = float(np.sum(np.diff(recall, prepend=0.0) * true / (last + 1)))
    at95 = int(np.searchsorted(recall, 0.95))
    return {"auprc": auprc, "fpr95": float((last[at95] + 1 - true[at95]) / negatives)}


def confusion(mask: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 [C, C+1]: pixels by ground truth and prediction; the last column is "no class"."""
    known = labels < classes
    predicted = np.minimum(mask[known], classes).astype(np.int64)
    return np.bincount(
        labels[known].astype(np.int64) * (classes + 1) + predicted, minlength=classes * (classes + 1)
    ).reshape(classes, classes + 1)


def iou(matrix: np.ndarray) -> np.ndarray:
    """[C] intersection over union; NaN for a class that neither ground truth nor prediction has."""
    square = matrix[:, :-1]
    hit = np.diag(square)
    union = matrix.sum(1) + square.sum(0) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


@dataclass(frozen=True)
class Obstacle:
    """A connected anomalous component of the ground truth on or near the drivable surface."""

    x: int
    y: int
    width: int
    height: int
    area_px: int


def obstacles(
    labels: np.ndarray, drivable_ids: Sequence[int], min_area_px: int = MIN_OBSTACLE_PX
) -> list[Obstacle]:
    """The obstacles an alert is due for: big enough, and within NEAR_ROAD of the drivable surface."""
    reach = max(1, round(NEAR_ROAD * labels.shape[0]))
    road = cv2.dilate(
        np.isin(labels, list(drivable_ids)).astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)
    )
    count, components, stats, _ = cv2.connectedComponentsWithStats(
        (labels == ANOMALY).astype(np.uint8), connectivity=8
    )
    found = []
    for index in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[index])
        part = components[y : y + height, x : x + width] == index
        if area >= min_area_px and road[y : y + height, x : x + width][part].any():
            found.append(Obstacle(x, y, width, height, area))
    return found


def overlaps(obstacle: Obstacle, box: Box) -> bool:
    """Does the alert mean this obstacle? Half of its box lies in the obstacle's, or their IoU is ≥ 0.2."""
    width = min(obstacle.x + obstacle.width, box.x + box.width) - max(obstacle.x, box.x)
    height = min(obstacle.y + obstacle.height, box.y + box.height) - max(obstacle.y, box.y)
    if width <= 0 or height <= 0:
        return False
    common, alerted = width * height, box.width * box.height
    return common >= 0.5 * alerted or common >= 0.2 * (alerted + obstacle.width * obstacle.height - common)


def evaluate(
    frames: Sequence[Frame],
    labels_of: Mapping[int, np.ndarray],
    class_names: Sequence[str],
    drivable_ids: Sequence[int],
) -> dict:
    """Everything that can be said about these frames; `labels_of` maps Frame.index to its label picture.

    Returns {"pixels": AuPRC, FPR95 …, "masks": mIoU …, "obstacles": detection, delay and false alerts}.
    """
    return {
        "pixels": pixels(frames, labels_of),
        "masks": masks(frames, labels_of, class_names),
        "obstacles": obstacle_quality(frames, labels_of, drivable_ids),
    }


def pixels(frames: Sequence[Frame], labels_of: Mapping[int, np.ndarray]) -> dict:
    """AuPRC and FPR95 in [0, 1] of the heatmaps, over all pixels of the judged frames that are not void."""
    usable = [f for f in frames if f.judged and f.index in labels_of]
    size = max((labels_of[f.index].size for f in usable), default=1)
    chosen = usable[:: max(1, -(-len(usable) * size // MAX_PIXELS))]
    scores, truth, used = [], [], 0
    for frame in chosen:
        labels, heatmap = labels_of[frame.index], frame.maps("heatmap")
        if heatmap is None:
            continue
        _same_size(labels, heatmap, "heatmap")
        known = labels != VOID
        scores.append(heatmap[known])
        truth.append(labels[known] == ANOMALY)
        used += 1
    anomalous = np.concatenate(truth) if used else np.empty(0, bool)
    numbers = (
        pixel_quality(np.concatenate(scores), anomalous) if used else {"auprc": None, "fpr95": None}
    )
    share = float(anomalous.mean()) if anomalous.size else None  # all may be void
    return numbers | {"anomalous_share": share, "frames": used, "frames_judged": len(usable)}


def masks(frames: Sequence[Frame], labels_of: Mapping[int, np.ndarray], class_names: Sequence[str]) -> dict:
    """mIoU in [0, 1] and IoU by class, outside anomalies and void, over the judged frames."""
    matrix, used = np.zeros((len(class_names), len(class_names) + 1), np.int64), 0
    for frame in frames:
        if frame.judged and frame.index in labels_of and (mask := frame.maps("mask")) is not None:
            _same_size(labels_of[frame.index], mask, "mask")
            matrix += confusion(mask, labels_of[frame.index], len(class_names))
            used += 1
    each = iou(matrix)
    each[matrix.sum(1) == 0] = np.nan  # classes the ground truth never shows say nothing
    seen = ~np.isnan(each)
    return {
        "miou": float(each[seen].mean()) if seen.any() else None,
        "frames": used,
        "iou": {name: float(value) for name, value, ok in zip(class_names, each, seen) if ok},
    }


def obstacle_quality(
    frames: Sequence[Frame],
    labels_of: Mapping[int, np.ndarray],
    drivable_ids: Sequence[int],
    min_area_px: int = MIN_OBSTACLE_PX,
) -> dict:
    """Obstacles found on judged frames, encounters with their time to the first alert, and false alerts.

    An encounter is a stretch of ground-truth frames with an obstacle (gaps up to GAP_S). Its delay runs from
    the publishing of its first frame, judged or not, to the arrival of the first alert that overlaps one of
    its obstacles: dropped frames count against it. A judged frame without any anomalous pixel is clean,
    unless one was there within HOLD_S before; a false alert is a clean frame at CAUTION or above.
    """
    due = hit = clean = false_frames = boxes = stray = 0
    runs: list[dict] = []
    last_anomaly = -np.inf
    for frame in frames:
        labels = labels_of.get(frame.index)
        if labels is None:
            continue
        wanted = obstacles(labels, drivable_ids, min_area_px)
        if (labels == ANOMALY).any():
            last_anomaly = frame.sent_s
        if wanted:
            if not runs or frame.sent_s - runs[-1]["end"] > GAP_S:
                runs.append({"begin": frame.sent_s, "end": frame.sent_s, "alerted": None})
            runs[-1]["end"] = frame.sent_s
        if not frame.judged:
            continue
        alerted = [box for box in frame.boxes if box.level >= CAUTION]
        matched = [o for o in wanted if any(overlaps(o, box) for box in alerted)]
        due, hit = due + len(wanted), hit + len(matched)
        if matched and runs[-1]["alerted"] is None:
            runs[-1]["alerted"] = frame.received_s
        everything = obstacles(labels, range(VOID), 1)  # an alert on any anomalous pixel is not a false one
        boxes += len(alerted)
        stray += sum(not any(overlaps(o, box) for o in everything) for box in alerted)
        if frame.sent_s - last_anomaly > HOLD_S:
            clean += 1
            false_frames += frame.level >= CAUTION
    delays = [run["alerted"] - run["begin"] for run in runs if run["alerted"] is not None]
    return {
        "obstacles_due": due,
        "obstacles_found": hit,
        "recall": hit / due if due else None,
        "encounters": len(runs),
        "encounters_alerted": len(delays),
        "time_to_first_alert_s": [round(delay, 3) for delay in delays],
        "encounter_spans_s": [[round(run["begin"], 3), round(run["end"], 3)] for run in runs],
        "clean_frames": clean,
        "false_alert_frames": false_frames,
        "alert_boxes": boxes,
        "stray_boxes": stray,
        "min_obstacle_px": min_area_px,
    }


def _same_size(labels: np.ndarray, picture: np.ndarray, name: str) -> None:
    if labels.shape != picture.shape:
        raise ValueError(
            f"the ground truth is {labels.shape[1]} x {labels.shape[0]} px, but the {name} is "
            f"{picture.shape[1]} x {picture.shape[0]}: they must show the same pixels"
        )
