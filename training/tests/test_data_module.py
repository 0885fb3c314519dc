# SPDX-License-Identifier: MIT
"""The data module: data sets by name, recipes that hold together, weather that leaves the rest alone."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import jsonargparse
import lightning
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from eomt_anomaly.model import EomtExtConfig
from eomt_training.data.datamodule import RoadDataModule
from eomt_training.data.datasets import DATASETS, open_dataset
from eomt_training.data.folders import Sample
from eomt_training.data.transforms import Augmentation, augment
from eomt_training.evaluation.frames import pasted
from eomt_training.evaluation.unseen import unseen_objects
from eomt_training.labels import LABELS
from eomt_training.targets import IGNORE, OUTLIER

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = [
    "cityscapes/base_640",
    "cityscapes/large_1024",
    "ade20k/base_512",
    "coco/base_640",
    "camvid/small_476",
]


def test_a_data_set_by_name_from_folder_to_batch(cityscapes_root, stamps_root):
    def batch(seed):
        module = RoadDataModule(
            dataset="cityscapes", root=cityscapes_root, stamps_root=str(stamps_root), image_size=56,
            batch_size=4, paste_probability=1.0, augmentation=Augmentation(weather=0.5), seed=seed,
        )  # fmt: skip
        module.setup("fit")
        return next(iter(module.train_dataloader())), module

    (first, module), (again, _), (other, _) = batch(0), batch(0), batch(1)
    assert torch.equal(first["pixels"], again["pixels"]) and not torch.equal(first["pixels"], other["pixels"])
    assert set(first["labels"].unique().tolist()) <= {0, 10, 13, OUTLIER, IGNORE}
    assert (first["labels"] == OUTLIER).any() and len(module.val_sets) == 2
    assert module.val_sets[0][0]["pixels"].shape == (3, 56, 112)


def test_frames_travel_to_a_spawned_worker(cityscapes_root):
    """Where processes are spawned and not forked, the frames are pickled; a trainer never can be."""
    module = RoadDataModule(dataset="cityscapes", root=cityscapes_root, image_size=56)
    module.setup("fit")
    module.trainer = SimpleNamespace(schedule=lambda step: 1.0)
    there = pickle.loads(pickle.dumps(module.train_frames))
    assert torch.equal(there[3]["pixels"], module.train_frames[3]["pixels"])
    assert module.trainer.schedule(0) == 1


def test_validation_pastes_what_the_evaluation_does(cityscapes_root, named_stamps, coco_root):
    """Cut-outs and COCO's objects in turns: else the one source would never be validated on."""
    roots = {"root": cityscapes_root, "stamps_root": str(named_stamps), "coco_root": str(coco_root)}
    module = RoadDataModule(dataset="cityscapes", image_size=56, seed=3, **roots)
    module.setup("validate")
    sources = unseen_objects([], named_stamps, coco_root, [label.name for label in LABELS["cityscapes"]])
    assert len(sources) == 2
    expected = pasted(module.val_sets[0].frames, sources, 3, module.ground_ids)
    for i in range(2):
        assert (module.val_sets[1].raw(i).image == expected[i].image).all()


def test_some_batches_are_small_and_whole(cityscapes_root):
    module = RoadDataModule(
        dataset="cityscapes", root=cityscapes_root, image_size=56, crop=(56, 84), batch_size=2,
        low_resolution=0.5, low_scale=0.5,
    )  # fmt: skip
    module.setup("fit")
    batches = [batch["pixels"].shape[-2:] for batch, _ in zip(module.train_dataloader(), range(20))]
    assert {(56, 84), (28, 42)} == {tuple(size) for size in batches}
    for share, crop in ((0.0, (56, 56)), (1.0, (28, 28))):
        module = RoadDataModule(image_size=56, low_resolution=share, low_scale=0.5)
        assert {module.sizes(step)[1] for step in range(20)} == {crop}
    with pytest.raises(ValueError, match="low_resolution = 2"):
        RoadDataModule(low_resolution=2)


def test_data_sets_have_classes_and_named_errors(cityscapes_root):
    assert set(DATASETS) == set(LABELS)
    with pytest.raises(ValueError, match="unknown data set 'kitti': choose one of camvid, cityscapes"):
        open_dataset("kitti", cityscapes_root, "train")
    with pytest.raises(ValueError, match="dataset = 'kitti'"):
        RoadDataModule(dataset="kitti", root=cityscapes_root)
    with pytest.raises(ValueError, match="give the folder of the data set cityscapes"):
        RoadDataModule(dataset="cityscapes")
    with pytest.raises(ValueError, match="rendered drives have CamVid's classes"):
        RoadDataModule(dataset="cityscapes", root=cityscapes_root, drives_root=cityscapes_root)


def test_a_model_with_other_classes_is_refused(cityscapes_root):
    class Trainer:
        class lightning_module:
            hparams = {"labels": "camvid"}

    module = RoadDataModule(dataset="cityscapes", root=cityscapes_root, image_size=56)
    module.trainer = Trainer()
    with pytest.raises(ValueError, match="the data set is cityscapes, the model learns camvid"):
        module.setup("fit")


def test_a_checkpoint_that_would_name_another_size_than_it_is_trained_at_is_refused(cityscapes_root):
    class Trainer:
        class lightning_module:
            hparams = {"labels": "cityscapes"}
            net = SimpleNamespace(config=EomtExtConfig(image_size=476))

    module = RoadDataModule(dataset="cityscapes", root=cityscapes_root, image_size=252)
    module.trainer = Trainer()
    module.setup("validate")
    with pytest.raises(ValueError, match="data.image_size = 252, model.options.image_size = 476"):
        module.setup("fit")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_hold_together(recipe):
    """Every recipe's data options are the module's, and its crops, classes and sizes are the model's."""
    config = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(RoadDataModule, "data")
    data = parser.instantiate_classes(parser.parse_object({"data": config["data"]})).data
    model = EomtExtConfig.preset(
        config["model"]["size"], labels=LABELS[config["model"]["labels"]], **config["model"]["options"]
    )
    assert data.dataset == config["model"]["labels"] and data.patch_size == model.patch_size
    assert data.image_size == model.image_size and data.image_size % model.patch_size == 0
    with pytest.raises(FileNotFoundError, match="missing"):
        data.root = "nowhere"
        data.setup("fit")


def frame():
    rng = np.random.default_rng(0)
    return Sample(rng.integers(0, 255, (90, 120, 3), np.uint8), rng.integers(0, 5, (90, 120), np.uint8), "x")


def test_weather_changes_pictures_alone_and_draws_nothing_when_off():
    def out(**options):
        how = Augmentation(colour=0, night=0, blur=0, noise=0, jpeg=0, **options)
        return augment(frame(), 84, (70, 84), np.random.default_rng(7), how)

    clear, off, foggy = out(), out(weather_kinds=("fog",)), out(weather=1.0, weather_kinds=("fog",))
    assert (clear.image == off.image).all()
    assert (clear.labels == foggy.labels).all() and (clear.image != foggy.image).any()
    with pytest.raises(ValueError, match="unknown weather 'hail'"):
        Augmentation(weather_kinds=("hail",))


def test_fog_thickens_towards_the_horizon_wherever_the_crop_lies():
    rows = np.arange(200, dtype=np.uint8)[:, None].repeat(200, 1)  # a label for each row of the frame
    sample = Sample(np.full((200, 200, 3), 40, np.uint8), rows, "x")
    how = Augmentation(
        scale=(1, 1), colour=0, night=0, blur=0, noise=0, jpeg=0, weather=1.0, weather_kinds=("fog",),
        weather_severity=(0.8, 0.8),
    )  # fmt: skip
    crops = [augment(sample, 200, (60, 200), np.random.default_rng(seed), how) for seed in range(40)]
    at = np.concatenate([crop.labels[:, 0] for crop in crops])
    light = np.concatenate([crop.image.mean((1, 2)) for crop in crops])
    far, near = light[(at > 75) & (at < 105)], light[at > 170]
    assert far.mean() > near.mean() + 20, "the horizon is at 0.4 of the frame's height, not of the crop's"


def test_a_class_left_out_is_unlabelled_in_training_and_validation(camvid_root, drives_root, stamps_root):
    def labels(**options):
        module = RoadDataModule(
            camvid_root=str(camvid_root), drives_root=str(drives_root), stamps_root=str(stamps_root),
            image_size=56, val_frames=2, **options,
        )  # fmt: skip
        module.setup("fit")
        frames = [module.train_frames[i] for i in range(8)] + [x for part in module.val_sets for x in part]
        return {int(value) for frame in frames for value in frame["labels"].unique()}

    assert labels() == {0, 3, 8, OUTLIER, IGNORE}
    assert labels(left_out=("car",)) == {0, 3, OUTLIER, IGNORE}
    with pytest.raises(ValueError, match="cannot leave out wombat: the classes are sky, "):
        labels(left_out=("wombat",))


class Seeds(lightning.LightningModule):
    """Learns nothing; ``seen`` are the seeds of the samples it was given, a list a batch."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, index):
        self.seen.append(batch["seed"].tolist())
        return 0 * self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def seeds(cityscapes_root, folder, checkpoint=None, **options):
    """The seeds of the samples of a run of five steps of two."""
    data = RoadDataModule(dataset="cityscapes", root=cityscapes_root, image_size=56, batch_size=2)
    keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=5, max_epochs=-1, callbacks=[keep], logger=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    module = Seeds()
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=False)
    return module.seen


def test_no_sample_comes_twice_however_the_run_is_cut(cityscapes_root, tmp_path):
    whole = seeds(cityscapes_root, tmp_path / "whole")
    assert len(whole) == 5 and len(set(sum(whole, []))) == 10
    assert seeds(cityscapes_root, tmp_path / "epochs", limit_train_batches=2) == whole, "epochs of two steps"
    for run, options in (("whole", {}), ("epochs", {"limit_train_batches": 2})):
        resumed = seeds(cityscapes_root, tmp_path / "resumed", tmp_path / run / "step=3.ckpt", **options)
        assert resumed == whole[3:], run


@pytest.mark.parametrize(("accumulated", "processes"), [(1, 1), (4, 1), (1, 4)])
def test_an_epoch_holds_a_whole_run_of_any_length(cityscapes_root, accumulated, processes):
    """coco/base_640.yaml: 90000 steps of 16 are more than a million samples."""
    module = RoadDataModule(dataset="cityscapes", root=cityscapes_root, image_size=56, batch_size=16)
    module.setup("fit")
    at_start = lightning.Trainer(accelerator="cpu", logger=False).fit_loop
    module.trainer = SimpleNamespace(
        max_steps=90_000, accumulate_grad_batches=accumulated, world_size=processes,
        global_rank=processes - 1, fit_loop=at_start,
    )  # fmt: skip
    loader = module.train_dataloader()
    assert len(loader) > 90_000 * accumulated
    assert next(iter(loader.sampler)) == processes - 1
