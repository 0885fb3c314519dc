# SPDX-License-Identifier: MIT
"""Ratios, resources, load and pages of the benchmark, on numbers that are known."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import IMAGE, make_bag  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from report_fixtures import make_recording  # noqa: E402
from test_report_page import Balance  # noqa: E402

from eomt_anomaly.report import benchmark_page, plots  # noqa: E402
from eomt_anomaly.report.compare import NotComparable, compare, lines, paired  # noqa: E402
from eomt_anomaly.report.statistics import summarize  # noqa: E402
from eomt_anomaly.ros import resources  # noqa: E402
from eomt_anomaly.ros.bag_io import Bag  # noqa: E402
from eomt_anomaly.ros.benchmark import bench, load, modes  # noqa: E402

TIMES = {"p50": 10.0, "p95": 20.0, "p99": 40.0, "p999": 50.0}


def summary(scale=1.0, **more):
    times = {key: value * scale for key, value in TIMES.items()}
    return {
        "mode": "ros",
        "latency_ms": times,
        "stages_ms": {"decode": times},
        "fps": {"out": 5.0 / scale},
    } | more


def test_compare_divides_b_by_a_medians_first_and_names_what_differs():
    found = compare(summary(device="cpu"), summary(1.5, device="cuda:0"))
    ratios = {row["name"]: row["ratio"] for row in found["rows"]}
    assert ratios["latency_ms.p50"] == ratios["latency_ms.p999"] == ratios["stages_ms.decode.p99"] == 1.5
    assert ratios["fps.out"] == pytest.approx(1 / 1.5, abs=1e-4)
    assert [row["name"] for row in found["rows"][:2]] == ["latency_ms.p50", "stages_ms.decode.p50"]
    assert found["differs"] == {"device": ["cpu", "cuda:0"]}
    text = lines(found, ("old", "new"))
    assert "1.500" in text and "differs: device: cpu and cuda:0" in text
    about = {"checkpoint_sha256": "1", "parameters": {"short_side": 252, "max_age": 1}, "seconds": 10}
    other = {"checkpoint_sha256": "2", "parameters": {"short_side": 476, "max_age": 1, "x": 1}, "seconds": 5}
    assert compare(summary(**about), summary(**other))["differs"] == {
        "seconds": [10, 5], "checkpoint_sha256": ["1", "2"], "parameters.short_side": [252, 476],
        "parameters.x": [None, 1]}  # fmt: skip


def test_only_like_is_compared_with_like():
    with pytest.raises(NotComparable, match="--mode ros, the other with search"):
        compare(summary(), summary(mode="search"))
    with pytest.raises(NotComparable, match="no number in common"):
        compare({"mode": "ros"}, summary())
    zero = compare(summary(loss=0.0), summary(loss=0.5))["rows"][-1]
    assert (zero["name"], zero["ratio"]) == ("loss", None)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.integers(0, 50), st.floats(1e-3, 10.0), min_size=1), st.floats(0.1, 10.0))
def test_the_ratio_of_the_same_frames_is_exact_and_within_its_interval(a, factor):
    b = {index: seconds * factor for index, seconds in a.items()} | {99: 5.0}
    found = paired(a, b)
    assert found["frames"] == len(a)
    assert found["median_ratio"] == pytest.approx(factor, abs=1e-4)
    assert found["interval"][0] <= found["median_ratio"] <= found["interval"][1]
    assert paired({1: 1.0}, {2: 1.0})["median_ratio"] is None


def course(seconds=20.0, cores=0.5, mb_per_s=0.0):
    times = [i * 0.2 for i in range(round(seconds / 0.2))]
    return [(t, 3.0 + cores * t, 400.0 + mb_per_s * t, 9, 30 + i % 2, None) for i, t in enumerate(times)]


def test_processor_time_and_growth_come_from_the_samples():
    flat, leak = (resources.summarize(course(mb_per_s=rate), frames=1000) for rate in (0.0, 2.0))
    assert (flat["cpu_percent"], flat["memory_flat"], flat["rss_mb_per_10k_frames"]) == (50.0, True, 0.0)
    assert flat["cpu_ms_per_frame"] == pytest.approx(0.5 * 19.8 / 1000 * 1e3)
    assert (flat["threads_max"], flat["descriptors_max"], flat["gpu_memory_mb"]) == (9, 31, None)
    assert not leak["memory_flat"] and leak["rss_growth_mb"] > 20
    assert leak["rss_mb_per_10k_frames"] == pytest.approx(2.0 * 19.8 / 1000 * 1e4, rel=0.01)
    assert resources.summarize(course(mb_per_s=2.0), frames=200)["rss_mb_per_10k_frames"] is None
    assert resources.summarize(course()[:1]) is None


def test_a_process_is_sampled_until_it_ends():
    busy = "import time; e = time.monotonic() + 1\nwhile time.monotonic() < e: pass"
    process = subprocess.Popen([sys.executable, "-c", busy])
    with resources.Sampler(process.pid) as sampler:
        process.wait()
        time.sleep(0.5)
    found = sampler.summary(10)
    assert 0 < found["cpu_percent"] <= 110 and 1 < found["rss_mb"]["max"] < 200 and found["threads_max"] >= 1
    with resources.Sampler(None) as nobody:
        pass
    assert nobody.summary() is None


class StubLive:
    """A run of half a second, and a second more until the detector has told its counters."""

    pid = os.getpid()
    calibration = reset = stages = staticmethod(dict)

    def run(self, play, what, progress):
        self.began = time.monotonic()
        time.sleep(1.5)
        recording, _ = make_recording(frames=2, every=1)
        recording.duration_s = 0.5
        return {"front": recording}


def test_what_comes_after_the_last_alert_does_not_dilute_the_load():
    run = bench.Bench(StubLive(), [], lambda text: None).at(2.0, 1.0)
    assert 0.5 <= run.summary["resources"]["seconds"] < 1.4


def smi(folder, text):
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncase $1 in *compute-apps*) printf '{text}';; *) printf '0, 700\\n1, 300\\n';; esac\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    return str(tool)


def test_gpu_memory_is_the_process_s_own_where_the_driver_tells(tmp_path):
    pid = os.getpid()
    assert resources.read_gpu(smi(tmp_path, f"1, 50\\n{pid}, 100\\n{pid}, 20\\n"), pid) == pytest.approx(
        125.829
    )
    for untold in (f"{pid}, [N/A]\\n", "1, 50\\n", ""):
        assert resources.read_gpu(smi(tmp_path, untold), pid) == pytest.approx(1048.576)
    assert resources.read_gpu("/nothing", pid) is None


def test_load_is_even_or_waits_for_the_answer(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=4)) as bag:
        records = load.pictures(bag, [IMAGE])
        assert len(load.pictures(bag, [IMAGE], max_bytes=1)) == 1
    single = load.rounds(records, 1)
    even = list(load.evenly(single, 4.0, 6))
    assert [due for due, _ in even] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert [record for _, record in even] == [*records, *records[:2]]

    answers, sent = [0], []
    for due, _ in load.one_by_one(single, 5, 10.0, time.monotonic(), lambda: answers[0]):
        sent.append(due)
        answers[0] += 1
    assert len(sent) == 5 and sent == sorted(sent)


def test_an_overloaded_node_is_judged_by_age_books_and_memory():
    good = {
        "frames_in": 10, "frames_out": 6, "dropped": {"overwritten": 4}, "age_ms": {"p99": 240.0},
        "offered": True, "stages_ms": {"service": {"p50": 100.0}}, "offered_hz": 20.0, "wanted_hz": 20.0,
        "resources": resources.summarize(course(), 6),
    }  # fmt: skip
    assert [check["met"] for check in modes.checks(good)] == [True] * 4
    late = good | {"age_ms": {"p99": 260.0}, "frames_out": 5, "offered": False}
    assert [check["met"] for check in modes.checks(late)] == [False, False, False, True]
    unknown = good | {"stages_ms": {}, "resources": None}
    assert [check["met"] for check in modes.checks(unknown)] == [None, True, True, None]


def made(mode, **more):
    recording, _ = make_recording()
    stages = {name: TIMES for name in ("wait", "decode", "inference", "overhead", "service", "outputs")}
    recording.check()
    run = bench.summary_of({"front": recording}, "10 Hz", 10.0, stages, resources.summarize(course(), 10))
    times = [(frame.sent_s, 1e3 * frame.latency_s) for frame in recording.judged]
    about = {**summarize(recording), "mode": mode, "runs": [run, run | {"name": "20 Hz", "wanted_hz": 20.0}]}
    return {**about, **run, **more}, [benchmark_page.Course("10 Hz", times, course())]


@pytest.mark.parametrize(
    ("mode", "more", "pieces"),
    [
        ("ros", {}, ["10 overwritten", "10 ms beyond the engine"]),
        (
            "search",
            {"search": {"sustained_hz": 8.5, "failed_hz": 9.0, "converged": True,
                        "limited_by": "the detector", "max_loss": 0.01,
                        "probes": [{"hz": 9.0, "held": False, "loss": 0.25, "dropped": {"overwritten": 5}}]}},
            ["8.5 Hz", "25.00 %", "5 overwritten", "1 % allowed"],
        ),
        (
            "overload",
            {"checks": [{"name": "some check", "value": 3.0, "limit": 2.0, "met": False}]},
            ["some check", "NOT met"],
        ),
        (
            "in_process",
            {"age_ms": None, "compare": compare(summary(), summary(1.5, device="<b>"))
             | {"paired": paired({0: 1.0}, {0: 2.0})}},
            ["1.5", "over 1 frames", "<b>", "the alert level"],
        ),
    ],
)  # fmt: skip
def test_the_page_of_each_mode_is_well_formed_and_says_what_was_found(mode, more, pieces):
    parser = Balance()
    parser.feed(benchmark_page.benchmark_page(*made(mode, **more)))
    text = " ".join(" ".join(parser.text).split())
    assert not parser.open and not [link for link in parser.links if not link.startswith("data:")]
    for piece in ("Benchmark on bag", "Time by stage", "resident memory", "How this was measured", *pieces):
        assert piece in text, piece


def test_plots_stand_nothing_and_one_point():
    assert "nothing to show" in plots.lines({}, "s", "ms") and "nothing to show" in plots.stacked({}, ("a",))
    for svg in (
        plots.lines({"one": [(0.0, 0.0)]}, "s", "ms"),
        plots.ratios({"same": 1.0}),
        plots.ratios({"none": 0.0}),
    ):
        assert "nan" not in svg and "inf" not in svg
