# SPDX-License-Identifier: MIT
"""The benchmark on a live node whose engine takes 0.3 s a frame, so that what is found is known."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import make_bag  # noqa: E402
from bag_tools import run, summary_of  # noqa: E402
from test_bag_benchmark import balanced  # noqa: E402

SERVICE_S = 0.3  # of node_rig.FakeEngine for a picture whose first pixel is (5, 5, 5)


@pytest.mark.slow
def test_the_search_finds_what_the_node_sustains_and_reports_every_probe(tmp_path):
    path = make_bag(tmp_path / "bag", frames=4, road=1, trick=5)
    status, output = run(
        "bag_benchmark", path, "--mode", "search", "--seconds", 2, "--probes", 3, "--output", tmp_path
    )
    assert status == 0, output
    summary = summary_of(tmp_path)
    found = summary["search"]
    assert 0.4 / SERVICE_S < found["sustained_hz"] < 1.1 / SERVICE_S and 1 <= len(found["probes"]) <= 3
    assert summary["wanted_hz"] == pytest.approx(found["sustained_hz"], abs=1e-3)
    assert all(balanced(one) for one in summary["runs"]) and summary["loss"] <= 0.01
    unloaded = summary["runs"][0]
    assert unloaded["name"] == "unloaded" and unloaded["dropped"] == {}
    stages = {name: times["p50"] for name, times in unloaded["stages_ms"].items()}
    assert stages["inference"] >= 1e3 * SERVICE_S
    assert 0 < stages["overhead"] == pytest.approx(stages["end_to_end"] - stages["inference"], abs=40)
    assert stages["wait"] + stages["decode"] + stages["alerts"] + stages["publish"] < stages["overhead"] + 40
    assert summary["resources"]["rss_mb"]["max"] > 20 and summary["jitter_ms"]["count"] > 0
    assert "highest sustainable rate" in output and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_overload_drops_frames_by_reason_and_keeps_the_rest_young(tmp_path):
    path = make_bag(tmp_path / "bag", frames=4, road=1, trick=5)
    args = "--mode", "overload", "--sustained", 1 / SERVICE_S, "--seconds", 2, "--output", tmp_path
    status, output = run("bag_benchmark", path, *args)
    assert status == 0, output
    summary = summary_of(tmp_path)
    assert summary["name"] == "overload 2x" and balanced(summary)
    assert 0.3 < summary["loss"] < 0.7 and summary["dropped"]["overwritten"] > 3
    checks = {check["name"]: check for check in summary["checks"]}
    assert checks["frames without an account"]["met"] and checks["p99 age, in service times"]["value"] < 3.5


@pytest.mark.slow
def test_outputs_cost_nothing_until_somebody_listens(tmp_path):
    path = make_bag(tmp_path / "bag", frames=6, road=1, size=(320, 240))
    args = "--mode", "outputs", "--hz", 10, "--rounds", 1, "--seconds", 1, "--output", tmp_path
    status, output = run("bag_benchmark", path, *args)
    assert status == 0, output
    found = summary_of(tmp_path)["outputs"]["outputs_ms"]
    assert 0 < found["alone"] < found["subscribed"]
    assert "alerts alone" in output
