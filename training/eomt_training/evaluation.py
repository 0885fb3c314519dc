# SPDX-License-Identifier: MIT
"""How good a checkpoint is on labelled frames: classes, every anomaly score, and controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from eomt_anomaly.model import EomtExt, scores

from .data.datamodule import CONTROL_CLASSES
from .data.folders import Sample, SegmentationFolder
from .data.paste import paste_control, paste_objects
from .data.transforms import fit_short_side, to_tensors
from .metrics.anomaly import PixelMetrics
from .metrics.semantic import ConfusionMatrix
from .targets import IGNORE, OUTLIER

Progress = Callable[[Iterable[int]], Iterable[int]]


class Predictor:
    """Runs a model on whole frames and returns maps at the frame's own size.

    Args:
        short_side: px to which a frame's short side is scaled; None: as the model was trained.
        dtype: autocast type; scores are always float32.
    """

    def __init__(
        self,
        model: EomtExt,
        short_side: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ):
        self.model, self.dtype, self.device = model.eval().to(device), dtype, device
        self.short_side = short_side or model.config.image_size

    @torch.inference_mode()
    def __call__(self, sample: Sample, names: Sequence[str] = ()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Class map uint8 [H,W] and the named scores, float32 [H,W]; ``eomt_ext`` is bounded to [0,1)."""
        config = self.model.config
        fitted = fit_short_side(sample, self.short_side, config.patch_size)
        pixels = to_tensors(fitted, config.pixel_mean, config.pixel_std)["pixels"][None].to(self.device)
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            output = self.model(pixels)
        logits = (output.mask_logits.float(), output.class_logits.float(), output.anomaly_logits.float())

        def full_size(maps: torch.Tensor) -> torch.Tensor:  # [1,K,h,w] -> [K,H,W]
            return F.interpolate(maps, size=sample.labels.shape, mode="bilinear", align_corners=False)[0]

        classes = full_size(scores.semantic_map(*logits[:2])).argmax(0).byte().cpu().numpy()
        found = {name: full_size(scores.SCORES[name](*logits)[:, None])[0] for name in names}
        if "eomt_ext" in found:
            found["eomt_ext"] = scores.bounded(found["eomt_ext"])
        return classes, {name: value.cpu().numpy() for name, value in found.items()}


def evaluate_semantic(
    predict: Predictor, frames: SegmentationFolder, progress: Progress = iter
) -> dict[str, Any]:
    """mIoU, mean and overall accuracy and IoU by class name, all in %."""
    labels = predict.model.config.labels
    confusion = ConfusionMatrix(len(labels))
    for i in progress(range(len(frames))):
        confusion.update(predict(frames[i])[0], frames[i].labels)
    result = confusion.compute()
    return {
        "frames": len(frames),
        **{k: 100 * result[k] for k in ("miou", "macc", "aacc")},
        "iou": {label.name: 100 * float(value) for label, value in zip(labels, result["iou"])},
    }


def anomaly_truth(labels: np.ndarray) -> np.ndarray:
    """Label image -> 0 normal, 1 anomaly, 255 void."""
    return np.where(labels == OUTLIER, 1, np.where(labels == IGNORE, IGNORE, 0)).astype(np.uint8)


def evaluate_anomaly(
    predict: Predictor,
    frames: SegmentationFolder,
    cutouts: Sequence[np.ndarray] | None,
    seed: int,
    names: Sequence[str] = tuple(scores.SCORES),
    progress: Progress = iter,
) -> dict[str, Any]:
    """AuPRC, AUROC, FPR95 (in %) of every score on the same forward passes, with 95 % intervals over frames.

    ``cutouts`` are pasted into each frame (the choice depends on seed and index alone); None: the frames have
    outliers of their own.
    """
    truths: list[np.ndarray] = []
    maps: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for i in progress(range(len(frames))):
        sample = frames[i]
        if cutouts is not None:
            sample = paste_objects(sample, cutouts, np.random.default_rng((seed, i)))
        truths.append(anomaly_truth(sample.labels).ravel())
        for name, value in predict(sample, names)[1].items():
            maps[name].append(value.ravel())
    pooled = np.concatenate(truths)
    rows = {}
    for name in names:
        metrics = PixelMetrics()
        metrics.update(np.concatenate(maps[name]), pooled)
        result = metrics.compute()
        low, high = bootstrap_auprc(maps[name], truths, seed)
        rows[name] = {
            **{k: 100 * result[k] for k in ("auprc", "auroc", "fpr95", "best_f1")},
            "auprc_low": 100 * low,
            "auprc_high": 100 * high,
            "best_f1_threshold": result["best_f1_threshold"],
        }
    valid = pooled != IGNORE
    return {
        "frames": len(frames),
        "seed": seed,
        "prevalence": 100 * float((pooled == 1).sum() / valid.sum()),
        "scores": rows,
    }


def bootstrap_auprc(
    maps: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    seed: int,
    resamples: int = 400,
    bins: int = 2048,
) -> tuple[float, float]:
    """95 % interval of AuPRC when frames are drawn again.

    Scores are binned, half of the edges at quantiles of all pixels and half at those of the anomalous ones:
    these are few, and precision is decided among them.
    """
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([m[rng.integers(len(m), size=min(len(m), 20_000))] for m in maps])
    anomalous = np.concatenate([m[t == 1] for m, t in zip(maps, truths)])
    levels = np.linspace(0, 1, bins // 2)
    edges = np.unique(np.concatenate([np.quantile(pixels, levels), np.quantile(anomalous, levels)]))
    counts = np.zeros((len(maps), 2, len(edges) + 1))
    for i, (scores_i, truth) in enumerate(zip(maps, truths)):
        index = np.searchsorted(edges, scores_i, side="right")
        for row in (0, 1):
            counts[i, row] = np.bincount(index[truth == row], minlength=len(edges) + 1)
    values = []
    for _ in range(resamples):
        fp, tp = np.cumsum(counts[rng.integers(len(maps), size=len(maps))].sum(0)[:, ::-1], axis=1)
        if tp[-1] > 0:
            values.append(float(np.sum(np.diff(tp, prepend=0) / tp[-1] * tp / np.maximum(tp + fp, 1))))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def evaluate_control(
    predict: Predictor, frames: SegmentationFolder, threshold: float, seed: int, progress: Progress = iter
) -> dict[str, float]:
    """Share of pixels (in %) at or above ``threshold`` on ordinary segments that were pasted.

    A detector of paste edges fires on ``pasted``; ``around`` is the rest of the same frames, ``before`` the
    same place without the paste. Each pasted segment comes from another frame and keeps its known class.
    ``excess`` is pasted - around in percentage points, with its 95 % interval when pastes are drawn again.
    """
    hits: list[list[int]] = []  # a row a paste: pixels that fire, pasted | around | before
    pixels: list[list[int]] = []
    for i in progress(range(len(frames))):
        rng = np.random.default_rng((seed, i))
        other = frames[int((i + rng.integers(1, len(frames))) % len(frames))]
        sample, pasted = paste_control(frames[i], other, rng, CONTROL_CLASSES)
        if not pasted.any():
            continue
        score = predict(sample, ("eomt_ext",))[1]["eomt_ext"]
        clean = predict(frames[i], ("eomt_ext",))[1]["eomt_ext"]
        near = cv2.dilate(pasted.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        regions = [(score, pasted), (score, ~near & (sample.labels != IGNORE)), (clean, pasted)]
        hits.append([int((values[mask] >= threshold).sum()) for values, mask in regions])
        pixels.append([int(mask.sum()) for _, mask in regions])
    if not hits:
        raise ValueError(f"no ordinary segment could be pasted into any of the {len(frames)} frames")
    fired, total = np.array(hits), np.array(pixels)  # [N,3]
    pasted_share, around_share, before_share = 100 * fired.sum(0) / total.sum(0)
    draws = np.random.default_rng(seed).integers(len(hits), size=(1000, len(hits)))
    shares = 100 * fired[draws].sum(1) / total[draws].sum(1)  # [1000,3]
    low, high = np.quantile(shares[:, 0] - shares[:, 1], [0.025, 0.975])
    return {
        "pastes": len(hits),
        "threshold": threshold,
        "pasted": float(pasted_share),
        "around": float(around_share),
        "before": float(before_share),
        "excess": float(pasted_share - around_share),
        "excess_low": float(low),
        "excess_high": float(high),
    }


def normal_scores(predict: Predictor, frames: SegmentationFolder, progress: Progress = iter) -> PixelMetrics:
    """Counts of the published eomt_ext score over the known pixels of frames as they are (calibration)."""
    metrics = PixelMetrics()
    for i in progress(range(len(frames))):
        score = predict(frames[i], ("eomt_ext",))[1]["eomt_ext"]
        metrics.update(score, anomaly_truth(frames[i].labels))
    return metrics
