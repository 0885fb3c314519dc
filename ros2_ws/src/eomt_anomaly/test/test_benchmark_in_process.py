# SPDX-License-Identifier: MIT
"""The benchmark without transport: every frame is accounted for, two checkpoints are told apart."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import make_bag  # noqa: E402
from bag_tools import summary_of  # noqa: E402
from node_rig import FakeEngine  # noqa: E402

from eomt_anomaly.ros import bag_benchmark  # noqa: E402
from eomt_anomaly.ros.benchmark import in_process  # noqa: E402


class Engine(FakeEngine):
    """Takes 4 ms an image, 8 ms with a checkpoint named "slow one"; tells its stages."""

    closed = 0

    def __init__(self, settings):
        super().__init__(settings)
        self.model_id, self.pause = settings.checkpoint, 0.008 if "slow one" in settings.checkpoint else 0.004

    def infer(self, images):
        time.sleep(self.pause * len(images))
        predictions = super().infer(images)
        for prediction in predictions:
            prediction.timings_ms = {"forward": 1e3 * self.pause * len(images)}
        return predictions

    def close(self):
        type(self).closed += 1


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_benchmark, "end_on_sigterm", lambda: None)

    def run(path, *args):
        call = [str(path), "--mode", "in_process", "--output", str(tmp_path / "out"), *map(str, args)]
        return bag_benchmark.main(call, make_engine=Engine), tmp_path / "out"

    return run


def test_every_frame_is_judged_or_dropped_by_reason_and_timed_by_stage(tmp_path, bench, capsys):
    path = make_bag(tmp_path / "bag", frames=12, compressed=True, damaged=(3, 7), road=1)
    status, out = bench(path)
    assert status == 0
    summary = summary_of(out)
    assert (summary["frames_in"], summary["frames_out"], summary["dropped"]) == (12, 10, {"invalid": 2})
    stages = summary["stages_ms"]
    assert {"deserialize", "decode", "inference", "alerts", "service", "overhead", "engine_forward"} <= set(
        stages
    )
    assert 4.0 <= stages["engine_forward"]["p50"] <= stages["inference"]["p50"] <= stages["service"]["p50"]
    assert summary["latency_ms"]["p50"] == stages["service"]["p50"] and summary["latency_ms"]["count"] == 10
    assert summary["resources"] is None or summary["resources"]["rss_mb"]["max"] > 10
    assert summary["mode"] == "in_process" and summary["bag_sha256"] and summary["versions"]
    assert "10 out + 2 dropped (2 invalid)" in capsys.readouterr().out
    assert "Time by stage" in (out / "report.html").read_text()


def test_the_vehicle_itself_is_left_out_as_in_the_node(tmp_path, bench, monkeypatch, capsys):
    """A mask of another size than the picture costs the frame; one that cannot be read ends the run."""
    path, mask = make_bag(tmp_path / "bag", frames=3, road=1), tmp_path / "mask.png"
    masks = []
    update = in_process.Monitor.update

    def seen(self, class_map, anomaly, stamp_s, camera=None, ignore_mask=None, look_again=None):
        masks.append(ignore_mask)
        return update(self, class_map, anomaly, stamp_s, camera, ignore_mask, look_again)

    monkeypatch.setattr(in_process.Monitor, "update", seen)
    cv2.imwrite(str(mask), np.full((84, 112), 255, np.uint8))
    assert bench(path, "--param", f"front.ignore_mask={mask}")[0] == 0
    assert masks and all(one is not None and one.all() for one in masks)
    cv2.imwrite(str(mask), np.zeros((30, 40), np.uint8))
    assert bench(path, "--param", f"front.ignore_mask={mask}")[0] == 1
    assert "no frame was judged: {'invalid': 3}" in capsys.readouterr().err
    assert bench(path, "--param", "front.ignore_mask=absent.png")[0] == 1
    assert "front.ignore_mask is 'absent.png': no such picture file" in capsys.readouterr().err


def test_the_bag_repeats_for_as_long_as_asked(tmp_path, bench):
    status, out = bench(make_bag(tmp_path / "bag", frames=3, road=1), "--seconds", 0.6)
    summary = summary_of(out)
    assert status == 0 and summary["frames_in"] == summary["frames_out"] > 3
    assert summary["resources"]["cpu_ms_per_frame"] >= 0


def test_two_checkpoints_take_turns_and_the_slower_one_shows(tmp_path, bench, capsys):
    Engine.closed = 0
    (tmp_path / "slow one").mkdir()
    status, out = bench(make_bag(tmp_path / "bag", frames=20, road=1), "--against", tmp_path / "slow one")
    assert status == 0 and Engine.closed == 2
    found = summary_of(out)
    assert [run["name"] for run in found["runs"]] == ["checkpoint", "against"]
    assert found["runs"][1]["model_id"].endswith("slow one") and found["runs"][1]["frames_out"] == 20
    ratio = next(row for row in found["compare"]["rows"] if row["name"] == "stages_ms.engine_forward.p50")[
        "ratio"
    ]
    assert ratio == pytest.approx(2)
    pair = found["compare"]["paired"]
    assert pair["frames"] == 20 and pair["interval"][0] <= pair["median_ratio"] <= pair["interval"][1]
    assert "b / a over 20 frames of both" in capsys.readouterr().out
    assert "Ratios" in (out / "report.html").read_text()


def test_two_summaries_are_compared(tmp_path, bench, capsys):
    path = make_bag(tmp_path / "bag", frames=3, road=1)
    assert bench(path)[0] == 0
    one = tmp_path / "out" / "summary.json"
    assert bag_benchmark.main(["--compare", str(one), str(one)]) == 0
    printed = capsys.readouterr().out
    assert "latency_ms.p50" in printed and "1.000" in printed and "differs" not in printed
    assert not (tmp_path / "both").exists()
    assert bag_benchmark.main(["--compare", str(one), str(one), "--output", str(tmp_path / "both")]) == 0
    found = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert found["a"] == found["b"] == str(one) and found["differs"] == {}
    assert {row["ratio"] for row in found["rows"]} <= {1.0, None}
    page = (tmp_path / "both" / "compare.html").read_text()
    assert page.count("<svg") >= 3 and "latency_ms.p50" in page and str(one) in page and "http" not in page
    capsys.readouterr()
    (tmp_path / "other.json").write_text('{"frames": 3}')
    for wrong, text in (("nothing.json", "cannot be read"), ("other.json", "has no latency_ms")):
        assert bag_benchmark.main(["--compare", str(one), str(tmp_path / wrong)]) == 1
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--param", "max_batch=0"), "max_batch is 0: give a number in"),
        (("--param", 'max_age="x"'), "wrong type"),
        (("--param", "checkpoint=missing"), "cannot be built: FileNotFoundError: checkpoint 'missing'"),
        (("--param", 'drivable_labels=["lava"]'), "drivable_labels names lava"),
    ],
)
def test_what_the_node_would_refuse_is_refused_here(tmp_path, bench, capsys, args, text):
    status, out = bench(make_bag(tmp_path / "bag", frames=3), *args)
    assert status == 1 and text in capsys.readouterr().err
    assert not (out / "summary.json").exists()


def test_an_engine_that_always_fails_is_no_measurement(tmp_path, bench, capsys):
    status, _ = bench(make_bag(tmp_path / "bag", frames=3, trick=1))
    assert status == 1 and "no frame was judged: {'error': 3}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["bag", "--mode", "search", "--hz", "5"], "--hz is of --mode ros, outputs, not of search"),
        (["bag", "--against", "x"], "--against is of --mode in_process, not of ros"),
        (["bag", "--mode", "in_process", "--attach"], "--attach is of --mode"),
        (["bag", "--mode", "outputs", "--hz", "1", "2"], "--mode outputs takes one rate; --hz has 2"),
        (["bag", "--seconds", "5"], "--seconds needs --hz"),
        (["bag", "--rate", "2", "--hz", "5"], "--rate 2 is for a replay as recorded"),
        (["bag", "--hz", "0"], "0 is not a number above 0"),
        (["bag", "--mode", "search", "--probes", "0"], "--probes is 0"),
        (["bag", "--mode", "overload", "--max-loss", "1.5"], "--max-loss is 1.5"),
        ([], "name a bag, or two summaries"),
        (["bag", "--compare", "a", "b"], "--compare measures nothing: leave bag out"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(capsys, args, text):
    with pytest.raises(SystemExit) as ended:
        bag_benchmark.arguments(args)
    assert ended.value.code == 2 and text in capsys.readouterr().err
