# SPDX-License-Identifier: MIT
"""Alerts over whole drives: hand-made maps and replays whose figures are known."""

import importlib.util
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_anomaly.alerts import Level
from eomt_training.data.sequences import Visible, open_sequences, visible
from eomt_training.evaluation import sequence_quality as quality
from eomt_training.evaluation.sequence_maps import infer
from eomt_training.evaluation.sequence_replay import Moment, Replay, matches
from eomt_training.evaluation.sequence_scores import SHARES, matched, quantiles, rate_at

SCRIPT = Path(__file__).resolve().parents[1] / "sequence_quality.py"
spec = importlib.util.spec_from_file_location("sequence_quality_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

CLEAR, CAUTION, STOP, UNKNOWN = Level.CLEAR, Level.CAUTION, Level.STOP, Level.UNKNOWN
BOX = (0, 0, 10, 10)


def replay(name, moments, on_road=None, rate_hz=10.0, untracked=()):
    return Replay(name, rate_hz, on_road or {}, moments, list(untracked) or [m.level for m in moments])


def approach(alerted, obstacle=0, share=0.001, step=0.001, away=30.0):
    """An obstacle that grows by `step` and comes 2 m nearer each frame."""
    return [
        Moment(CAUTION if hit else CLEAR, [(Visible(obstacle, share + step * n, away - 2 * n, BOX), hit)])
        for n, hit in enumerate(alerted)
    ]


@pytest.mark.parametrize(
    "alert, obstacle, same",
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), True),
        ((2, 2, 4, 4), (0, 0, 10, 10), True),  # a part of it
        ((0, 0, 30, 30), (0, 0, 10, 10), True),  # it and its shadow
        ((0, 0, 200, 200), (0, 0, 10, 10), False),  # the whole road is no finding
        ((9, 0, 10, 10), (0, 0, 10, 10), False),  # beside it
        ((20, 20, 5, 5), (0, 0, 10, 10), False),
    ],
)
def test_which_obstacle_an_alert_is_about(alert, obstacle, same):
    assert matches(alert, obstacle) is same


boxes = st.tuples(*[st.integers(-20, 20)] * 2, *[st.integers(1, 30)] * 2)


@given(a=boxes, b=boxes, dx=st.integers(-50, 50), dy=st.integers(-50, 50))
def test_matching_does_not_depend_on_the_place_and_needs_overlap(a, b, dx, dy):
    moved = [(x + dx, y + dy, w, h) for x, y, w, h in (a, b)]
    assert matches(a, b) == matches(*moved)
    apart = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
    assert not (apart and matches(a, b))


def test_recall_by_share_and_distance():
    seen = approach([False, False, True, True, False, False])  # 0.1 % at 30 m ... 0.6 % at 20 m
    figures = quality.measure([replay("a", seen, {0: True}), replay("c", [Moment(CLEAR)] * 3)])
    by_share = figures["recall_by_share"]
    assert (by_share["0.1"]["found"], by_share["0.1"]["of"]) == (1, 1)
    assert (by_share["0.5"]["found"], by_share["0.5"]["of"]) == (0, 1), (
        "alerts while it was small do not count"
    )
    assert by_share["1"]["of"] == 0 and math.isnan(by_share["1"]["percent"])
    by_distance = figures["recall_by_distance"]
    assert (by_distance["20-30"]["found"], by_distance["20-30"]["of"]) == (1, 1)
    assert (by_distance["30-40"]["found"], by_distance["30-40"]["of"]) == (0, 1)


def test_what_stands_beside_the_road_is_counted_apart():
    seen = approach([True] * 6)
    figures = quality.measure([replay("a", seen, {0: False})])
    assert figures["recall_by_share"]["0.5"]["of"] == 0 and figures["recall_beside_road"]["found"] == 1


@pytest.mark.parametrize(
    "alerted, frames",
    [
        ([False, False, True, False], 2),  # covers the share from frame 1 on, found in frame 2
        ([False, True, True, True], 1),
        ([True, False, False, False], 1),  # before
        ([False] * 4, math.inf),
    ],
)
def test_frames_to_the_first_alert(alerted, frames):
    sizes = quality.obstacles(replay("a", approach(alerted), {0: True}))[0]
    assert quality.frames_to_alert(sizes, 0.002) == frames
    assert quality.frames_to_alert(sizes, 0.5) is None


def test_a_never_found_obstacle_pulls_the_median_up():
    drives = [replay(str(n), approach([hit] * 6), {0: True}) for n, hit in enumerate([True, False, False])]
    told = quality.measure(drives)["first_alert"]["0.5"]
    assert told["median_frames"] is None and told["never"] == 2 and told["obstacles"] == 3


def test_false_alerts_are_tracks_on_clean_drives_only():
    false = [Moment(CAUTION, [], (7,)), Moment(CAUTION, [], (7,)), Moment(STOP, [], (7, 9)), Moment(CLEAR)]
    minute = false + [Moment(CLEAR)] * 596
    busy = replay("b", [Moment(CAUTION, [], (1,))] * 600, {0: True})
    figures = quality.measure([replay("a", minute), replay("c", [Moment(CLEAR)] * 600), busy])
    assert figures["false_alerts_per_minute"]["events"] == 2
    assert figures["false_alerts_per_minute"]["minutes"] == pytest.approx(2)
    assert figures["false_alerts_per_minute"]["rate"] == pytest.approx(1)
    assert figures["false_episodes_per_minute"]["events"] == 1
    assert figures["false_stops_per_minute"]["events"] == 1
    assert figures["clean_time_alerting"] == pytest.approx(100 * 3 / 1200)


def test_flicker_counts_changes_after_the_warm_up():
    levels = [UNKNOWN] * 5 + [CLEAR, CAUTION, CAUTION, CLEAR, CLEAR, CLEAR]
    assert quality.changes_per_second(levels, 10) == pytest.approx(2 / 5 * 10)
    assert math.isnan(quality.changes_per_second([UNKNOWN] * 4, 10))
    calm = replay("a", [Moment(CLEAR)] * 4, untracked=[CLEAR, STOP, CLEAR, STOP])
    figures = quality.measure([calm])
    assert figures["flicker_tracked"] == 0 and figures["flicker_untracked"] == pytest.approx(10)


def test_intervals():
    rng = np.random.default_rng(0)
    every = quality.rate([[True] * 30, [True] * 30], rng)
    assert (every["percent"], every["high"]) == (100, 100)
    assert every["low"] == pytest.approx(100 * 0.025 ** (1 / 60)), "sixty of sixty is not certainty"
    none = quality.per_minute([0, 0], [5, 5], rng)
    assert none["rate"] == 0 and none["high"] == pytest.approx(0.3689, abs=1e-4)
    mixed = quality.rate([[True, True], [True, False], [False, False]] * 10, rng)
    assert mixed["low"] < mixed["percent"] == 50 < mixed["high"]


@given(groups=st.lists(st.lists(st.booleans(), max_size=5), max_size=8), seed=st.integers(0, 9))
def test_a_rate_lies_within_its_interval(groups, seed):
    found = quality.rate(groups, np.random.default_rng(seed), 200)
    assert found["of"] == sum(map(len, groups))
    if found["of"]:
        assert 0 <= found["low"] <= found["high"] <= 100 and found["percent"] == pytest.approx(
            100 * found["found"] / found["of"]
        )


def test_a_matched_score_fires_as_often_and_keeps_its_ranking():
    rng = np.random.default_rng(0)
    reference, other = rng.random(200_000) ** 8, rng.normal(-3, 5, 200_000)
    knots = {name: quantiles([x]) for name, x in (("reference", reference), ("other", other))}
    assert len(knots["other"]) == len(SHARES)
    mapped = matched(other, knots["other"], knots["reference"])
    for rate in (0.1, 0.01, 0.001):
        threshold = np.quantile(reference, 1 - rate)
        assert np.mean(mapped >= threshold) == pytest.approx(rate, rel=0.1)
        assert rate_at(threshold, knots["reference"]) == pytest.approx(rate, rel=0.1)
    order = np.argsort(other)
    assert (np.diff(mapped[order]) >= 0).all() and 0 <= mapped.min() and mapped.max() <= 1


def test_an_obstacle_of_a_few_pixels_is_not_in_view():
    labels = np.full((90, 160), 3, np.uint8)
    labels[40:50, 20:40], labels[60, :20] = 200, 201
    (only,) = visible(labels, {0: 12.5, 1: 8.0})
    assert only == Visible(0, 200 / labels.size, 12.5, (20, 40, 20, 10))


def write_drive(root, maps, name, obstacle, frames=20, fires=True):
    """A flat road with, perhaps, a box on it; the score fires there, and nowhere else."""
    folder = root / name
    (folder / "labels").mkdir(parents=True)
    (folder / "images").mkdir()
    (maps / name).mkdir(parents=True)
    for i in range(frames):
        labels = np.zeros((90, 160), np.uint8)
        labels[45:] = 3
        score = np.zeros((90, 160), np.float16)
        if obstacle:
            labels[55:70, 70:90] = 200
            score[55:70, 70:90] = 2.0 if fires else 0.0
        cv2.imwrite(str(folder / "labels" / f"{i:05d}.png"), labels)
        cv2.imwrite(str(folder / "images" / f"{i:05d}.jpg"), labels)
        classes = np.where(labels == 200, 3, labels).astype(np.uint8)
        noise = np.random.default_rng(i).random((90, 160)).astype(np.float16)
        np.savez(maps / name / f"{i:05d}.npz", classes=classes, eomt_ext=score, rba=noise)
    about = {"rate_hz": 10.0, "size": [160, 90], "K": [[130, 0, 79.5], [0, 130, 44.5], [0, 0, 1]]}
    about |= {"height_m": 1.5, "pitch_rad": 0.0}
    about["obstacles"] = [{"id": 0, "kind": "crate", "on_road": True}] if obstacle else []
    about["distances_m"] = [{"0": 8.0} if obstacle else {}] * frames
    (folder / "sequence.json").write_text(json.dumps(about))


@pytest.fixture
def drives(tmp_path):
    root, maps = tmp_path / "val", tmp_path / "maps"
    write_drive(root, maps, "found", True)
    write_drive(root, maps, "missed", True, fires=False)
    write_drive(root, maps, "clean", False)
    made = {"checkpoint": "tiny", "weights_sha256": "0", "threshold": 0.5, "drivable_ids": [3], "every": 1}
    made |= {"scores": ["eomt_ext", "rba"], "short_side": 224, "grid": 16, "precision": "fp32"}
    (maps / "maps.json").write_text(json.dumps(made))
    return ["--sequences", str(root), "--maps", str(maps)]


def test_kept_maps_are_replayed_and_reported(drives, tmp_path):
    assert script.main(["match", *drives, "--output", str(tmp_path / "scores.json")]) == 0
    scores = ["--scores-file", str(tmp_path / "scores.json")]
    assert script.main(["replay", *drives, *scores, "--output", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "quality.json").read_text())
    figures = result["scores"]["eomt_ext"]
    assert (figures["recall_by_share"]["1"]["found"], figures["recall_by_share"]["1"]["of"]) == (1, 2)
    assert figures["first_alert"]["1"]["never"] == 1
    assert figures["false_alerts_per_minute"]["events"] == 0
    assert result["targets"] == {"recall": False, "false_alerts": False, "first_alert": True}
    assert list(result["scores"]) == ["eomt_ext", "rba"] and result["parameters"]["confirm_hits"] == 3
    page = (tmp_path / "out" / "quality.html").read_text()
    assert page.index("<code>missed</code>") < page.index("<code>found</code>"), "worst first"


def test_parameters_of_the_monitor_can_be_tried(drives, tmp_path):
    slow = ["--set", "confirm_hits=4", "caution_hits=4", "caution_area_fraction=1.0", "leave_ratio=0.7"]
    assert script.main(["replay", *drives, *slow, "--output", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert result["scores"]["eomt_ext"]["first_alert"]["1"]["median_frames"] == 4
    assert result["parameters"]["leave_ratio"] == 0.7


class Again:
    """A second look that sees nothing where it looks; it keeps what it was asked."""

    def __init__(self, *given, **options):
        self.options, self.asked = options, []

    def look_again(self, image, anomaly, boxes):
        self.asked.append((image.shape, tuple(boxes)))
        return np.zeros_like(anomaly)


def test_the_second_look_is_asked_about_the_same_picture_and_decides(drives, tmp_path, monkeypatch):
    engines = []
    monkeypatch.setattr(script, "Engine", lambda *a, **k: engines.append(Again(*a, **k)) or engines[-1])
    monkeypatch.setattr(script, "file_sha256", lambda path: "0" if "right" in str(path) else "1")
    look = ["--second-look", str(tmp_path / "right")]
    assert script.main(["replay", *drives, *look, "--output", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert result["second_look"] and result["scores"]["eomt_ext"]["recall_by_share"]["1"]["found"] == 0
    assert engines[0].options["short_side"] == 224 and engines[0].options["score"] == "eomt_ext"
    assert engines[0].asked and {shape for shape, _ in engines[0].asked} == {(90, 160, 3)}
    other = ["--second-look", str(tmp_path / "wrong")]
    assert script.main(["replay", *drives, *other, "--output", str(tmp_path / "out")]) == 1


@pytest.mark.parametrize(
    "options, words",
    [
        (["--set", "confirm=2"], "no number 'confirm'"),
        (["--set", "confirm_hits=9"], "confirm_hits is 9"),
        (["--set", "confirm_hits="], "--set confirm_hits=: '' is no number"),
        (["--scores-file", __file__], "test_sequence_quality.py is not JSON"),
        (["--scores", "rba"], "no quantiles of rba"),
    ],
)
def test_what_is_wrong_is_named(drives, tmp_path, capsys, options, words):
    assert script.main(["replay", *drives, *options, "--output", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err


def test_maps_of_a_drive_that_was_rendered_anew_are_refused(drives, tmp_path, capsys):
    """Of the same name and length: the old maps would be judged against the new truth."""
    home, (sequence, *_) = tmp_path / "maps", open_sequences(tmp_path / "val")
    replay = ["replay", *drives, "--output", str(tmp_path / "out")]
    assert infer(None, sequence, home, ()) == 0 and script.main(replay) == 0
    path = sequence.folder / "sequence.json"
    path.write_text(json.dumps(sequence.about | {"pitch_rad": sequence.about["pitch_rad"] + 0.01}))
    for command in (replay, ["match", *drives, "--output", str(tmp_path / "scores.json")]):
        assert script.main(command) == 1
        assert f"{home / sequence.name} holds maps of another drive" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds maps of another drive"):
        infer(None, open_sequences(tmp_path / "val")[0], home, ())


@pytest.mark.parametrize("where", ["maps/maps.json", "maps/found/sequence.json", "val/found/sequence.json"])
def test_a_half_written_file_is_named(drives, tmp_path, capsys, where):
    """As a full disk leaves it."""
    (tmp_path / where).write_text('{"rate_hz": ')
    assert script.main(["replay", *drives, "--output", str(tmp_path / "out")]) == 1
    assert f"{where} is not JSON" in capsys.readouterr().err


def test_missing_maps_and_sequences_are_named(drives, tmp_path, capsys):
    (tmp_path / "maps" / "found" / "00003.npz").unlink()
    assert script.main(["replay", *drives, "--output", str(tmp_path / "out")]) == 1
    assert "00003.npz is missing" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="render some"):
        open_sequences(tmp_path / "nowhere")
