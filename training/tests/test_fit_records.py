# SPDX-License-Identifier: MIT
"""What a user sees of a run: pictures, the bar, where it stops, and what it leaves when it breaks off."""

import json
import re
import sys

import cv2
import fit
import lightning
import numpy as np
import pytest
import torch
import yaml
from recipe_runs import TRAINING, metrics_of, shrunk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eomt_training.evaluation.provenance import git_commit
from eomt_training.labels import CAMVID


@pytest.fixture
def arguments(tmp_path, camvid_root, drives_root, stamps_root):
    return lambda **options: shrunk(camvid_root, drives_root, stamps_root, tmp_path, **options)


def test_each_validation_shows_image_labels_prediction_and_anomaly(arguments, tmp_path, camvid_root):
    fit.main([*arguments(data__paste_probability=0), "--overlays.frames=2"])
    events = EventAccumulator(str(tmp_path / "version_0"), size_guidance={"images": 0})
    tags = set(events.Reload().Tags()["images"])
    assert tags == {f"val_samples/{kind}/{i}" for kind in ("clean", "outliers") for i in (0, 1)}

    def parts(tag):
        (image,) = events.Images(tag)
        assert image.step == 3
        code = np.frombuffer(image.encoded_image_string, np.uint8)
        return np.split(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1], 4, axis=1)

    picture, labels, prediction, anomaly = parts("val_samples/clean/0")
    colors = {label.color for label in CAMVID}
    road = cv2.imread(str(sorted((camvid_root / "val").glob("*.png"))[0]))[22, 50, ::-1]
    assert np.abs(picture[28, 60].astype(int) - road).max() < 25
    assert {tuple(c) for c in labels.reshape(-1, 3).tolist()} <= colors | {(0, 0, 0)}
    assert {tuple(c) for c in prediction.reshape(-1, 3).tolist()} <= colors
    assert anomaly.std() > 0 and not np.array_equal(anomaly, prediction)
    assert (parts("val_samples/outliers/0")[1] == (255, 0, 255)).all(-1).any(), "outliers stand out"


def test_overlays_can_be_left_out(arguments, tmp_path):
    fit.main([*arguments(trainer__max_steps=1, trainer__val_check_interval=1), "--overlays.frames=0"])
    assert not EventAccumulator(str(tmp_path / "version_0")).Reload().Tags()["images"]


def test_a_run_that_gets_no_better_stops_early(arguments, tmp_path):
    """Nothing is learned at a rate of 0: the first validation is the best, and three more are waited for."""
    given = arguments(model__lr=0, trainer__max_steps=20, trainer__val_check_interval=1, data__val_frames=1)
    fit.main([*given[:3], "--config", str(TRAINING / "configs/early_stop.yaml"), *given[3:]])
    assert len(metrics_of(tmp_path / "version_0")["val/miou"]) == 4
    assert json.loads((tmp_path / "version_0/environment.json").read_text())["steps"] == 4
    kept = yaml.safe_load((tmp_path / "version_0/config.yaml").read_text())["trainer"]["callbacks"]
    assert [c["class_path"].rpartition(".")[2] for c in kept] == [
        "ExponentialAverage", "ModelCheckpoint", "LearningRateMonitor", "EarlyStopping"
    ]  # fmt: skip


def test_the_bar_counts_the_whole_run_and_tells_the_remaining_time(arguments, tmp_path, capsys):
    options = {"trainer__enable_progress_bar": "true", "trainer__accumulate_grad_batches": 2}
    fit.main(arguments(**options, data__batch_size=1))
    assert re.search(r" 6/6 \[\d+:\d+<00:00", capsys.readouterr().out), "three steps of two batches"
    resumed = {**options, "trainer__max_steps": 5, "trainer__val_check_interval": 5}
    last = tmp_path / "version_0/checkpoints/last.ckpt"
    fit.main(arguments(**resumed, data__batch_size=1, ckpt_path=last))
    bars = re.findall(r" (\d+)/(\d+) \[\d+:\d+<(\S+),", capsys.readouterr().out)
    train = [bar for bar in bars if bar[1] == "10"]
    assert train[-1] == ("10", "10", "00:00")
    assert not {str(done) for done in range(1, 6)} & {bar[0] for bar in train}, "goes on at the sixth batch"


SAVE_EVERY_2 = """
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {save_top_k: -1, save_last: true, every_n_train_steps: 2, filename: "{step}"}
"""


def test_the_last_checkpoint_is_of_the_last_step_and_the_bar_goes_on_within_a_run(
    arguments, tmp_path, capsys
):
    """Three steps, saved every two; a break after the second is one as a user has it."""
    (tmp_path / "save.yaml").write_text(SAVE_EVERY_2)

    def train(**options):
        given = arguments(**options)
        fit.main([*given[:3], "--config", str(tmp_path / "save.yaml"), *given[3:]])

    train()
    folder = tmp_path / "version_0/checkpoints"
    steps = {path.name: torch.load(path, weights_only=False)["global_step"] for path in folder.iterdir()}
    assert steps == {"step=2.ckpt": 2, "last.ckpt": 3}
    capsys.readouterr()
    train(ckpt_path=folder / "step=2.ckpt", trainer__enable_progress_bar="true")
    bars = re.findall(r"(?:Training|Epoch 0): .*?(\d+/\S+) \[", capsys.readouterr().out)
    assert "3/3" in bars and set(bars) <= {"0/?", "2/3", "3/3"}, "empty until training starts"


def test_a_run_that_breaks_off_says_what_it_was(arguments, tmp_path, monkeypatch):
    class Break(lightning.Callback):
        def on_train_batch_end(self, *args):
            raise RuntimeError("power cut")

    monkeypatch.setattr(fit.Cli, "before_fit", lambda cli: cli.trainer.callbacks.append(Break()))
    with pytest.raises(RuntimeError, match="power cut"):
        fit.main(arguments())
    folder = tmp_path / "version_0"
    found = json.loads((folder / "environment.json").read_text())
    assert found["git_commit"] == git_commit() and found["seed"] == 0 and found["steps"] == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 3 and config["model"]["freeze"] == "backbone"
    assert not (folder / "checkpoint").exists()


def test_weights_and_biases_is_asked_for_by_name(arguments, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(SystemExit, match="--wandb roads needs the package wandb: pip install wandb"):
        fit.main([*arguments(), "--wandb=roads"])
    with pytest.raises(SystemExit, match="leave it out"):
        fit.main([*arguments(trainer__logger="false"), "--wandb=roads"])
    assert "wandb" not in sys.modules


def test_weights_and_biases_works_offline(arguments, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="optional, not in requirements/: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit.main([*arguments(), "--wandb=roads"])
    summary = dict(wandb.run.summary)
    wandb.finish()
    assert summary["val/miou"] >= 0 and "val_samples/outliers/0" in summary
    assert list((tmp_path / "wandb").glob("offline-run-*"))
