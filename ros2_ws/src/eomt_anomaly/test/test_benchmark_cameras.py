# SPDX-License-Identifier: MIT
"""The benchmark on a bag of several cameras: each has its own books, and they are fed as recorded."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import IMAGE, LABELS, make_bag  # noqa: E402
from bag_tools import run, summary_of  # noqa: E402
from node_rig import FakeEngine  # noqa: E402
from report_fixtures import make_recording  # noqa: E402
from test_bag_benchmark import balanced  # noqa: E402

from eomt_anomaly.report.statistics import summarize_cameras  # noqa: E402
from eomt_anomaly.ros import bag_benchmark  # noqa: E402
from eomt_anomaly.ros.bag_cameras import cameras_of, truths_of  # noqa: E402
from eomt_anomaly.ros.bag_io import Bag, BagError, Record, Topic  # noqa: E402
from eomt_anomaly.ros.benchmark import bench, load, modes  # noqa: E402

RIGHT = "/camera/right/image_raw/compressed"
BOTH = (IMAGE, RIGHT)


@pytest.mark.slow
def test_two_cameras_raw_and_compressed_are_measured_in_one_run_with_books_of_their_own(tmp_path):
    path = make_bag(
        tmp_path / "bag", frames=20, images=BOTH, every={RIGHT: 2}, damaged=(4, 8), first=8, road=1
    )
    status, output = run("bag_benchmark", path, "--topics", "all", "--output", tmp_path)
    assert status == 0, output
    summary = summary_of(tmp_path)
    cameras = summary["cameras"]
    assert list(cameras) == ["front", "right"] and balanced(summary) and all(map(balanced, cameras.values()))
    assert [camera["frames_in"] for camera in cameras.values()] == [20, 10] and summary["frames_in"] == 30
    assert cameras["right"]["dropped"]["invalid"] == 2 and "invalid" not in cameras["front"]["dropped"]
    assert summary["dropped"]["invalid"] == 2
    assert summary["latency_ms"]["count"] == sum(camera["frames_out"] for camera in cameras.values())
    assert cameras["front"]["quality"]["obstacles"]["encounters"] == 1 and summary["ground_truth"] == LABELS
    assert cameras["right"]["quality"] is None and summary["quality"] is None is summary["alerts"]
    assert cameras["front"]["alerts"]["frames_at_level"]["STOP"] > 0
    assert summary["topic"] == f"{IMAGE}, {RIGHT}" and "camera front" in output and "camera right" in output
    page = (tmp_path / "report.html").read_text()
    assert "By camera" in page and "<td>right</td>" in page
    one = str(tmp_path / "summary.json")
    assert bag_benchmark.main(["--compare", one, one, "--output", str(tmp_path)]) == 0
    assert "cameras.right.latency_ms.p50" in (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize("cameras", [1, 2, 4])
def test_half_the_possible_rate_is_half_of_it_with_several_cameras_too(cameras):
    """A worker that takes 0.1 s for a picture can do 10 / cameras rounds a second."""
    wanted = []

    class Slow(bench.Bench):
        def unloaded(self, seconds):
            stages = {"service": {"p50": 100.0}}
            self.runs.append(bench.Run({"name": "unloaded", "stages_ms": stages}, None, []))

        def at(self, hz, seconds, name=""):
            wanted.append(hz)
            numbers = {"stages_ms": {}, "node_latency_ms": {"p50": 1.0}, "resources": None}
            return bench.Run(numbers, None, [])

    live = SimpleNamespace(calibration=list, settings=None)
    one = [Record(f"/{n}", IMAGE, 0, b"") for n in range(cameras)]
    modes.outputs(Slow(live, [one], print), 1.0, 1, None, contextlib.nullcontext)
    assert wanted == [pytest.approx(5.0 / cameras)] * 2


@pytest.mark.slow
def test_an_overloaded_node_serves_its_cameras_alike(tmp_path):
    raw = IMAGE, "/camera/right/image_raw"  # JPEG would change the pixel that makes the engine slow
    path = make_bag(tmp_path / "bag", frames=4, images=raw, road=1, trick=5)
    args = "--topics", *raw, "--cameras", "one", "two", "--param", "max_batch=1"
    load = "--mode", "overload", "--sustained", 1.7, "--seconds", 4
    status, output = run("bag_benchmark", path, *args, *load, "--output", tmp_path)
    assert status == 0, output
    summary = summary_of(tmp_path)
    assert list(summary["cameras"]) == ["one", "two"] and all(map(balanced, summary["cameras"].values()))
    assert all(camera["dropped"]["overwritten"] >= 2 for camera in summary["cameras"].values())
    assert summary["offered_hz"] == pytest.approx(summary["wanted_hz"], rel=0.02)
    fair = next(check for check in summary["checks"] if "worst served camera" in check["name"])
    assert fair["met"] and fair["value"] >= 0.8


class Counting(FakeEngine):
    """Remembers how many pictures each pass had."""

    passes: list[int]

    def infer(self, images):
        type(self).passes.append(len(images))
        return super().infer(images)


@pytest.mark.parametrize(
    ("batched", "most", "passes"), [(True, 4, [2, 1, 2, 1, 1, 1]), (True, 1, [1] * 8), (False, 4, [1] * 8)]
)
def test_in_process_the_cameras_share_a_pass_as_in_the_node(tmp_path, monkeypatch, batched, most, passes):
    monkeypatch.setattr(bag_benchmark, "end_on_sigterm", lambda: None)
    path = make_bag(tmp_path / "bag", frames=6, images=BOTH, every={RIGHT: 2}, damaged=(4,), road=1)
    Counting.passes, Counting.batched = [], batched
    args = ["--topics", *BOTH, "--mode", "in_process", "--param", f"max_batch={most}"]
    call = [str(path), *args, "--output", str(tmp_path / "out")]
    assert bag_benchmark.main(call, make_engine=Counting) == 0
    warm = 3 if most > 1 and not batched else 2  # two rounds; the damaged picture is in no pass
    assert Counting.passes[warm:] == passes
    summary = summary_of(tmp_path / "out")
    assert {n: (c["frames_in"], c["frames_out"], c["dropped"]) for n, c in summary["cameras"].items()} == {
        "front": (6, 6, {}),
        "right": (3, 2, {"invalid": 1}),
    }
    assert balanced(summary) and "By camera" in (tmp_path / "out" / "report.html").read_text()


def test_a_pass_that_fails_is_run_again_picture_by_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_benchmark, "end_on_sigterm", lambda: None)

    class Picky(FakeEngine):
        def infer(self, images):
            if len(images) > 1:
                raise RuntimeError("one at a time")
            return super().infer(images)

    path = make_bag(tmp_path / "bag", frames=3, images=BOTH, road=1)
    call = [str(path), "--topics", "all", "--mode", "in_process", "--output", str(tmp_path / "out")]
    assert bag_benchmark.main(call, make_engine=Picky) == 0
    assert summary_of(tmp_path / "out")["frames_out"] == 6


def record(topic, ms):
    return Record(topic, "sensor_msgs/msg/Image", round(ms * 1e6), b"")


def test_rounds_keep_the_bag_s_order_and_hold_each_camera_once():
    times = ("a", 0), ("b", 40), ("a", 100), ("a", 200), ("b", 230), ("c", 250)
    records = [record(topic, ms) for topic, ms in times]
    cut = load.rounds(records, 3)
    assert [[one.topic for one in each] for each in cut] == [["a", "b"], ["a"], ["a", "b", "c"]]
    assert [one for each in cut for one in each] == records
    assert [len(each) for each in load.rounds(records, 1)] == [1] * 6


def test_at_even_rates_each_camera_keeps_its_place_in_the_period():
    cut = load.rounds([record(t, 100 * i + d) for i in range(5) for t, d in (("a", 0), ("b", 40 + i))], 2)
    due = [(round(seconds, 3), one.topic) for seconds, one in load.evenly(cut, 2.0, 3)]
    assert due == [(0.0, "a"), (0.21, "b"), (0.5, "a"), (0.71, "b"), (1.0, "a"), (1.21, "b")]
    assert load.places(load.rounds([record("a", 0), record("b", 7)], 2)) == {"a": 0.0, "b": 0.0}


def test_a_search_holds_only_where_every_camera_keeps_its_frames():
    assert bench.worst_loss({"loss": 0.01, "cameras": {"a": {"loss": 0.0}, "b": {"loss": 0.2}}}) == 0.2
    assert bench.worst_loss({"loss": 0.01}) == 0.01


def test_fair_is_the_same_for_all_or_all_of_one_s_own():
    def of(*pairs):
        return {str(i): {"frames_in": n, "frames_out": out} for i, (n, out) in enumerate(pairs)}

    assert modes.fairness(of((20, 10), (20, 10))) == 1.0
    assert modes.fairness(of((20, 10), (20, 4))) == 0.4
    assert modes.fairness(of((60, 30), (5, 5), (0, 0))) == 1.0
    assert modes.fairness(of((20, 10))) is modes.fairness(of((5, 0), (5, 0))) is modes.fairness({}) is None


def test_together_is_the_sum_and_jitter_is_of_each_camera():
    a, _ = make_recording(every=2)
    b, _ = make_recording(every=3)
    for name, recording in (("a", a), ("b", b)):
        for frame in recording.frames:
            frame.camera = name
    for frame in b.judged:
        frame.received_s += 0.5
    found = summarize_cameras({"a": a, "b": b})
    assert found["frames_in"] == len(a.frames) + len(b.frames) and balanced(found)
    assert found["dropped"] == {"overwritten": a.dropped["overwritten"] + b.dropped["overwritten"]}
    assert found["latency_ms"]["max"] - found["latency_ms"]["p50"] == pytest.approx(500, abs=1)
    assert found["jitter_ms"]["max"] < 1 and found["jitter_ms"]["count"] == found["frames_out"] - 2
    assert "cameras" not in summarize_cameras({"a": a}) and found["cameras"]["a"]["loss"] == 0.5


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (BOTH, ["front", "right"]),
        (("/rig/left/image_raw", "/rig/right/color/image"), ["left_image_raw", "right_color_image"]),
        (("/a/1/image", "/a/2/image"), ["camera1", "camera2"]),
        ((IMAGE,), ["front"]),
    ],
)
def test_cameras_are_called_by_what_tells_their_topics_apart(tmp_path, images, names):
    with Bag(make_bag(tmp_path / "bag", frames=1, images=images)) as bag:
        cameras = cameras_of(bag, ["all"], [], several=True)
    assert [camera.name for camera in cameras] == names


@pytest.mark.parametrize(
    ("topics", "names", "text"),
    [
        ([], [], "has 3 topics with pictures; choose one"),
        ([IMAGE, "/nothing"], [], "has no topic /nothing"),
        ([IMAGE, "/chatter"], [], "/chatter carries std_msgs/msg/String, not pictures"),
        ([IMAGE, IMAGE], [], f"{IMAGE} and {IMAGE} are both replayed as {IMAGE}: leave one of them out"),
        ([IMAGE, RIGHT], ["one"], r"--cameras gives 1 names \(one\) for 2 topics"),
        ([IMAGE, RIGHT], ["one", "one"], "--cameras gives 'one': give each camera a name of its own"),
        ([IMAGE, RIGHT], ["one", "2nd"], "--cameras gives '2nd'"),
    ],
)
def test_what_cannot_be_measured_together_is_refused_by_name(tmp_path, topics, names, text):
    path = make_bag(tmp_path / "bag", frames=1, images=(*BOTH, "/up/image"))
    with Bag(path) as bag, pytest.raises(BagError, match=text):
        cameras_of(bag, topics, names, several=True)


def test_all_is_a_topic_s_name_where_one_camera_is_asked_for(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=1)) as bag, pytest.raises(BagError, match="no topic all"):
        cameras_of(bag, ["all"], [], several=False)


def test_labels_that_could_belong_to_several_cameras_belong_to_none(tmp_path):
    near = ("/camera/front/left/image", "/camera/front/right/image")
    with Bag(make_bag(tmp_path / "bag", frames=1, images=near)) as bag:
        cameras = cameras_of(bag, list(near), [], several=True)
        truths, notes = truths_of(bag, cameras)
        assert truths == {} and len(notes) == 2 and LABELS in notes[0]
        one, none = truths_of(bag, cameras[:1])
    assert isinstance(one["left"], Topic) and none == []


def test_a_camera_without_pictures_in_the_load_is_named(tmp_path):
    path = make_bag(tmp_path / "bag", frames=4, images=BOTH, every={RIGHT: 4})
    with Bag(path) as bag, pytest.raises(load.ReplayError, match=f"no picture of {RIGHT} is left"):
        load.pictures(bag, BOTH, start_offset_s=0.1)
