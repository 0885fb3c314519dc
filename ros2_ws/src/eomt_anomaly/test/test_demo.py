# SPDX-License-Identifier: MIT
"""The demo turns any bag with pictures into a video, a page and numbers, or says why it cannot."""

from __future__ import annotations

import cv2
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import make_bag  # noqa: E402
from bag_tools import run, summary_of  # noqa: E402

from eomt_anomaly.ros import demo  # noqa: E402


@pytest.mark.slow
def test_the_demo_leaves_a_video_a_page_and_a_summary(tmp_path):
    path = make_bag(tmp_path / "bag", frames=20, rate=10, size=(160, 120), road=1)
    out = tmp_path / "out"
    status, output = run("demo", "--device", "cpu", "--short-side", 0, "--bag", path, "--output", out)
    assert status == 0, output
    for piece in ("waiting for the detector", "replaying", "published", "writing overlay.mp4", "report.html"):
        assert piece in output
    summary = summary_of(out)
    assert summary["frames_in"] == 20 == summary["frames_out"] + sum(summary["dropped"].values())
    assert summary["quality"]["obstacles"]["encounters_alerted"] == 1
    capture = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    html = (out / "report.html").read_text()
    assert "data:image/jpeg" in html and "not a certified safety function" in html


@pytest.mark.slow
def test_a_bag_without_ground_truth_or_calibration_is_enough(tmp_path):
    path = make_bag(
        tmp_path / "bag",
        frames=8,
        storage="sqlite3",
        compressed=True,
        labels=False,
        info=False,
        images=("/eye",),
    )
    status, output = run(
        "demo",
        "--device",
        "cpu",
        "--short-side",
        0,
        "--bag",
        path,
        "--output",
        tmp_path / "out",
        "--camera",
        "eye",
    )
    assert status == 0, output
    assert summary_of(tmp_path / "out")["quality"] is None
    assert "no ground truth" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_ground_truth_that_cannot_be_used_costs_only_the_quality(tmp_path):
    path = make_bag(tmp_path / "bag", frames=6, label_size=(56, 42))
    out = tmp_path / "out"
    status, output = run("demo", "--device", "cpu", "--short-side", 0, "--bag", path, "--output", out)
    assert status == 0 and "Traceback" not in output, output
    summary = summary_of(out)
    assert summary["quality"] is None
    note = next(note for note in summary["notes"] if "Quality is not known" in note)
    assert "the ground truth is 56 x 42 px, but the heatmap is 112 x 84" in note
    html = (out / "report.html").read_text()
    assert note in html and "could not be compared" in html and "no ground truth" not in html


@pytest.mark.slow
def test_a_demo_of_which_nothing_comes_out_fails_and_leaves_no_old_report(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("an old report")
    path = make_bag(tmp_path / "bag", frames=4, compressed=True, labels=False, damaged=(0, 1, 2, 3))
    status, output = run("demo", "--device", "cpu", "--short-side", 0, "--bag", path, "--output", out)
    assert (status, "no frame came back from the detector: {'invalid': 4}" in output) == (1, True), output
    assert not (out / "report.html").exists()


def test_a_bag_that_cannot_be_used_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "end_on_sigterm", lambda: None)
    path = make_bag(tmp_path / "bag", frames=2)
    blind = make_bag(tmp_path / "blind", frames=2, images=(), labels=False)
    cut = make_bag(tmp_path / "cut", frames=2) / "cut.mcap"
    cut.write_bytes(cut.read_bytes()[:-1000])
    torn = make_bag(tmp_path / "torn", frames=2, storage="sqlite3", compression="message")
    (torn / "metadata.yaml").unlink()      # nobody knows now that the messages are compressed
    monkeypatch.setattr(demo, "on_gpu", lambda device: False)
    for args, text in (
        (("--bag", str(tmp_path / "absent")), "does not exist"),
        (("--bag", str(path), "--topic", "/chatter"), "not pictures"),
        (("--bag", str(path), "--topic", "/nothing"), "no topic /nothing; it has:"),
        (("--bag", str(blind)), "no topic with pictures"),
        (("--bag", str(cut.parent)), "cut off, or not a bag): File end magic is invalid. Recover it"),
        (("--bag", str(cut)), "cut off, or not a bag)"),
        (("--bag", str(torn)), "the bag is damaged, or it is compressed"),
    ):
        assert demo.main([*args, "--output", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("demo: ") and text in error


def test_on_a_cpu_the_demo_asks_for_less_and_says_so():
    slow, own, fast = (
        demo.arguments(argv)
        for argv in (["--device", "cpu"], ["--device", "cpu", "--short-side", "0"], ["--device", "cuda"])
    )
    assert "short side of 252" in demo.suit_slow_devices(slow)[0]
    assert (slow.short_side, slow.param) == (252, ["max_age=1.0", "stale_timeout=3.0"])
    for args in (own, fast):
        assert demo.suit_slow_devices(args) == []
        assert (args.short_side, args.param) == (0, [])
