# SPDX-License-Identifier: MIT
"""`runtime.scaling`: which configurations are measured, what is written of them, and its page."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from eomt_anomaly.model import EomtExt
from eomt_anomaly.model.checkpoint import read_config
from eomt_anomaly.report import scaling_page
from eomt_anomaly.runtime import scaling
from eomt_anomaly.runtime.checkpoints import default_checkpoint
from eomt_anomaly.runtime.scaling_worker import Load, Worker

BASE = Load("tiny", (40, 60), 28, 8, threads=4)


def test_each_axis_changes_one_thing_and_begins_with_the_base():
    axes = scaling.axes(BASE, [(20, 30), (40, 60)], [56], [4, 16], [1, 2, 8])
    for cases in axes.values():
        assert cases[0].load == BASE and cases[0].processes == 1
    assert [c.load.image for c in axes["image"]] == [(40, 60), (20, 30)]
    assert [c.load.side for c in axes["side"]] == [28, 56]
    assert [c.load.queries for c in axes["queries"]] == [8, 4, 16]
    cameras = [(c.series, c.load.images, c.processes, c.load.threads) for c in axes["cameras"]]
    assert cameras == [(scaling.BATCHED, 1, 1, 4), (scaling.BATCHED, 2, 1, 4), (scaling.BATCHED, 8, 1, 4),
                       (scaling.EACH, 1, 2, 2), (scaling.EACH, 1, 8, 1)]


def test_the_model_axis_has_the_default_checkpoints_queries_and_upscaling():
    default = read_config(default_checkpoint())[0]
    base = replace(BASE, model="small")
    first, *others = scaling.axes(base, [], [], [], [], ["large", "base", "small"])["model"]
    assert (first.name, [case.name for case in others]) == ("small", ["base", "large"])
    for case, width in ((first, 384), (others[0], 768), (others[1], 1024)):
        config = case.load.config()
        assert (config.hidden_size, config.num_queries) == (width, default.num_queries)
        for name in ("upscale_blocks", "upscale_channels", "detail_layer", "scale_mask_logits"):
            assert getattr(config, name) == getattr(default, name), name
    assert first.x < others[0].x < others[1].x and others[1].x == pytest.approx(304, rel=0.03)  # as DINOv2-L
    assert "model" not in scaling.axes(base, [(1, 1)], [], [], [], ["small"])
    assert scaling.like_default(BASE, "tiny").config().detail_layer is None     # it has no such frozen block


def test_rows_are_medians_of_the_rounds_that_count_and_ratios_to_the_base(monkeypatch):
    clock = iter([0, 9, 9, 18] + [20, 22, 22, 26] + [30, 31, 31, 34] + [40, 43, 43, 48])   # warm-up, 3 rounds
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: next(clock))

    class Fake:
        precision = "bf16"

        def __init__(self, load):
            self.load = load

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def go(self):
            pass

        def answer(self):
            return {"cpu_ms": 10.0 * self.load.images, "stages_ms": {"forward": 5.0, "total": 6.0},
                    "peak_mb": 100.0, "gpu_peak_mb": None}

    monkeypatch.setattr(scaling, "Worker", Fake)
    cases = [scaling.Case("cameras", 1, "1 batched", BASE),
             scaling.Case("cameras", 2, "2 processes", BASE, scaling.EACH, 2)]
    base, two = scaling.measure(cases, 3, lambda text: None)
    assert (base["ms"], base["ms_low"], base["ms_high"], base["images_per_s"]) == (2000, 1000, 3000, 0.5)
    assert (two["ms"], two["ms_per_image"], two["images"], two["peak_mb"]) == (4000, 2000, 2, 200)
    ones = dict.fromkeys(("parameters_m", "gflop", "ms", "ms_p95", "ms_per_image", "cpu_ms_per_image",
                          "peak_mb"), 1)
    assert base["ratio"] == ones and two["ratio"] == ones | {"ms": 2, "ms_p95": 5 / 3, "peak_mb": 2}
    assert base["ms_p95"] == 3000 and 0 < base["gflop"] == two["gflop"]
    assert base["parameters_m"] == pytest.approx(
        sum(p.numel() for p in EomtExt(BASE.config()).parameters()) / 1e6)
    assert two["gpu_peak_mb"] is None and two["stages_ms"] == {"forward": 5, "total": 6}


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_data(self, data):
        self.found.append(data)


@pytest.mark.slow
def test_the_command_measures_real_processes_and_its_page_shows_every_row(tmp_path, capsys):
    options = ["--output", str(tmp_path), "--model", "tiny", "--image", "40x60", "--side", "28",
               "--queries", "8", "--images", "--sides", "--query-counts", "--cameras", "2", "--rounds", "2",
               "--threads", "1", "--device", "cpu", "--models", "tiny", "small"]
    assert scaling.main(options) == 0
    result = json.loads((tmp_path / "scaling.json").read_text())
    assert list(result["axes"]) == ["cameras", "model"]
    assert result["rounds"] == 2 and result["base"]["queries"] == 8
    for row in result["axes"]["cameras"]:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"]
        assert row["cpu_ms_per_image"] > 0 and row["gpu_peak_mb"] is None
        assert {"preprocess", "forward", "postprocess", "total"} <= set(row["stages_ms"])
        assert 50 * row["processes"] < row["peak_mb"] < 2000 * row["processes"]   # torch alone takes 100 MiB
    single, both, apart = result["axes"]["cameras"]
    assert both["images"] == apart["images"] == 2 and apart["ratio"]["peak_mb"] > 1.5
    tiny, small = result["axes"]["model"]
    # 22 M weights in fp32 are 86 MiB
    assert small["ratio"]["gflop"] > 40 and small["peak_mb"] - tiny["peak_mb"] > 80
    said = capsys.readouterr().out
    assert "| 2 processes |" in said and "| model | M parameters | GFLOP an image | ms | p95 ms |" in said

    assert scaling_page.main([str(tmp_path / "scaling.json")]) == 0
    page = (tmp_path / "scaling.html").read_text()
    words = Text(page).found
    assert {"1 batched", "2 batched", "2 processes", "tiny", "small", "GFLOP an image"} <= set(words)
    assert page.count("<svg") == 6 and "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="unknown preset 'huge'"):
        Worker(Load("huge", (40, 60), 28, 8))


def test_bad_options_and_files_are_named(tmp_path, capsys):
    for options, said in ((["--image", "40"], "40: give HEIGHTxWIDTH"), (["--sides", "0"], "--sides [0]"),
                          (["--rounds", "0"], "--rounds 0"), (["--models", "huge"], "'huge'")):
        with pytest.raises(SystemExit):
            scaling.main(options)
        assert said in capsys.readouterr().err
    (tmp_path / "x.json").write_text("{}")
    assert scaling_page.main([str(tmp_path / "x.json")]) == 1
    assert "is no result of runtime.scaling" in capsys.readouterr().err
