# SPDX-License-Identifier: MIT
"""bag_benchmark accounts for every frame and measures what a known detector does."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import IMAGE, LABELS, START_NS, make_bag  # noqa: E402
from bag_tools import children_of, run, start, summary_of  # noqa: E402
from report_fixtures import make_recording  # noqa: E402

from eomt_anomaly.ros import bag_benchmark, measured  # noqa: E402
from eomt_anomaly.ros.bag_io import Bag  # noqa: E402
from eomt_anomaly.ros.replay_options import settings_of  # noqa: E402

KEYS = {
    "frames_in",
    "frames_out",
    "dropped",
    "latency_ms",
    "age_ms",
    "fps",
    "alerts",
    "quality",
    "device",
    "precision",
    "checkpoint_sha256",
    "bag_sha256",
    "versions",
}


def balanced(summary):
    return summary["frames_in"] == summary["frames_out"] + sum(summary["dropped"].values())


@pytest.mark.slow
def test_a_detector_that_sees_every_obstacle_is_measured_as_such(tmp_path):
    path = make_bag(tmp_path / "bag", frames=40, rate=10, size=(160, 120), first=15, road=1)
    status, output = run("bag_benchmark", path, "--output", tmp_path / "out")
    assert status == 0, output
    summary = summary_of(tmp_path / "out")
    assert KEYS <= set(summary)
    assert balanced(summary) and summary["frames_in"] == 40 and summary["frames_out"] >= 20
    for name in ("latency_ms", "age_ms"):
        assert (
            0 < summary[name]["p50"] <= summary[name]["p95"] <= summary[name]["p99"] <= summary[name]["p999"]
        )
        assert summary[name]["count"] == summary["frames_out"]
    quality = summary["quality"]
    assert quality["pixels"]["auprc"] > 0.95 and quality["masks"]["miou"] > 0.95
    assert (quality["obstacles"]["encounters"], quality["obstacles"]["encounters_alerted"]) == (1, 1)
    assert 0 < quality["obstacles"]["time_to_first_alert_s"][0] < 2.5
    assert quality["obstacles"]["false_alert_frames"] == 0
    assert (summary["topic"], summary["ground_truth"]) == (IMAGE, LABELS)
    assert any("height above the ground is unknown" in note for note in summary["notes"])


@pytest.mark.slow
def test_invalid_pictures_are_dropped_by_name_and_nothing_stops(tmp_path):
    path = make_bag(
        tmp_path / "bag", frames=15, rate=10, compressed=True, labels=False, info=False, damaged=(4, 9)
    )
    status, output = run("bag_benchmark", path, "--output", tmp_path / "out")
    assert status == 0, output
    summary = summary_of(tmp_path / "out")
    assert summary["dropped"]["invalid"] == 2 and balanced(summary)
    assert summary["quality"] is None
    assert any("no CameraInfo" in note for note in summary["notes"])


@pytest.mark.slow
def test_failures_are_explained_and_leave_no_process_behind(tmp_path):
    path = make_bag(tmp_path / "bag", frames=3)
    for args, text in (
        (
            (path, "--checkpoint", "missing", "--param", "checkpoint=missing"),
            "the detector says: cannot configure: FileNotFoundError: checkpoint 'missing'",
        ),
        ((path, "--param", "max_age=-3.0"), "ended with status 2"),
        ((path, "--attach", "--startup-timeout", 1), "no detector /detector with camera front"),
    ):
        status, output = run("bag_benchmark", *args, "--output", tmp_path / "out")
        assert (status, text in output) == (1, True), output
        assert "Traceback" not in output


def test_wrong_options_are_refused_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bag_benchmark, "end_on_sigterm", lambda: None)
    path = make_bag(tmp_path / "bag", frames=3)
    for args, text in (
        (("--param", "max_aeg=3.0"), "--param max_aeg: the detector has no such parameter"),
        (("--param", "oops"), "--param oops: write NAME=VALUE"),
        (("--start-offset", "100"), "--start-offset is 100 s"),
        (("--topic", "/nothing"), "no topic /nothing"),
    ):
        assert bag_benchmark.main([str(path), *args, "--output", str(tmp_path / "out")]) == 1
        assert text in capsys.readouterr().err


@pytest.mark.parametrize("given", ["--device=cpu", "--short-side=252", "--param=max_age=1.0", "--height=1.2",
                                   "--checkpoint=x", "--domain-id=3"])  # fmt: skip
def test_a_detector_that_runs_already_takes_no_options(tmp_path, capsys, given):
    with pytest.raises(SystemExit, match="2"):
        bag_benchmark.main([str(tmp_path), "--attach", given])
    told = capsys.readouterr().err
    assert given.split("=")[0] in told and "--attach" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--domain-id=233", "233 is no ROS domain: give a number from 0 to 232"),
        ("--domain-id=-1", "from 0 to 232"),
        ("--node=a b", "'a b' is no name of a node, e.g. /robot/detector"),
        ("--node=/robot/", "no name of a node"),
    ],
)
def test_names_and_numbers_that_ros_would_refuse_are_refused_at_once(tmp_path, capsys, given, words):
    with pytest.raises(SystemExit, match="2"):
        bag_benchmark.main([str(tmp_path), given])
    assert words in capsys.readouterr().err


def test_the_name_of_the_detector_is_its_full_one():
    assert bag_benchmark.arguments(["bag", "--node", "robot/detector"]).node == "/robot/detector"
    assert bag_benchmark.arguments(["bag", "--domain-id", "232"]).domain_id == 232


def test_a_whole_number_is_a_float_where_the_parameter_is_one(tmp_path):
    """ROS refuses 0 for a parameter that is a double, and 0.0 for an integer."""
    given = {"frozen_timeout": 0, "max_age": 0.2, "max_batch": 2, "second_look": False,
             "corridor.polygon": [0, 1, 1, 1, 0.5, 0]}
    args = bag_benchmark.arguments(
        [str(tmp_path), *(f"--param={name}={json.dumps(value)}" for name, value in given.items())])
    with Bag(make_bag(tmp_path / "bag", frames=2)) as bag:
        found = settings_of(args, bag, tmp_path, (), "")[0].parameters
    assert {name: json.dumps(found[name]) for name in given} == {
        "frozen_timeout": "0.0", "max_age": "0.2", "max_batch": "2", "second_look": "false",
        "corridor.polygon": "[0.0, 1.0, 1.0, 1.0, 0.5, 0.0]"}


def test_the_parameters_of_a_detector_that_runs_already_are_not_known(tmp_path):
    path = make_bag(tmp_path / "bag", frames=2)
    args = bag_benchmark.arguments([str(path), "--attach"])
    with Bag(path) as bag:
        found, notes = settings_of(args, bag, tmp_path, (), "")
    assert found.parameters == {} and notes == []


@pytest.mark.parametrize("made", [{"label_size": (56, 42)}, {"road": 3}])
def test_a_ground_truth_that_cannot_be_used_leaves_the_quality_open_and_says_why(tmp_path, made):
    recording, _ = make_recording(frames=6, first=2)
    for frame in recording.frames:
        frame.source_ns += START_NS
    said = []
    with Bag(make_bag(tmp_path / "bag", frames=6, first=2, **made)) as bag:
        labels, found, notes = measured._quality(
            bag, bag.topics[LABELS], recording, ("mask", "heatmap"), said.append
        )
    if "label_size" not in made:
        assert len(labels) == 6 and notes == [] and found["obstacles"]["encounters"] == 1
        return
    assert (labels, found) == ({}, None) and notes[0] == said[-1]
    assert notes[0].startswith(f"Quality is not known, as the ground truth {LABELS} cannot be used: ")
    assert "56 x 42 px, but the heatmap is 112 x 84" in notes[0]


@pytest.mark.slow
def test_an_interrupted_benchmark_ends_its_detector(tmp_path):
    path = make_bag(tmp_path / "bag", frames=200, rate=10)
    process = start("bag_benchmark", path, "--output", tmp_path / "out")
    children = []
    for line in process.stdout:
        if "published" in line:
            children = children_of(process.pid)
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)
    assert process.returncode == 130
    assert children
    for child in children:
        for _ in range(50):
            if not alive(child):
                break
            time.sleep(0.1)
        assert not alive(child)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
