# SPDX-License-Identifier: MIT
"""Outliers from cut-outs and COCO: disjoint objects, pasted as the options say."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from eomt_training.data.coco_objects import CocoObjects, split_of_category
from eomt_training.data.cutouts import category_words, load_cutouts, load_folder, words
from eomt_training.data.datamodule import RoadDataModule
from eomt_training.data.folders import Sample, camvid
from eomt_training.data.outliers import load_outliers
from eomt_training.data.paste import PasteOptions, anomaly_mix, cut_part, paste_control, paste_objects
from eomt_training.labels import LABELS
from eomt_training.targets import IGNORE, OUTLIER


def test_coco_objects_are_whole_and_premultiplied(coco_root):
    objects = CocoObjects(coco_root, "train", per_category=2)
    assert len(objects) == 2 * len(set(objects.categories)) and len(objects[0].shape) == 3
    rgba = objects[0]
    assert rgba.shape[2] == 4 and rgba.dtype == np.uint8 and 85 <= rgba.shape[1] <= 91
    assert (rgba[..., :3].max(2) <= rgba[..., 3]).all(), "colours are premultiplied by alpha"
    assert rgba[50, 40, 3] == 255


def test_coco_training_and_evaluation_objects_are_disjoint(coco_root):
    train, evaluation = (CocoObjects(coco_root, split) for split in ("train", "eval"))
    assert train.categories and evaluation.categories
    assert not set(train.categories) & set(evaluation.categories)
    assert {split_of_category(c) for c in train.categories} == {"train"}
    assert train.folder.name == "train2017" and evaluation.folder.name == "val2017", "no picture is shared"


def test_what_belongs_on_a_street_or_is_known_is_no_outlier(coco_root):
    both = {c for split in ("train", "eval") for c in CocoObjects(coco_root, split).categories}
    assert not both & {"car", "bicycle", "person", "traffic light", "bench"} and "boat" in both
    known = [label.name for label in LABELS["ade20k"]]
    left = {c for split in ("train",) for c in CocoObjects(coco_root, split, known).categories}
    assert not left & {"dog", "chair", "bed", "sports ball"}, (
        "animals, chairs, beds and balls are classes there"
    )
    with pytest.raises(FileNotFoundError, match="no usable object"):
        CocoObjects(coco_root, "train", [label.name for label in LABELS["coco"]])


def test_objects_of_two_sources_are_disjoint_too(coco_root, named_stamps):
    stamps, coco = str(named_stamps), str(coco_root)
    trained = set().union(*(words(Path(p)) for p in load_cutouts(stamps, "train")))
    trained |= set().union(*map(category_words, CocoObjects(coco, "train").categories))
    kept, objects = load_outliers(stamps, coco, "eval")
    assert 0 < len(kept) < len(load_cutouts(stamps, "eval")), "the test has something to leave out"
    assert set(objects.categories) < set(CocoObjects(coco, "eval").categories)
    assert not any(category_words(c) & trained for c in objects.categories)
    assert len(load_outliers(stamps, None, "eval")) == len(load_outliers(None, coco, "eval")) == 1


@pytest.fixture(scope="module")
def farm(tmp_path_factory, stamps_root):
    """Cut-outs of animals, plants and red tools, 20 each; evaluation has no red tool, as training has one."""
    root, photo = tmp_path_factory.mktemp("farm"), next(stamps_root.rglob("*x.png"))
    for folder, times, ending in (("animals", 3, ""), ("plants/green", 4, ""), ("tools", 5, "_red")):
        (root / folder).mkdir(parents=True)
        for letter in "abcdefghijklmnopqrst":
            shutil.copy(photo, root / folder / f"{letter * times}{ending}.png")
    return str(root)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_cut_out_of_a_known_class_is_no_outlier(farm, split):
    """A class by a word of the file's name or of its folders, singular or plural."""

    def count(*known):
        return sum(map(len, load_outliers(farm, None, split, known)))

    everything = [Path(path) for path in load_cutouts(farm, split)]
    plants = [path for path in everything if path.parts[0] == "plants"]
    assert 0 < len(plants) < len(everything) == count() == count("road", "plan", "nimal")
    assert count("potted plant") == count("plants") == len(everything) - len(plants)
    assert count(f"big {everything[0].stem}s") == len(everything) - 1
    with pytest.raises(FileNotFoundError, match=f"{farm} .* of a class .*: give .* of other things"):
        count("animal", "plant", "tool")


def test_a_known_training_object_still_decides_what_evaluation_has(farm):
    """Else a class more would bring objects into the evaluation, not only take some out of it."""
    known = [Path(path).stem.removesuffix("_red") for path in load_cutouts(farm, "train") if "_red" in path]
    assert known and len(load_outliers(farm, None, "eval", known)[0]) == len(load_cutouts(farm, "eval"))


def test_a_short_name_is_a_word_on_both_sides(stamps_root, tmp_path):
    """Else the tv that COCO trains would be pasted as unseen; of, in and the like say nothing."""
    assert words(Path("household/old_tv.png")) == category_words("old tv") == {"old", "tv"}
    assert words(Path("party-horn-in_mirror.png")) == {"party", "horn"}
    assert category_words("chest of drawers") == {"chest", "drawers"}
    photo = next(stamps_root.rglob("*x.png"))
    for name in ("tv", "fork"):
        shutil.copy(photo, tmp_path / f"{name}.png")
    assert list(load_folder(tmp_path, taken=category_words("tv"))) == ["fork.png"]


def test_missing_coco_names_the_remedy(tmp_path, coco_root):
    with pytest.raises(FileNotFoundError, match="instances_train2017.json is missing.*Train/Val annotations"):
        CocoObjects(tmp_path, "train")
    with pytest.raises(ValueError, match="train or eval"):
        CocoObjects(coco_root, "val")


@pytest.fixture(scope="module")
def street():
    labels = np.zeros((200, 300), np.uint8)
    labels[80:] = 3
    return Sample(np.full((200, 300, 3), 90, np.uint8), labels, "x")


@pytest.fixture(scope="module")
def disc():
    """A bright disc, premultiplied, with a soft rim."""
    alpha = cv2.GaussianBlur(cv2.circle(np.zeros((120, 120), np.uint8), (60, 60), 55, 255, -1), (9, 9), 2)
    return [np.dstack([(alpha * 0.9).astype(np.uint8)] * 3 + [alpha])]


def heights(sample):
    rows = np.flatnonzero((sample.labels == OUTLIER).any(1))
    return (rows.max() - rows.min() + 1, rows.max()) if rows.size else (0, 0)


def test_size_follows_perspective_and_the_options(street, disc):
    def ratio(size, seed):
        how = PasteOptions(count=(1, 1), size=size, anywhere=0)
        tall, foot = heights(paste_objects(street, disc, np.random.default_rng(seed), how=how))
        return tall / max(foot - 0.4 * 200, 8)

    small, large = ([ratio(size, seed) for seed in range(30)] for size in ((0.3, 0.4), (0.9, 1.0)))
    assert np.median(small) < 0.5 < 0.75 < np.median(large)


def test_objects_stand_on_the_ground_unless_anywhere(street, disc):
    how = PasteOptions(count=(1, 1), anywhere=0)
    grass = Sample(street.image, np.where(street.labels == 3, 9, 0).astype(np.uint8), "x")
    for seed in range(20):
        sample = paste_objects(grass, disc, np.random.default_rng(seed), surface_ids=(9,), how=how)
        assert heights(sample)[1] >= 75


def test_raw_edges_leave_the_object_as_it_was(street, disc):
    how = PasteOptions(harmonise=False, shadow=0, size=(1, 1))
    seen = [paste_objects(street, disc, np.random.default_rng(s), how=how) for s in range(10)]
    bright = [s.image[s.labels == OUTLIER] for s in seen if (s.labels == OUTLIER).any()]
    assert bright and all(b.min() >= 85 for b in bright), "no shadow, no halo"


def test_a_copied_segment_has_its_class_and_the_size_of_its_place(street):
    other = Sample(np.full((200, 300, 3), 200, np.uint8), np.zeros((200, 300), np.uint8), "y")
    other.labels[40:160, 100:140] = 9  # far larger than anything that stands at most places
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sample, mask = paste_control(street, other, rng, [9], 120, surface_ids=(3,), size=(0.9, 1.1))
        if mask.any():
            assert (sample.labels[mask] == 9).all() and not (sample.labels == OUTLIER).any()
            rows = np.flatnonzero(mask.any(1))
            drop = max(rows.max() - 0.4 * 200, 8)
            assert np.ptp(rows) + 1 == pytest.approx(min(drop, 100), rel=0.2, abs=4)


def test_copy_paste_brings_its_classes_and_no_outliers(camvid_root):
    def shares(**options):
        module = RoadDataModule(str(camvid_root), image_size=56, paste_probability=0.0, **options)
        module.setup("fit")
        labels = torch.stack([module.train_frames[i]["labels"] for i in range(40)])
        assert not (labels == OUTLIER).any()
        return (labels == 8).float().mean()

    options = {"copy_paste_classes": ("car",), "control_probability": 0.0}
    assert shares(copy_paste_probability=1.0, **options) > 1.2 * shares(**options)
    with pytest.raises(ValueError, match="copy_paste_classes = unicorn: give classes of camvid: sky,"):
        RoadDataModule(copy_paste_probability=0.5, copy_paste_classes=("unicorn",))
    with pytest.raises(ValueError, match=r"copy_paste_classes = \[\]"):
        RoadDataModule(copy_paste_probability=0.5, copy_paste_classes=())


@pytest.fixture(scope="module")
def elsewhere():
    """Another frame: every pixel brighter than any of the street's, two classes side by side."""
    labels = np.full((200, 300), 1, np.uint8)
    labels[:, 150:] = 5
    return Sample(np.full((200, 300, 3), 250, np.uint8), labels, "y")


def test_anomaly_mix_pastes_parts_of_the_other_frame_anywhere(street, elsewhere):
    how = PasteOptions(count=(1, 1), mix_size=(0.3, 0.3))
    mixed = [anomaly_mix(street, elsewhere, np.random.default_rng(s), how) for s in range(40)]
    for sample in mixed:
        pasted = sample.labels == OUTLIER
        assert pasted.any() and sample.image[pasted].min() > 120, "brighter than the street: from elsewhere"
        around = sample.image[sample.labels < 20].astype(int)
        assert np.abs(around - 90).max() < 25, "nothing else has changed: no shadow, no halo"
    above = [heights(sample) for sample in mixed]
    assert any(0 < foot < 80 for _, foot in above) and any(foot > 150 for _, foot in above), "sky and road"
    assert max(tall for tall, _ in above) <= 62


def test_a_part_is_unlike_its_place(street, elsewhere):
    """Cut where two classes meet; and road never comes to lie on road."""
    for seed in range(20):
        rgba, main = cut_part(Sample(elsewhere.labels[..., None].repeat(3, 2), elsewhere.labels, "y"),
                              np.random.default_rng(seed))  # fmt: skip
        inside = rgba[rgba[..., 3] == 255][:, 0]
        assert set(inside) == {1, 5} and main == np.bincount(inside).argmax()
        assert (rgba[rgba[..., 3] == 0] == 0).all(), "premultiplied"
    road = Sample(street.image, np.full((200, 300), 3, np.uint8), "x")
    one_class = anomaly_mix(road, road, np.random.default_rng(0))
    assert not (one_class.labels == OUTLIER).any()


@pytest.mark.parametrize("unlabelled", [1, 5])
def test_what_is_unlabelled_is_no_part_of_another_frame(street, elsewhere, unlabelled):
    """A class left out of training must not come back as an outlier."""
    labels = np.where(elsewhere.labels == unlabelled, IGNORE, elsewhere.labels).astype(np.uint8)
    image = np.where(labels[..., None] == IGNORE, (250, 0, 0), 250).astype(np.uint8)
    other = Sample(image, labels, "y")
    for seed in range(20):
        rgba, main = cut_part(other, np.random.default_rng(seed))
        assert main == 6 - unlabelled and (rgba[rgba[..., 3] > 0] == (250, 250, 250, 255)).all()
        mixed = anomaly_mix(street, other, np.random.default_rng(seed))
        red, _, blue = np.moveaxis(mixed.image[mixed.labels == OUTLIER].astype(int), -1, 0)
        assert (red < 2 * blue).all(), "nothing red, whatever the colours are shifted by"
    nothing = Sample(other.image, np.full((200, 300), IGNORE, np.uint8), "y")
    assert (anomaly_mix(street, nothing, np.random.default_rng(0)).labels == street.labels).all()


def outliers_of(root, count=30, **options):
    module = RoadDataModule(dataset="cityscapes", root=root, image_size=56, paste_probability=1.0, **options)
    module.setup("fit")
    return [bool((module.train_frames[i]["labels"] == OUTLIER).any()) for i in range(count)]


def test_anomaly_mix_needs_no_cut_outs_but_other_frames(cityscapes_root, tmp_path):
    assert sum(outliers_of(cityscapes_root, paste=PasteOptions(mix=1.0))) > 12, "crops miss some"
    assert not any(outliers_of(cityscapes_root)), "without any source there is none"
    (tmp_path / "one").mkdir()
    for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        place = tmp_path / "one" / folder / "train/aachen"
        place.mkdir(parents=True)
        name = f"aachen_000000_000019_{ending}.png"
        shutil.copy(Path(cityscapes_root) / folder / "train/aachen" / name, place / name)
    with pytest.raises(ValueError, match="paste.mix = 0.5 takes parts of other frames.* one frame alone"):
        outliers_of(str(tmp_path / "one"), paste=PasteOptions(mix=0.5))


def test_camvid_outliers_keep_their_place_in_the_stream(camvid_root, stamps_root):
    """A default option draws nothing: samples of older runs stay what they were."""
    sample = camvid(camvid_root, "val")[0]
    cutouts = list(load_cutouts(str(stamps_root), "train").values())
    plain, same = (
        paste_objects(sample, cutouts, np.random.default_rng(5), **more)
        for more in ({}, {"how": PasteOptions()})
    )
    assert (plain.image == same.image).all()
