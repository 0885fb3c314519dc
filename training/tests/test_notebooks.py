# SPDX-License-Identifier: MIT
"""The notebooks do what they say, cell by cell, and are kept without outputs."""

import csv
import json
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch

from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_training.labels import CAMVID

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture
def execute(monkeypatch):
    """Runs a notebook's code cells in order, with its parameters replaced; returns its variables."""
    matplotlib.use("Agg", force=True)
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(name, **parameters):
        variables = {"__name__": "__main__"}
        for cell in json.loads((FOLDER / name).read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{name} {cell['id']}", "exec"), variables)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert parameters.keys() <= variables.keys()
                variables |= parameters
        return variables

    yield run
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    options = {"labels": CAMVID, "num_queries": 8, "image_size": 56, "upscale_channels": (24, 16)}
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    EomtExt(EomtExtConfig.preset("tiny", **options)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_whole_and_has_no_outputs(path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) >= 5
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in code) == 1


def test_inference_on_the_sample_drive_with_the_default_checkpoint(execute, capsys):
    seen = execute("inference.ipynb", SHORT_SIDE=112)
    assert seen["prediction"].class_map.shape == seen["image"].shape[:2] and 0 < seen["threshold"] < 1
    assert [title for title, *_ in seen["panels"]][-1] == "at or above the alert threshold"
    told = capsys.readouterr().out
    assert "score eomt_ext" in told and "road " in told and "at or above the threshold" in told
    with pytest.raises(IndexError, match="FRAME = 100: the drive has frames 0 to 99"):
        seen["drive_frame"](100)


def test_inference_on_a_picture_with_a_checkpoint_of_one_s_own(execute, checkpoint, tmp_path, capsys):
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    seen = execute("inference.ipynb", IMAGE=tmp_path / "picture.png", CHECKPOINT=checkpoint)
    assert np.array_equal(seen["image"], picture[..., ::-1])
    assert "not calibrated" in capsys.readouterr().out and len(seen["panels"]) == 3
    with pytest.raises(FileNotFoundError, match="nowhere.png is missing"):
        seen["read_picture"]("nowhere.png")


def test_evaluation_builds_the_results_table_anew(
    execute, checkpoint, camvid_root, stamps_root, tmp_path, capsys
):
    given = {"CHECKPOINT": checkpoint, "DATA_ROOT": camvid_root, "STAMPS": stamps_root, "OUTPUT": tmp_path}
    given |= {"DEGRADED": ["fog"], "BASELINES": {"again": checkpoint}}
    (tmp_path / "results.csv").write_text("an older table\n")
    execute("evaluation.ipynb", **given)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {(row["model"], row["condition"], row["command"]) for row in rows}
    assert kinds == {
        (model, condition, command)
        for model in ("tiny", "again")
        for condition in ("clean", "fog")
        for command in ("semantic", "anomaly")
    }
    printed = capsys.readouterr().out.split("| model | condition | score | miou |")[1]
    assert printed.count("\n| tiny | clean | ") == 1 + len({row["score"] for row in rows if row["score"]})
    assert (tmp_path / "anomaly/report.html").is_file() and (tmp_path / "semantic.json").is_file()


def test_a_failed_evaluation_stops_the_notebook(execute, checkpoint, tmp_path):
    with pytest.raises(RuntimeError, match="evaluate.py semantic failed"):
        execute("evaluation.ipynb", CHECKPOINT=checkpoint, DATA_ROOT=tmp_path / "none", OUTPUT=tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_on_colab_a_notebook_asks_where_the_repository_is(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    setup = next(c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
    with pytest.raises(ValueError, match="give the repository's git address"):
        exec("".join(setup["source"]), {})
    monkeypatch.delitem(sys.modules, "google.colab")
    with pytest.raises(FileNotFoundError, match="is not in the repository"):
        exec("".join(setup["source"]), {})
