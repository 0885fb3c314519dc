# SPDX-License-Identifier: MIT
"""The soak's verdict notices what is lost, what grows and who starves, and a short run of it balances."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from soak_report import books, judge, theil_sen

SOAK = Path(__file__).resolve().parents[1] / "soak.py"


def account(came=1000, judged=900, overwritten=100, pending=0, transport=0):
    counted = {"frames_in": came, "frames_out": judged, "frames_pending": pending}
    return counted | {"dropped_overwritten": overwritten, "dropped_transport": transport}


def heard(frames=900, gaps=0):
    return {"frames": frames, "heartbeats": 5, "gaps": gaps}


@pytest.mark.parametrize(
    "sent, of_node, alerts, words",
    [
        (1000, account(), heard(), ""),
        (1005, account(), heard(), ""),
        (1000, account(), heard(frames=897, gaps=3), ""),
        (999, account(), heard(), "more received than sent"),
        (1000, account(overwritten=99, pending=1), heard(), "pending"),
        (1000, account(overwritten=99), heard(), "in is not judged"),
        (1000, account(), heard(frames=899), "never sent"),
        (1000, account(), heard(frames=901), "more alerts"),
        (1000, None, heard(), "no account"),
    ],
)
def test_the_books_of_a_camera_balance_exactly_or_say_what_is_wrong(sent, of_node, alerts, words):
    found = books({"a": sent}, {"a": of_node} if of_node else {}, {"a": alerts})["a"]
    assert (words in found["wrong"]) if words else not found["wrong"]
    if not words:
        assert found["outside"] == found["lost_in_transport"] == sent - 1000


def test_what_the_node_saw_lost_in_transport_is_in_its_books():
    found = books({"a": 1005}, {"a": account(overwritten=60, transport=40)}, {"a": heard()})["a"]
    assert not found["wrong"] and (found["outside"], found["lost_in_transport"]) == (5, 45)


def course(rss=lambda i: 500.0, second=1.0):
    """100 samples of two cameras, the second served that share of what the first is."""
    return [
        {
            "seconds": float(i),
            "rss_mb": rss(i),
            "descriptors": 23,
            "threads": 25,
            "accounts": {
                "a": account(100 * i, 90 * i, 10 * i),
                "b": account(100 * i, int(90 * i * second), 100 * i - int(90 * i * second)),
            },
        }
        for i in range(1, 101)
    ]


def verdict(samples, sent=10_000, wanted=20_000, pictures=1):
    last = samples[-1]["accounts"]
    alerts = {name: heard(of["frames_out"]) for name, of in last.items()}
    read = {"overlay": pictures, "mask": pictures, "obstacles": 0}
    return judge(samples, books(dict.fromkeys(last, sent), last, alerts), read, wanted)


def failed(summary):
    assert summary["passed"] == all(summary["checks"].values())
    return [name.split(":")[0] for name, met in summary["checks"].items() if not met]


def test_each_check_fails_for_its_own_reason():
    assert failed(verdict(course())) == []
    assert failed(verdict(course(), wanted=20_001)) == ["enough frames"]
    assert failed(verdict(course(), sent=9_999)) == ["books balance"]
    assert failed(verdict(course(), sent=10_150)) == ["lost in transport"]
    assert failed(verdict(course(rss=lambda i: 500 + 0.03 * i))) == ["memory"]
    assert failed(verdict(course(second=0.7))) == ["fair"]
    assert failed(verdict(course(), pictures=0)) == ["overlays and masks came"]


def test_memory_that_alternates_between_two_levels_has_no_slope_and_a_leak_below_it_has():
    random = np.random.default_rng(0)
    x, levels = np.arange(200.0), 23.0 * random.integers(0, 2, 200)
    levels[150:] = np.maximum(levels[150:], 23.0 * random.integers(0, 2, 50))   # least squares sees a slope
    assert abs(np.polyfit(x, levels, 1)[0]) > 0.01 and abs(theil_sen(x, levels)) < 1e-9
    assert theil_sen(x, levels + 0.05 * x) == pytest.approx(0.05, rel=0.3)
    assert theil_sen(np.ones(3), np.arange(3.0)) == 0.0


@pytest.mark.slow
def test_a_short_run_sends_drains_and_balances(tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    command = [sys.executable, SOAK, "--frames", "120", "--cameras", "2", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    summary = json.loads((tmp_path / "soak.json").read_text())
    checks = summary["checks"]      # not memory and fairness: a run this short is all start
    assert checks["enough frames"] and checks["books balance"], done.stdout + done.stderr
    assert checks["overlays and masks came"] and (tmp_path / "soak.png").stat().st_size > 10_000
    for camera in summary["cameras"].values():
        assert camera["sent"] == camera["outside"] + camera["received"]
        assert camera["received"] == camera["judged"] + sum(camera["dropped"].values())
        assert 0 < camera["alerts_on_frames"] <= camera["judged"] and "invalid" not in camera["dropped"]
    assert done.returncode == (0 if summary["passed"] else 1)
