# SPDX-License-Identifier: MIT
"""Runs of `fit.py` as a user starts them, on miniatures and a tiny random network."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

TRAINING = Path(__file__).resolve().parents[1]
RECIPE = TRAINING / "configs/camvid/small_476.yaml"
NETWORK = {"num_queries": 8, "detail_layer": 1, "upscale_channels": [24, 16], "image_size": 56}


def run(script, *args, **environment):
    """The finished process of ``python training/SCRIPT ARGS``."""
    return subprocess.run(
        [sys.executable, str(TRAINING / script), *map(str, args)],
        capture_output=True, text=True, timeout=300, env=os.environ | environment,
    )  # fmt: skip


def shrunk(camvid_root, drives_root, stamps_root, root, **options):
    """Arguments of ``fit.py fit`` for the default recipe in miniature; options override, dots as __."""
    values = {
        "data.camvid_root": camvid_root, "data.drives_root": drives_root, "data.stamps_root": stamps_root,
        "data.image_size": 56, "data.batch_size": 2, "data.val_frames": 3, "data.paste_probability": 0.7,
        "model.size": "tiny", "model.backbone": "null", "model.options": json.dumps(NETWORK),
        "model.deep_supervision": "true", "model.masked_attention": "true", "model.warmup": 1,
        "model.loss.num_points": 256,
        "trainer.max_steps": 3, "trainer.val_check_interval": 3, "trainer.log_every_n_steps": 1,
        "trainer.default_root_dir": root, "trainer.precision": "32-true", "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false",
    }  # fmt: skip
    values |= {name.replace("__", "."): value for name, value in options.items()}
    return ["fit", "--config", str(RECIPE), *(f"--{name}={value}" for name, value in values.items())]


def metrics_of(folder):
    """{column: its values in the order they were logged} of a run's metrics.csv."""
    columns = {}
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    columns.setdefault(name, []).append(float(value))
    return columns


def weights_at(folder, step):
    """The weights themselves and their moving average, after ``step`` steps of a run that kept them."""
    (path,) = (folder / "checkpoints").glob(f"*step={step}.ckpt")
    saved = torch.load(path, weights_only=False)
    return saved["current_model_state"], saved["state_dict"]


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
