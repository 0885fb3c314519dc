# SPDX-License-Identifier: MIT
"""What `evaluate.py anomaly` pastes: objects of kinds that no measured network was trained with."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
import yaml

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_training.data.coco_objects import CocoObjects, category_words
from eomt_training.data.cutouts import load_cutouts, words
from eomt_training.data.folders import Sample
from eomt_training.evaluation.frames import pasted
from eomt_training.evaluation.unseen import trained_with, unseen_objects
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
    paste = evaluate.pasted
    monkeypatch.setattr(
        evaluate, "pasted", lambda f, found, *rest: sources.extend(found) or paste(f, found, *rest)
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
