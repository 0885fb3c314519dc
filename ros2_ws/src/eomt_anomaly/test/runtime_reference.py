# SPDX-License-Identifier: MIT
"""Plain numpy and slow: what the engine must give, without its code; and a tiny model that says something."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from eomt_anomaly.model import EomtExt, EomtExtConfig


def tiny_model(seed=2, **options):
    """A random network whose masks and classes differ from place to place; 5 classes, class 2 drivable."""
    torch.manual_seed(seed)
    labels = [{"id": i, "name": f"c{i}", "color": (i, i, i), "drivable": i == 2} for i in range(5)]
    model = EomtExt(EomtExtConfig.preset("tiny", **{"image_size": 56, "labels": labels, **options}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("backbone"):
                parameter.mul_(20 if "patch_embed" in name else 5)
            if name.endswith("gamma"):
                parameter.uniform_(0.2, 1)
        for head in (model.class_head, model.anomaly_head.fc2):
            head.weight.normal_(0, 1)
            head.bias.normal_(0, 0.5)
        model.mask_head.fc3.weight.normal_(0, 10)
    return model.eval()


def picture(height, width, seed=0):
    """uint8 [H,W,3]: smooth colours with some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x * random.uniform(.01, .1) + y * random.uniform(.01, .1) + random.uniform(0, 6))
             for _ in range(3)]
    noise = random.normal(0, 8, (height, width, 3))
    return np.clip(128 + 100 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def enlarge(logits, size):
    """[Q,h,w] -> [Q,H,W], bilinear."""
    x = torch.as_tensor(logits)[None].float()
    return F.interpolate(x, size, mode="bilinear", align_corners=False)[0].numpy()


def naive(mask_logits, class_logits, anomaly_logits, size):
    """Logits [Q,h,w], [Q,C+1], [Q,3] of one image -> U [C,H,W] and 1 - exp(-AnomalyMap) [H,W], float64."""
    masks = 1 / (1 + np.exp(-enlarge(mask_logits, size).astype(np.float64)))               # [Q,H,W]
    semantic = np.tensordot(softmax(class_logits)[:, :-1].T, masks, 1)
    anomaly = np.tensordot(softmax(anomaly_logits)[:, 1], masks, 1)
    return semantic, 1 - np.exp(-anomaly)


def join(windows, plan):
    """One map of each window, [n,h,w] -> [H,W] by OpenCV: each enlarged, averaged where they overlap."""
    def resize(x, size):
        return cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR)

    if len(windows) == 1 and plan.window == plan.scaled:
        return resize(windows[0], plan.image)
    total, count = np.zeros(plan.scaled, np.float32), np.zeros(plan.scaled, np.float32)
    for window, crop in zip(windows, plan.crops()):
        total[crop] += resize(window, plan.window)
        count[crop] += 1
    return resize(total / count, plan.image)
