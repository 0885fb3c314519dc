# SPDX-License-Identifier: MIT
"""Whole drives: obstacles keep their identity and come nearer; what is written can be read again."""

import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_world import write_track

from eomt_training.data.sequences import OBSTACLE, Sequence
from eomt_training.data.synthetic import objects, tracks

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


def planned(track, clean=False, seconds=4.0):
    from eomt_training.data.synthetic.sequences import random_drive

    for seed in range(100):  # one that does not cross the open end of this little track
        drive = random_drive(track, np.random.default_rng(seed), SIZE, objects.EVAL_KINDS, seconds, clean)
        if 5 < drive.s < track.length - 150:
            return drive
    raise AssertionError("no drive within the track")


def test_the_obstacle_ahead_keeps_its_label_and_comes_nearer(renderer, track):
    drive = planned(track)
    last = len(drive.obstacles) - 1
    assert last >= 1 and drive.on_road(drive.obstacles[last])
    shots = [drive.shot(renderer, t) for t in (0.0, 2.0, 4.0)]
    sizes = [int((labels == OBSTACLE + last).sum()) for _, labels, _ in shots]
    away = [metres[last] for _, _, metres in shots]
    assert sizes[2] > sizes[1] > 0 and away[0] > away[1] > away[2] == pytest.approx(6, abs=0.5)


def test_scenery_without_a_class_is_void_and_no_obstacle(renderer, track):
    camera = planned(track).camera(0.0)
    _, labels = renderer.render(camera, planned(track).light, [])
    assert (labels == tracks.ORDINARY).any() and not (labels == tracks.VOID).any(), "the fixture shows some"
    for _, found, _ in [planned(track, clean=True).shot(renderer, t) for t in (0.0, 2.0)]:
        assert (found == tracks.VOID).any() and not ((found >= OBSTACLE) & (found < tracks.VOID)).any()


def test_nothing_is_run_over(track):
    from eomt_training.data.synthetic.sequences import CLEARANCE_M

    drive = planned(track)
    assert all(abs(o.across - drive.lane) >= CLEARANCE_M for o in drive.obstacles[:-1])
    assert planned(track, clean=True).obstacles == ()


def test_obstacles_beside_the_road_are_told_from_those_on_it(track):
    from eomt_training.data.synthetic.sequences import random_drive

    found = []
    for seed in range(12):
        drive = random_drive(track, np.random.default_rng(seed), SIZE, objects.EVAL_KINDS, 4.0, False)
        found += [drive.on_road(o) for o in drive.obstacles]
    assert {type(on) for on in found} == {bool}, "as JSON takes it"
    assert 0.6 < np.mean(found) < 1


def test_a_written_drive_can_be_read(renderer, track, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
    sys.modules.pop("render_sequences", None)
    import render_sequences

    drive = planned(track, seconds=1.0)
    made_with = {"seed": 0, "seconds": 1.0, "rate": 3.0, "size": [*SIZE]}
    assert not render_sequences.finished(tmp_path / "one", made_with)
    render_sequences.write(drive, renderer, tmp_path / "one", 3, made_with)
    assert render_sequences.finished(tmp_path / "one", made_with)
    with pytest.raises(ValueError, match="rendered with {'seed': 0.*not {'seed': 1.*give another --output"):
        render_sequences.finished(tmp_path / "one", made_with | {"seed": 1})
    sequence = Sequence(tmp_path / "one")
    assert len(sequence) == 3 and not sequence.clean
    rgb, labels, away = drive.shot(renderer, 2 / 3)
    assert abs(sequence.image(2).astype(int) - rgb).mean() < 6  # JPEG
    np.testing.assert_array_equal(sequence.labels(2), labels)
    assert len(sequence.about["obstacles"]) == len(drive.obstacles)
    for o in sequence.visible(2):
        assert o.distance_m == pytest.approx(away[o.obstacle], abs=0.01)
        assert o.share == pytest.approx(np.mean(labels == OBSTACLE + o.obstacle))
