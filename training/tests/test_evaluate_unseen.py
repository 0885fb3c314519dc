# SPDX-License-Identifier: MIT
"""What `evaluate.py anomaly` pastes: objects of kinds that no measured network was trained with."""

import json
from pathlib import Path

import cv2
import evaluate
import numpy as np
import pytest
import torch
import yaml

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_training.data.coco_objects import CocoObjects
from eomt_training.data.cutouts import category_words, load_cutouts, words
from eomt_training.data.folders import Sample
from eomt_training.evaluation import commands
from eomt_training.evaluation.frames import pasted
from eomt_training.evaluation.unseen import trained_with, unseen_cutouts, unseen_objects
from eomt_training.labels import CAMVID
from eomt_training.targets import OUTLIER


def run_of(folder, init=None, **data):
    """The checkpoint's place in a run whose configuration is ``data``."""
    config = {"data": {"paste_probability": 0.5, **data}, "model": {"init": str(init) if init else None}}
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "checkpoint"


def test_what_a_run_and_those_before_it_were_trained_with(tmp_path):
    first = run_of(tmp_path / "first", coco_root="data/COCO")
    assert trained_with(first) == {"coco"}
    assert trained_with(run_of(tmp_path / "second", first, stamps_root="data/stamps")) == {"stamps", "coco"}
    none = run_of(tmp_path / "plain", coco_root="data/COCO", paste_probability=0)
    assert trained_with(none) == trained_with(tmp_path) == set()


def test_an_object_of_a_kind_that_training_saw_is_not_pasted(tmp_path, coco_root, named_stamps):
    checkpoint = run_of(tmp_path / "run", coco_root=str(coco_root))
    with pytest.raises(ValueError, match="came from coco: add --coco DIR"):
        unseen_objects([checkpoint], named_stamps, None, [])
    stamps, coco = unseen_objects([checkpoint], named_stamps, coco_root, [])
    seen = set().union(*map(category_words, CocoObjects(coco_root, "train").categories))
    unfiltered = load_cutouts(str(named_stamps), "eval")
    expected = [rgba for path, rgba in unfiltered.items() if not words(Path(path)) & seen]
    assert 0 < len(stamps) == len(expected) < len(unfiltered)
    assert not set(coco.categories) & seen and coco.folder.name == "val2017"
    with pytest.raises(ValueError, match="came from stamps: add --stamps DIR"):
        unseen_objects([run_of(tmp_path / "other", stamps_root="x")], None, coco_root, [])


def test_several_sources_take_turns():
    road = Sample(np.zeros((80, 80, 3), np.uint8), np.full((80, 80), 3, np.uint8), "x")
    red, blue = (np.full((40, 40, 4), colour, np.uint8) for colour in ((255, 0, 0, 255), (0, 0, 255, 255)))
    frames = pasted([road] * 4, [[red], [blue]], seed=0)
    for i in range(4):
        sample = frames[i]
        colour = sample.image[sample.labels == OUTLIER].mean(0)
        assert colour.argmax() == (2 if i % 2 else 0)


def test_the_command_line_pastes_cocos_objects_and_refuses_what_it_cannot_tell(
    tmp_path, camvid_root, coco_root, named_stamps, monkeypatch, capsys
):
    torch.manual_seed(0)
    checkpoint = run_of(tmp_path / "run", coco_root=str(coco_root))
    EomtExt(EomtExtConfig.preset("tiny", labels=CAMVID, num_queries=4, image_size=56)).save_pretrained(
        checkpoint
    )
    sources = []
    monkeypatch.setattr(
        commands, "pasted", lambda f, found, *rest: sources.extend(found) or pasted(f, found, *rest)
    )
    common = ["anomaly", "--checkpoint", str(checkpoint), "--root", str(camvid_root), "--device", "cpu",
              "--results", "", "--every", "2", "--scores", "msp"]  # fmt: skip
    assert evaluate.main([*common, "--stamps", str(named_stamps)]) == 1
    assert "add --coco DIR" in capsys.readouterr().err and not sources
    assert evaluate.main([*common, "--coco", str(coco_root)]) == 0
    (objects,) = sources
    assert (
        set(objects.categories) <= set(CocoObjects(coco_root, "eval").categories)
        and objects.folder.name == "val2017"
    )
    assert evaluate.main([*common, "--coco", str(coco_root), "--stamps", str(named_stamps)]) == 0
    assert len(sources) == 3


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of cut-outs of no source known here; returns how to put one more into it."""

    def put(*names, colour=(10, 20, 30, 255)):
        for name in names:
            rgba = np.zeros((90, 80, 4), np.uint8)
            rgba[20:70, 10:60] = colour
            cv2.imwrite(str(tmp_path / f"elsewhere/{name}.png"), rgba)
        return tmp_path / "elsewhere"

    (tmp_path / "elsewhere").mkdir()
    return put


def test_cut_outs_from_elsewhere_of_kinds_that_training_had_are_left_out(
    tmp_path, coco_root, named_stamps, elsewhere
):
    trained = sorted(load_cutouts(str(named_stamps), "train"))[0]
    category = next(iter(CocoObjects(coco_root, "train").categories)).replace(" ", "_")
    folder = elsewhere(
        "anvil_1", "anvil_2", f"wooden_{Path(trained).stem}", "garden_chair", "a_fence", category
    )
    checkpoint = run_of(tmp_path / "run", stamps_root="x")
    left = unseen_cutouts([checkpoint], folder, named_stamps, coco_root, ["fence"])
    assert list(left) == ["anvil_1.png", "anvil_2.png"]
    assert left["anvil_1.png"].shape == (50, 50, 4)
    assert category + ".png" in unseen_cutouts([checkpoint], folder, named_stamps, None, ["fence"])
    (pasted_only,) = unseen_objects([checkpoint], named_stamps, coco_root, ["fence"], folder)
    assert len(pasted_only) == 2
    with pytest.raises(FileNotFoundError, match="holds no .png of an object"):
        unseen_cutouts([checkpoint], folder, named_stamps, coco_root, ["fence", "anvil"])


def test_cut_outs_are_refused_where_training_may_have_had_them(tmp_path, named_stamps, elsewhere):
    folder = elsewhere("anvil")
    with pytest.raises(ValueError, match="came from stamps: add --stamps DIR"):
        unseen_cutouts([run_of(tmp_path / "run", stamps_root="x")], folder, None, None, [])
    with pytest.raises(ValueError, match=r"no config.yaml beside it.*add --stamps DIR or --coco DIR"):
        unseen_cutouts([tmp_path / "published"], folder, None, None, [])
    plain = run_of(tmp_path / "plain", paste_probability=0)
    assert unseen_cutouts([plain, run_of(tmp_path / "second", plain)], folder, None, None, [])
    fine_tuned = run_of(tmp_path / "fine_tuned", tmp_path / "published", paste_probability=0)
    with pytest.raises(ValueError, match=r"published was trained with is not known .*add --stamps"):
        unseen_cutouts([fine_tuned], folder, None, None, [])
    one = next(named_stamps.rglob("*.png"))
    (folder / one.name).write_bytes(one.read_bytes())
    with pytest.raises(ValueError, match=f"from the collection that training took objects from: {one.name}"):
        unseen_cutouts([tmp_path / "published"], folder, named_stamps, None, [])


@pytest.mark.parametrize("picture", [np.zeros((9, 9, 3)), np.full((9, 9, 4), 255), np.zeros((9, 9, 4))])
def test_a_picture_without_transparency_is_no_cut_out(tmp_path, elsewhere, picture):
    folder = elsewhere("anvil")
    cv2.imwrite(str(folder / "photo.png"), picture)
    with pytest.raises(ValueError, match="photo.png is no cut-out"):
        unseen_cutouts([run_of(tmp_path / "plain", paste_probability=0)], folder, None, None, [])


def test_the_command_line_pastes_only_the_cut_outs(
    tmp_path, camvid_root, named_stamps, elsewhere, monkeypatch, capsys
):
    EomtExt(EomtExtConfig.preset("tiny", labels=CAMVID, num_queries=4, image_size=56)).save_pretrained(
        tmp_path / "model"
    )
    sources = []
    monkeypatch.setattr(
        commands, "pasted", lambda f, found, *rest: sources.extend(found) or pasted(f, found, *rest)
    )
    call = [
        "anomaly",
        "--checkpoint",
        tmp_path / "model",
        "--root",
        camvid_root,
        "--device",
        "cpu",
        "--every",
        2,
    ]
    call += ["--results", "", "--scores", "msp", "--output", tmp_path / "a.json"]
    call += ["--cutouts", elsewhere("anvil", "vise")]
    assert evaluate.main([*map(str, call)]) == 1 and "no config.yaml" in capsys.readouterr().err
    assert evaluate.main([*map(str, call), "--stamps", str(named_stamps)]) == 0
    assert "2 cut-outs to paste" in capsys.readouterr().out
    assert [len(objects) for objects in sources] == [2]
    assert json.loads((tmp_path / "a.json").read_text())["pasted"] == ["cutouts"]
