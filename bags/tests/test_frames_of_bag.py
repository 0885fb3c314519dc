# SPDX-License-Identifier: MIT
"""frames_of_bag: a data set to calibrate on, as evaluate.py reads it; bad input is named."""

from __future__ import annotations

import cv2
import make_bag
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 message packages are not installed")

import frames_of_bag

SIZE = (48, 32)


@pytest.fixture
def bag(tmp_path):
    """20 pictures at 10 Hz, each as bright as its number says."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(20):
        cv2.imwrite(str(folder / f"{i:02d}.png"), np.full((SIZE[1], SIZE[0], 3), (10 * i, 7, 200), np.uint8))
    make_bag.main([str(folder), str(tmp_path / "drive"), "--encoding", "raw", "--fps", "10"])
    return tmp_path / "drive"


def run(*words) -> int:
    return frames_of_bag.main([str(word) for word in words])


def test_the_frames_are_a_data_set_of_normal_pixels(bag, tmp_path):
    from eomt_training.data.generic_anomaly import generic_anomaly
    from eomt_training.targets import IGNORE

    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[-8:] = 255
    cv2.imwrite(str(tmp_path / "vehicle.png"), mask)
    assert run(bag, tmp_path / "out", "--every", 0.5, "--ignore-mask", tmp_path / "vehicle.png") == 0
    frames = generic_anomaly(tmp_path / "out")
    assert len(frames) == 4
    for i in range(4):
        sample = frames[i]
        assert sample.image[0, 0].tolist() == [200, 7, 50 * i]
        assert (sample.labels[:-8] == 0).all() and (sample.labels[-8:] == IGNORE).all()


@pytest.mark.parametrize("other", ["other", "drive_2", "drive.2", "drive[2]"])
def test_bags_share_a_folder_but_none_comes_twice(bag, tmp_path, capsys, other):
    assert run(bag.rename(tmp_path / other), tmp_path / "out") == 0
    assert run((tmp_path / other).rename(bag), tmp_path / "out") == 0
    assert len(list((tmp_path / "out/images").iterdir())) == 4
    assert run(bag, tmp_path / "out") == 1 and "has pictures of a bag drive" in capsys.readouterr().err
    (tmp_path / "out/images/drive_000000.png").unlink()  # an obstacle was in it
    assert run(bag.rename(tmp_path / other), tmp_path / "out") == 1
    assert f"has pictures of a bag {other}:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        (["--topic", "/nothing"], "has no topic /nothing"),
        (["--ignore-mask", "nothing.png"], "no such picture file"),
        (["--ignore-mask", "small.png"], "give one of the picture's size"),
    ],
)
def test_what_cannot_be_used_is_named(bag, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("small.png", np.zeros((4, 4), np.uint8))
    assert run(bag, tmp_path / "out", *words) == 1
    assert told in capsys.readouterr().err


def test_pictures_that_cannot_be_read_are_told_and_left_out(bag, tmp_path, monkeypatch, capsys):
    readable = iter([False] + [True] * 30)

    def to_rgb(message):
        if next(readable):
            return np.zeros((4, 4, 3), np.uint8)
        raise frames_of_bag.InvalidInput("data is cut off")

    monkeypatch.setattr(frames_of_bag, "to_rgb", to_rgb)
    assert run(bag, tmp_path / "out", "--every", 1) == 0
    assert capsys.readouterr().out == f"2 pictures in {tmp_path / 'out'}; 1 left out: data is cut off\n"
