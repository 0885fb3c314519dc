# SPDX-License-Identifier: MIT
"""The recipes that are not trained here run as they are written, and a run repeats bit for bit."""

import json
import shutil

import cv2
import fit
import numpy as np
import pytest
import torch
import yaml
from recipe_runs import NETWORK, TRAINING, metrics_of, shrunk

from eomt_anomaly.model import EomtExt
from eomt_training.labels import LABELS

SMALL = {
    "model.size": "tiny", "model.backbone": "null", "model.options": json.dumps(NETWORK),
    "model.loss.num_points": 256, "data.image_size": 56, "data.batch_size": 2, "data.num_workers": 0,
    "data.val_frames": 1, "data.paste_probability": 1, "trainer.max_steps": 2,
    "trainer.val_check_interval": 2, "trainer.precision": "32-true", "trainer.accelerator": "cpu",
    "trainer.log_every_n_steps": 1, "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}  # fmt: skip


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def data(tmp_path, cityscapes_root, coco_root, stamps_root):
    """Arguments that name a miniature of each data set and of what its recipe pastes."""
    rng = np.random.default_rng(0)
    ade, coco = tmp_path / "ade", tmp_path / "panoptic"
    below = np.repeat(np.arange(64) > 30, 96).reshape(64, 96)  # a road below a sky
    for split, year in (("training", "train2017"), ("validation", "val2017")):
        listing = []
        for i in range(3):
            picture = rng.integers(0, 255, (64, 96, 3), np.uint8)
            write(ade / f"images/{split}/{i}.jpg", picture)
            write(ade / f"annotations/{split}/{i}.png", np.where(below, 7, 3).astype(np.uint8))
            write(coco / f"{year}/{i}.jpg", picture)
            segments = np.zeros((64, 96, 3), np.uint8)  # blue, green, red: segments 1 and 2
            segments[..., 2] = np.where(below, 1, 2)
            write(coco / f"annotations/panoptic_{year}/{i}.png", segments)
            classes = [{"id": 1, "category_id": 149}, {"id": 2, "category_id": 187}]  # road, sky
            listing.append({"file_name": f"{i}.png", "segments_info": classes})
        (coco / f"annotations/panoptic_{year}.json").write_text(json.dumps({"annotations": listing}))
    tools = tmp_path / "stamps"  # animals are a class of ADE20K
    shutil.copytree(stamps_root / "animals", tools / "tools")
    return {
        "cityscapes": {"data.root": cityscapes_root, "data.coco_root": coco_root},
        "ade20k": {"data.root": ade, "data.stamps_root": tools},
        "coco": {"data.root": coco, "data.stamps_root": stamps_root},
    }


def test_a_command_line_is_taken_without_a_warning(monkeypatch, capsys, recwarn):
    monkeypatch.setattr("sys.argv", ["fit.py", "fit", "--config", str(fit.DEFAULT_RECIPE), "--print_config"])
    with pytest.raises(SystemExit):
        fit.main()
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert trainer["max_steps"] == 750
    assert trainer["devices"] == 1, "on a machine with four GPUs a recipe is the same"
    assert not [one for one in recwarn if "args" in str(one.message)]


def test_a_second_file_adds_to_the_models_options(tmp_path, capsys):
    """One option of its own drops none of the recipe's; what the command line says after it wins."""
    changes = tmp_path / "changes.yaml"
    changes.write_text("model: {options: {dense_anomaly: true, num_queries: 30}}")
    files = ["--config", str(fit.DEFAULT_RECIPE), "--config", str(changes)]
    with pytest.raises(SystemExit):
        fit.main(["fit", *files, "--model.options.image_size=252", "--print_config"])
    recipe = yaml.safe_load(fit.DEFAULT_RECIPE.read_text())["model"]
    model = yaml.safe_load(capsys.readouterr().out)["model"]
    changed = {"dense_anomaly": True, "num_queries": 30, "image_size": 252}
    assert model["options"] == {**recipe["options"], **changed}
    assert model["lr"] == recipe["lr"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", ["cityscapes/base_640", "cityscapes/large_1024", "ade20k/base_512", "coco/base_640"]
)
def test_a_recipe_runs_on_a_miniature_with_a_small_network(recipe, data, tmp_path):
    dataset = recipe.split("/")[0]
    options = {**SMALL, **data[dataset], "trainer.default_root_dir": tmp_path}
    config = TRAINING / f"configs/{recipe}.yaml"
    fit.main(["fit", "--config", str(config), *(f"--{name}={value}" for name, value in options.items())])
    found = metrics_of(tmp_path / "version_0")
    assert len(found["train/loss"]) == 2 and np.isfinite(found["train/loss"]).all()
    assert {"val/miou", "val/auprc_eomt_ext"} <= found.keys(), "clean frames, and pasted objects"
    labels = EomtExt.from_pretrained(tmp_path / "version_0/checkpoint").config.labels
    assert [label.name for label in labels] == [label.name for label in LABELS[dataset]]


def test_a_run_repeats_bit_for_bit(camvid_root, drives_root, stamps_root, tmp_path):
    def weights_and_metrics(name, seed):
        root = tmp_path / name
        fit.main([*shrunk(camvid_root, drives_root, stamps_root, root, seed_everything=seed)])
        last = root / "version_0/checkpoints/last.ckpt"
        return torch.load(last, weights_only=False)["state_dict"], metrics_of(root / "version_0")

    (weights, metrics), (again, same), (other, _) = (
        weights_and_metrics(name, seed) for name, seed in (("one", 3), ("two", 3), ("other", 4))
    )
    assert weights.keys() == again.keys() and all(torch.equal(w, again[name]) for name, w in weights.items())
    assert metrics == same and {"train/loss", "val/miou", "val/auprc_eomt_ext"} <= metrics.keys()
    assert any(not torch.equal(w, other[name]) for name, w in weights.items()), "the seed decides"
