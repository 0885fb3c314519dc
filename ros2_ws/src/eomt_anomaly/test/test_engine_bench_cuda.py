# SPDX-License-Identifier: MIT
"""What `runtime.bench` measures of the CUDA pipeline, through its twin on the CPU: logic, no speed."""

import time
import weakref
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

from eomt_anomaly.report.engine_page import NO_GPU, engine_page
from eomt_anomaly.runtime.benchmark import arithmetic, comparison, text, throughput
from eomt_anomaly.runtime.benchmark.setting import Setting
from eomt_anomaly.runtime.cuda import CudaPipeline
from eomt_anomaly.runtime.network import prepare
from eomt_anomaly.runtime.pipeline import Setup
from eomt_anomaly.runtime.streams import InlineStreams

TINY = Setting(preset="tiny", size=(64, 128), side=64, queries=8, cameras=3, threads=1)


@pytest.fixture(scope="module")
def model():
    return TINY.model()


class Counted(InlineStreams):
    """The twin, which counts how often each capture is replayed."""

    def __init__(self):
        super().__init__()
        self.replays = []

    def capture(self, queue, work):
        number, replay = len(self.replays), super().capture(queue, work)
        self.replays.append(0)

        def counted():
            self.replays[number] += 1
            return replay()

        return counted


def pipeline_of(model, streams, graphs=True):
    network = prepare(model, "fp32", streams.device)
    setup = Setup(network, torch.float32, False, "eomt_ext", TINY.side, "windows", None)
    return CudaPipeline(setup, streams, graphs=graphs)


@pytest.fixture(scope="module")
def result():
    """Of the contestants, as `bench` stores it."""
    found = comparison.compare(TINY, ["ours fp32"], 1, weigh=False, with_stages=False)
    return found | {"command": "", "started": "", "host": {}, "versions": {}}


def test_the_figures_and_their_place_in_text_and_page(model, result):
    rates = {"fp32": arithmetic.gemm_rate("fp32", torch.device("cpu"), side=64)}
    found = comparison.pipeline_figures(TINY, model, "fp32", InlineStreams(), 6, 0.01, rates)
    assert found["latency_ms"]["p99_over_p50"] >= 1 and set(found["images_per_s"]) == {"1", "8"}
    for rate in found["images_per_s"].values():
        assert rate["pipelined_percent"] == pytest.approx(100 * rate["pipelined"] / rate["forward_only"])
        assert rate["cuda_graph"] is True
    assert len(found["same_maps"]) == 3
    for name, same in found["same_maps"].items():
        assert same["classes_percent"] > 99.9 and same["anomaly_max_abs"] < 1e-4, name
    assert found["floor_ms"] == pytest.approx(1e3 * 0.01 / rates["fp32"])
    on_gpu = result | {"pipeline": found, "setting": result["setting"] | {"device": "cuda"}}
    page, printed = engine_page(on_gpu), text.lines(on_gpu)
    HTMLParser().feed(page)
    for words in ("img/s forward only", "a CUDA graph", "p99 / p50"):
        assert words in page
    assert "floor" in printed and "forward only as a CUDA graph" in printed
    assert "no figure" not in printed and NO_GPU not in page


@pytest.mark.parametrize("graphs", [True, False])
def test_forward_only_replays_a_graph_where_the_pipeline_does(model, graphs):
    """Else the network alone pays for launches that the pipeline does not have."""
    streams = Counted()
    pipeline, images = pipeline_of(model, streams, graphs), TINY.images()[:1]
    pipeline.result(pipeline.submit(images))
    assert throughput.forward_only(pipeline, images, 5)[1] is False and not streams.replays  # seen once
    pipeline.result(pipeline.submit(images))
    rate, graph = throughput.forward_only(pipeline, images, 5)
    assert rate > 0 and graph is graphs
    assert streams.replays[1:] == ([5] if graphs else [])  # the first is the pipeline's own
    pipeline.close()


def test_no_capture_falls_into_what_is_timed(model, monkeypatch):
    """A shape's second call captures, which takes far longer than a frame."""
    streams, seen = Counted(), []
    clock = SimpleNamespace(perf_counter=lambda: seen.append(len(streams.replays)) or time.perf_counter())
    monkeypatch.setattr(throughput, "time", clock)
    throughput.measure(pipeline_of(model, streams), TINY.images()[:1], frames=2, batch=2)
    captured = [start != end for start, end in zip(seen[::2], seen[1::2])]
    latencies, of_one, of_two = captured[:2], captured[2:5], captured[5:]  # warm-up, pipelined, forward only
    assert not any(latencies) and not any(of_one) and of_two == [True, False, False]


def test_not_all_maps_are_held_at_once(model):
    """200 batches of eight images of 1024x2048 px have 17 GB of maps."""
    pipeline, seen, most = pipeline_of(model, InlineStreams()), [], []
    collect = pipeline.result

    def counted(handle):
        found = collect(handle)
        seen.extend(weakref.ref(prediction) for prediction in found)
        most.append(sum(one() is not None for one in seen))
        return found

    pipeline.result = counted
    found = throughput.measure(pipeline, TINY.images()[:1], frames=throughput.COMPARED + 2, batch=1)
    assert found["same_maps"]["overlapping, batch 1"]["classes_percent"] > 99.9
    assert max(most) < throughput.COMPARED


def test_a_pipeline_that_fails_is_told_and_costs_no_other_figure(monkeypatch, result):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(comparison, "pipeline_figures", fails)
    found, why = comparison._under_load(TINY)
    assert found is None and list(why.values()) == [
        "failed: RuntimeError: operation not permitted when stream is capturing"
    ]
    on_gpu = result | {"pipeline": found, "skipped": why, "setting": result["setting"] | {"device": "cuda"}}
    for words in (engine_page(on_gpu), text.lines(on_gpu)):
        assert "the CUDA pipeline under load" in words and "stream is capturing" in words
        assert "no figure" not in words and NO_GPU not in words  # a GPU did take part


def test_the_page_is_made_where_memory_could_be_measured_of_nobody(result):
    """As in a container whose /proc/self/clear_refs cannot be written; the page failed after all else."""
    rows = [row | {"memory": {"failed": "clear_refs: Permission denied"}} for row in result["contestants"]]
    nobody = result | {"contestants": rows}
    assert "Permission denied" in engine_page(nobody) and "Permission denied" in text.lines(nobody)
