# SPDX-License-Identifier: MIT
"""Public data sets, on generated miniatures of their exact layouts."""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_training.data import ade20k as ade
from eomt_training.data import cityscapes as city
from eomt_training.data import coco as coco_module
from eomt_training.data import generic_anomaly as benchmarks
from eomt_training.data.ade20k import ade20k
from eomt_training.data.cityscapes import cityscapes
from eomt_training.data.coco import coco, coco_stuff
from eomt_training.data.files import translate
from eomt_training.data.generic_anomaly import generic_anomaly
from eomt_training.labels import LABELS, control_ids, ground_ids
from eomt_training.targets import IGNORE, OUTLIER

RNG = np.random.default_rng(0)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def picture(height=12, width=20):
    return RNG.integers(0, 255, (height, width, 3), np.uint8)


def stripes(*values, height=12, width=20):
    """Labels on disk: one column band for each value."""
    return np.asarray(values, np.uint8)[np.arange(width) * len(values) // width][None].repeat(height, 0)


def ids(labels):
    return [int(v) for v in dict.fromkeys(labels[0])]


def write_cityscapes(root, split="val", cities=("frankfurt", "lindau")):
    for name in cities:
        stem = f"{name}_000000_000019"
        write(root / f"leftImg8bit/{split}/{name}/{stem}_leftImg8bit.png", picture())
        write(root / f"gtFine/{split}/{name}/{stem}_gtFine_labelIds.png", stripes(0, 7, 24, 26, 33))
        write(root / f"gtFine/{split}/{name}/{stem}_gtFine_color.png", picture())


def test_cityscapes_in_folders_and_in_its_archives(tmp_path):
    write_cityscapes(tmp_path / "folders")
    extracted = cityscapes(tmp_path / "folders", "val")
    (tmp_path / "zips").mkdir()
    for part in ("leftImg8bit", "gtFine"):
        shutil.make_archive(
            str(tmp_path / f"zips/{part}_trainvaltest"), "zip", tmp_path / "folders", base_dir=part
        )
    zipped = pickle.loads(pickle.dumps(cityscapes(tmp_path / "zips", "val")))
    assert extracted.names == zipped.names == ["frankfurt_000000_000019", "lindau_000000_000019"]
    for a, b in ((extracted[i], zipped[i]) for i in range(2)):
        assert a.name == b.name and (a.image == b.image).all() and (a.labels == b.labels).all()
    assert ids(extracted[0].labels) == [IGNORE, 0, 11, 13, 18]
    clone = pickle.loads(pickle.dumps(zipped))
    assert (clone[1].image == zipped[1].image).all(), "an opened archive travels to a worker process"


def test_a_damaged_archive_is_named(tmp_path):
    write_cityscapes(tmp_path / "folders")
    for part in ("leftImg8bit", "gtFine"):
        shutil.make_archive(
            str(tmp_path / f"{part}_trainvaltest"), "zip", tmp_path / "folders", base_dir=part
        )
    archive = tmp_path / "leftImg8bit_trainvaltest.zip"
    whole = archive.read_bytes()
    at = whole.index(b"_leftImg8bit.png") + 200
    archive.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
    with pytest.raises(ValueError, match=r"leftImg8bit_trainvaltest.zip is damaged"):
        [cityscapes(tmp_path, "val")[i] for i in range(2)]
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="leftImg8bit_trainvaltest.zip is no whole zip archive: download"):
        cityscapes(tmp_path, "val")


def test_cityscapes_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="leftImg8bit/train is missing.*gtFine_trainvaltest.zip"):
        cityscapes(tmp_path, "train")
    write_cityscapes(tmp_path)
    next((tmp_path / "gtFine/val/lindau").glob("*labelIds.png")).unlink()
    with pytest.raises(FileNotFoundError, match="no labels for .*lindau_000000_000019_leftImg8bit.png"):
        cityscapes(tmp_path, "val")
    with pytest.raises(ValueError, match="train or val"):
        cityscapes(tmp_path, "test")


def test_ade20k(tmp_path):
    for folder, number in (("training", 1), ("validation", 2)):
        write(tmp_path / f"images/{folder}/ADE_{folder[:5]}_{number:08d}.jpg", picture())
        write(tmp_path / f"annotations/{folder}/ADE_{folder[:5]}_{number:08d}.png", stripes(0, 1, 7, 150))
    sample = ade20k(tmp_path, "train")[0]
    assert sample.name == "ADE_train_00000001" and ids(sample.labels) == [IGNORE, 0, 6, 149]
    assert LABELS["ade20k"][6].name == "road" and LABELS["ade20k"][6].drivable
    assert LABELS["ade20k"][149].name == "flag" and ade20k(tmp_path, "val").names == ["ADE_valid_00000002"]
    write(tmp_path / "annotations/validation/ADE_valid_00000002.png", stripes(151))
    with pytest.raises(ValueError, match="ADE_valid_00000002.png holds label 151"):
        ade20k(tmp_path, "val")[0]
    with pytest.raises(FileNotFoundError, match="images/training is missing.*ADEChallengeData2016"):
        ade20k(tmp_path / "images", "train")


@pytest.mark.parametrize("inside", ["annotations/", ""])
def test_coco_panoptic(tmp_path, inside):
    names = ("000000000139", "000000000285")
    segments = [{"id": 3 + 256 * 9 + 65536 * 2, "category_id": 1}, {"id": 7, "category_id": 200}]
    for name in names:
        write(tmp_path / f"val2017/{name}.jpg", picture())
        blue_green_red = np.zeros((12, 20, 3), np.uint8)
        blue_green_red[:, 5:12], blue_green_red[:, 12:] = (2, 9, 3), (0, 0, 7)
        write(tmp_path / f"{inside}panoptic_val2017/{name}.png", blue_green_red)
    listing = {"annotations": [{"file_name": f"{n}.png", "segments_info": segments} for n in names]}
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations/panoptic_val2017.json").write_text(json.dumps(listing))
    frames = coco(tmp_path, "val")
    assert frames.names == list(names) and ids(frames[1].labels) == [IGNORE, 0, 132]
    assert LABELS["coco"][0].name == "person" and LABELS["coco"][132].name == "rug-merged"
    frames.segments[names[0]].pop(7)
    with pytest.raises(ValueError, match="000000000139.png holds segment 7"):
        frames[0]


def test_coco_stuff_and_missing_parts(tmp_path):
    write(tmp_path / "train2017/000000000009.jpg", picture())
    with pytest.raises(FileNotFoundError, match="stuffthingmaps/train2017 is missing"):
        coco_stuff(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="panoptic_train2017.json is missing.*cocodataset.org"):
        coco(tmp_path, "train")
    write(tmp_path / "stuffthingmaps/train2017/000000000009.png", stripes(0, 89, 91, 181, 255))
    labels = LABELS["coco_stuff"]
    found = ids(coco_stuff(tmp_path, "train")[0].labels)
    assert [labels[i].name for i in found[:-1]] == ["person", "toothbrush", "banner", "wood"]
    assert found[-1] == IGNORE


def flat(root, name, label, folder="labels_masks", images="images", suffix=".png", ending=""):
    write(root / f"{images}/{name}{suffix}", picture())
    write(root / f"{folder}/{name}{ending}.png", label)


def test_smiyc_as_it_comes(tmp_path):
    for name, suffix in (("validation0000", ".jpg"), ("validation_1", ".webp")):
        flat(tmp_path, name, stripes(0, 1, 255), suffix=suffix, ending="_labels_semantic")
        write(tmp_path / f"labels_masks/{name}_labels_semantic_color.png", picture())
    write(tmp_path / "images/airplane0000.jpg", picture())  # held out: no labels
    frames = generic_anomaly(tmp_path)
    assert frames.names == ["validation0000", "validation_1"]
    assert all(ids(frames[i].labels) == [0, OUTLIER, IGNORE] for i in range(2))


@pytest.mark.parametrize(
    ("folder", "suffix", "on_disk", "expected"),
    [
        ("RoadAnomaly21", ".png", (0, 1, 255), [0, OUTLIER, IGNORE]),
        ("RoadObsticle21", ".webp", (0, 1, 255), [0, OUTLIER, IGNORE]),
        ("FS_LostFound_full", ".png", (0, 1, 255), [0, OUTLIER, IGNORE]),
        ("fs_static", ".jpg", (0, 1, 255), [0, OUTLIER, IGNORE]),
        ("RoadAnomaly", ".jpg", (0, 2), [0, OUTLIER]),
        ("RoadAnomaly", ".jpg", (1, 2, 255), [0, OUTLIER, IGNORE]),
    ],
)
def test_flat_validation_sets(tmp_path, folder, suffix, on_disk, expected):
    flat(tmp_path / folder, "7", stripes(*on_disk), suffix=suffix)
    assert ids(generic_anomaly(tmp_path / folder)[0].labels) == expected
    with pytest.raises(FileNotFoundError, match=f"it holds {folder}: give one"):
        generic_anomaly(tmp_path)


def test_labels_written_as_colour_are_read_and_colours_refused(tmp_path):
    flat(tmp_path, "a", stripes(0, 1)[..., None].repeat(3, 2))
    assert ids(generic_anomaly(tmp_path)[0].labels) == [0, OUTLIER]
    flat(tmp_path, "a", picture())
    with pytest.raises(ValueError, match="a.png holds colours"):
        generic_anomaly(tmp_path)[0]


def test_masks_of_one_bit_are_refused(tmp_path):
    """OpenCV reads their 1 as 255: every anomaly would be void, and no figure would tell."""
    flat(tmp_path, "a", stripes(0, 1))
    on_disk = cv2.imencode(".png", stripes(0, 1), [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
    (tmp_path / "labels_masks/a.png").write_bytes(on_disk)
    with pytest.raises(ValueError, match="a.png is a grey PNG of 1 bit: write .* as 8-bit grey"):
        generic_anomaly(tmp_path)[0]


def test_linked_folders_are_read(tmp_path):
    """A data set put together of links to what lies elsewhere; no city may be left out in silence."""
    write_cityscapes(tmp_path / "store")
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / "links" / part / "val").mkdir(parents=True)
        for city_folder in (tmp_path / "store" / part / "val").iterdir():
            (tmp_path / "links" / part / "val" / city_folder.name).symlink_to(city_folder)
    frames = cityscapes(tmp_path / "links", "val")
    assert frames.names == ["frankfurt_000000_000019", "lindau_000000_000019"] and frames[0].image.any()


def test_road_anomaly_as_it_comes(tmp_path):
    write(tmp_path / "frames/animals01.jpg", picture())
    write(tmp_path / "frames/animals01.labels/labels_semantic.png", stripes(0, 1, 2))
    write(tmp_path / "frames/animals01.labels/labels_semantic_color.png", picture())
    frames = generic_anomaly(tmp_path)
    assert frames.names == ["animals01"] and ids(frames[0].labels) == [0, OUTLIER]


def write_lost_and_found(root, split="test", scene="04_Maurener_Weg_8"):
    stem = f"{scene}_000000_000030"
    write(root / f"leftImg8bit/{split}/{scene}/{stem}_leftImg8bit.png", picture())
    labels = stripes(0, 1, 2, 31, 43, 255)
    write(root / f"gtCoarse/{split}/{scene}/{stem}_gtCoarse_labelIds.png", labels)
    write(root / f"gtCoarse/{split}/{scene}/{stem}_gtCoarse_labelTrainIds.png", stripes(0, 1))
    return stem


def test_lost_and_found_and_its_fishyscapes_labels(tmp_path):
    stem = write_lost_and_found(tmp_path)
    write_lost_and_found(tmp_path, "train", "01_Hanns_Klemm_Str_45")
    frames = generic_anomaly(tmp_path, "test")
    assert frames.names == [stem]
    expected = [IGNORE, 0, OUTLIER, IGNORE, OUTLIER, IGNORE]
    assert frames[0].labels[0, [1, 5, 8, 11, 15, 18]].tolist() == expected  # one column a band
    write(tmp_path / f"fishyscapes_lostandfound/0000_{stem}_labels.png", stripes(0, 1, 255))
    fishyscapes = generic_anomaly(tmp_path)
    assert fishyscapes.names == [stem] and ids(fishyscapes[0].labels) == [0, OUTLIER, IGNORE]


def test_lost_and_found_as_segment_me_if_you_can_measures_it(tmp_path):
    stem = write_lost_and_found(tmp_path)
    for scene in ("15_Rechbergstr_Deckenpfronn", "10_Schlossberg_9"):
        write_lost_and_found(tmp_path, scene=scene)
    frames = generic_anomaly(tmp_path, "testNoKnown")
    assert frames.names == [stem, "10_Schlossberg_9_000000_000030"]  # one other of its sequences has bicycles
    expected = [IGNORE, 0, OUTLIER, OUTLIER, OUTLIER, IGNORE]
    assert frames[0].labels[0, [1, 5, 8, 11, 15, 18]].tolist() == expected


def test_lost_and_found_says_which_splits_it_has(tmp_path):
    """``val`` is what evaluate.py asks for where no --split is given."""
    write_lost_and_found(tmp_path)
    with pytest.raises(ValueError, match="unknown Lost&Found split 'val': train, test or testNoKnown"):
        generic_anomaly(tmp_path, "val")


def test_two_pictures_of_one_name_are_not_taken_for_one(tmp_path):
    for camera in ("front", "rear"):
        write(tmp_path / f"images/{camera}/0001.png", picture())
        write(tmp_path / f"labels_masks/{camera}/0001.png", stripes(0, 1))
    with pytest.raises(ValueError, match="front/0001.png and .*rear/0001.png have one name: 0001"):
        generic_anomaly(tmp_path)


def test_no_anomaly_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no anomaly data set.*labels_masks"):
        generic_anomaly(tmp_path)
    flat(tmp_path, "a", stripes(0, 1))
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(FileNotFoundError, match="images is missing or empty"):
        generic_anomaly(tmp_path)


ENCODINGS = {
    "benchmark": (benchmarks.BENCHMARK, {0, OUTLIER, IGNORE}),
    "road_anomaly": (benchmarks.ROAD_ANOMALY, {0, OUTLIER, IGNORE}),
    "lost_and_found": (benchmarks.LOST_AND_FOUND, {0, OUTLIER, IGNORE}),
    "cityscapes": (city.TABLE, {*range(19), IGNORE}),
    "ade20k": (ade.TABLE, {*range(150), IGNORE}),
    "coco_stuff": (coco_module.STUFF_TABLE, {*range(171), IGNORE}),
}


@given(st.sampled_from(sorted(ENCODINGS)), st.integers(0, 255))
def test_every_value_has_a_meaning_or_is_named(name, value):
    table, meanings = ENCODINGS[name]
    labels = np.full((2, 3), value, np.uint8)
    try:
        mapped = translate(labels, table, "a.png")
    except ValueError as error:
        assert f"a.png holds label {value}:" in str(error)
    else:
        assert mapped.dtype == np.uint8 and mapped.shape == labels.shape and int(mapped[0, 0]) in meanings


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_every_meaning_has_a_value(name):
    table, meanings = ENCODINGS[name]
    assert set(table[table >= 0].tolist()) == meanings


@pytest.mark.parametrize(
    ("name", "count"), [("cityscapes", 19), ("ade20k", 150), ("coco", 133), ("camvid", 11)]
)
def test_class_lists(name, count):
    labels = LABELS[name]
    assert len(labels) == count and [x.id for x in labels] == list(range(count))
    assert len({x.name for x in labels}) == len({x.color for x in labels}) == count
    assert any(x.drivable for x in labels) and any(x.name == "car" for x in labels)
    assert {labels[i].name for i in control_ids(labels)} >= {"road", "car"}
    assert {x.id for x in labels if x.drivable} <= set(ground_ids(labels))
