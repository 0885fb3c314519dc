# SPDX-License-Identifier: MIT
"""The synthetic room with OpenGL: labels lie where things project, and pictures agree with them."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
from synthetic_world import write_track

from eomt_training.data.synthetic import drive, lights, objects, tracks

SIZE = (160, 90)


@pytest.fixture(scope="module")
def renderer():
    rendering = pytest.importorskip(
        "eomt_training.data.synthetic.renderer", reason="moderngl is not installed"
    )
    try:
        return rendering.Renderer(SIZE)
    except rendering.NoOpenGL as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def track(renderer, tmp_path_factory):
    found = tracks.load(write_track(tmp_path_factory.mktemp("world"), "ruudskogen"), "ruudskogen")
    renderer.load(found)
    return found


def _shot(renderer, track, items=(), **view):
    camera = drive.camera_on(track, 20.0, 0.0, SIZE, 70.0, **view)
    return (*renderer.render(camera, renderer_light(), list(items)), camera)


def renderer_light():
    return lights.light(np.random.default_rng(0), "day")


def test_road_grass_wall_and_sky_are_where_they_must_be(renderer, track):
    _, labels, camera = _shot(renderer, track)

    def label_at(point):
        u, v = np.round(camera.project(np.array([point], float))[0]).astype(int)
        return labels[v, u]

    assert label_at((0, 0, -30)) == tracks.ROAD and label_at((12, 0, -50)) == tracks.TREE
    assert label_at((-9, 3, -34)) == tracks.BUILDING
    assert labels[0, SIZE[0] // 2] == tracks.SKY


@pytest.mark.parametrize("across", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize(
    "kind, label", [("crate", tracks.OUTLIER), ("boulder", tracks.OUTLIER), ("car", tracks.CAR)]
)
def test_an_object_is_labelled_exactly_where_it_stands(renderer, track, kind, label, across):
    prop = objects.make(kind, np.random.default_rng(1))
    item = drive.place(track, prop, 32.0, across, 0.4, label)
    clean, _, _ = _shot(renderer, track)
    rgb, labels, camera = _shot(renderer, track, [item])
    corners = np.c_[prop.vertices[:, :3], np.ones(len(prop.vertices))] @ item.model.T
    uv = camera.project(corners[:, :3])
    v, u = np.nonzero(labels == label)
    assert u.min() == pytest.approx(uv[:, 0].min(), abs=1.5) and u.max() == pytest.approx(
        uv[:, 0].max(), abs=1.5
    )
    assert v.min() == pytest.approx(uv[:, 1].min(), abs=1.5) and v.max() == pytest.approx(
        uv[:, 1].max(), abs=1.5
    )
    changed = np.abs(rgb.astype(int) - clean).max(axis=2) > 8
    assert changed[labels == label].mean() > 0.9  # picture and label agree
    away = cv2.dilate((labels == label).astype(np.uint8), np.ones((31, 31))) == 0
    assert not changed[away].any()  # but for the contact shadow nothing else changes


def test_an_object_behind_a_wall_is_not_labelled(renderer, track):
    hidden = drive.place(
        track, objects.make("crate", np.random.default_rng(2)), 35.0, -12.0, 0, tracks.OUTLIER
    )
    assert not (_shot(renderer, track, [hidden])[1] == tracks.OUTLIER).any()


def test_rendering_twice_gives_the_same_picture(renderer, track):
    scenes = [
        drive.random_scene(track, np.random.default_rng(5), SIZE, objects.TRAIN_KINDS, True) for _ in range(2)
    ]
    shots = [renderer.render(s.camera, s.light, s.items) for s in scenes]
    np.testing.assert_array_equal(shots[0][0], shots[1][0])
    np.testing.assert_array_equal(shots[0][1], shots[1][1])
    assert scenes[0].about == scenes[1].about


@pytest.mark.parametrize("kind", sorted(set(lights.LIGHTS)))
def test_every_light_gives_a_picture_with_contrast(renderer, track, kind):
    camera = drive.camera_on(track, 20.0, 0.0, SIZE, 70.0)
    rgb, _ = renderer.render(camera, lights.light(np.random.default_rng(3), kind), [])
    assert 15 < rgb.mean() < 240 and rgb.std() > 5


@pytest.mark.parametrize(("split", "track_name"), [("val", tracks.VAL[0]), ("test", "ruudskogen")])
def test_the_command_writes_camvids_layout(renderer, tmp_path, monkeypatch, split, track_name):
    import render_drives

    data = write_track(tmp_path / "data", track_name)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "render_drives.py",
            "--torcs-data",
            str(data),
            "--output",
            str(tmp_path / "out"),
            "--split",
            split,
            "--frames",
            "4",
            "--size",
            "96x54",
            "--seed",
            "3",
        ],
    )
    render_drives.main()
    render_drives.main()  # again: the same frames
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--frames", "3"])
    with pytest.raises(ValueError, match="frames of another run"):
        render_drives.main()
    frames = sorted(p.name for p in (tmp_path / "out" / split).iterdir())
    assert len(frames) == 4 and frames == sorted(
        p.name for p in (tmp_path / "out" / f"{split}annot").iterdir()
    )
    manifest = json.loads((tmp_path / "out" / f"manifest_{split}.json").read_text())
    assert "Free Art" in manifest["licence"] and manifest["kinds"] == sorted(objects.EVAL_KINDS)
    for about in manifest["frames"]:
        image = cv2.imread(str(tmp_path / "out" / split / about["file"]))
        labels = cv2.imread(str(tmp_path / "out" / f"{split}annot" / about["file"]), cv2.IMREAD_UNCHANGED)
        assert image.shape == (54, 96, 3) and labels.shape == (54, 96) and labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {*range(11), tracks.ORDINARY, tracks.OUTLIER, tracks.VOID}
        assert bool(about["outliers"]) == bool((labels == tracks.OUTLIER).any())
        assert set(about["outliers"]) <= set(objects.EVAL_KINDS)


def test_frames_of_another_run_are_not_mixed_with_these(tmp_path):
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    import render_drives

    (tmp_path / "b_00001.png").touch()
    render_drives.check_empty(tmp_path, {"a_00000.png", "b_00001.png"})
    with pytest.raises(ValueError, match=r"holds 1 frames of another run \(b_00001.png, ...\)"):
        render_drives.check_empty(tmp_path, {"a_00000.png"})


@pytest.mark.parametrize("text", ["640", "640x", "axb", "16x16"])
def test_bad_sizes_are_refused(text):
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    import render_drives

    with pytest.raises(Exception, match="640x360|at least 32"):
        render_drives.size_of(text)
