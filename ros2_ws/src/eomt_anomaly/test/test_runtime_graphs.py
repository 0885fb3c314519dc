# SPDX-License-Identifier: MIT
"""Replaying the work of a shape: the same answers, answers that last, and the eager way without a graph."""

import contextlib
import gc
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runtime_reference import picture, tiny_model

from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.cuda import CudaPipeline, agree, memory
from eomt_anomaly.runtime.graphs import KEPT, Graphs
from eomt_anomaly.runtime.network import DTYPES, GRIDS_KEPT, prepare
from eomt_anomaly.runtime.pipeline import Setup
from eomt_anomaly.runtime.streams import CudaStreams, InlineStreams

MODEL = tiny_model()
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def twin(graphs, streams=None):
    network = prepare(MODEL, "fp32", torch.device("cpu"))
    setup = Setup(network, DTYPES["fp32"], False, "eomt_ext", 56, "rectangle", None)
    return CudaPipeline(setup, streams or InlineStreams(), graphs=graphs)


def doubled(streams=None, agrees=torch.equal):
    return Graphs(lambda x: 2 * x, agrees, streams or InlineStreams(), "compute")


def test_a_pipeline_with_graphs_gives_what_one_without_gives():
    eager, replayed = twin(False), twin(True)
    for size in ((60, 80), (33, 50)):
        for seed in range(4):
            batch = [picture(*size, seed=seed), picture(*size, seed=seed + 10)][:1 + seed % 2]
            for a, b in zip(eager.result(eager.submit(batch)), replayed.result(replayed.submit(batch))):
                assert np.array_equal(a.class_map, b.class_map) and np.array_equal(a.anomaly, b.anomaly)
    assert {(1, 60, 80, 3), (2, 60, 80, 3), (1, 33, 50, 3), (2, 33, 50, 3)} == set(replayed._run.replayed())


def test_submissions_under_way_keep_their_own_answers():
    pipeline, images = twin(True), [picture(60, 80, seed=i) for i in range(6)]
    want = [pipeline.result(pipeline.submit([image]))[0].anomaly for image in images]
    handles = [pipeline.submit([image]) for image in images[:3]]          # as many as the ring has places
    for handle, anomaly in zip(handles, want):
        assert np.array_equal(pipeline.result(handle)[0].anomaly, anomaly)


def test_the_memory_of_a_gpu_is_told_in_mb():
    cuda = SimpleNamespace(mem_get_info=lambda _: (3_000_000, 8_000_000),
                           memory_allocated=lambda _: 1_500_000, memory_reserved=lambda _: 2_000_000)
    assert memory(torch.device("cuda:0"), cuda) == {
        "allocated_mb": 1.5, "reserved_mb": 2.0, "free_mb": 3.0, "total_mb": 8.0}
    assert memory(torch.device("cpu"), cuda) == {} == Engine(MODEL, "cpu").gpu_memory()


@NO_GPU
def test_the_memory_of_this_gpu_adds_up():
    kept = torch.zeros(1 << 20, device="cuda")
    found = memory(torch.device("cuda"))
    assert 4.0 <= kept.nbytes / 1e6 <= found["allocated_mb"] <= found["reserved_mb"]
    assert found["reserved_mb"] + found["free_mb"] <= found["total_mb"]


def test_an_answer_outlives_the_next_call():
    graphs = doubled()
    answers = [graphs(torch.full((3,), float(i))) for i in range(5)]
    assert [a[0].item() for a in answers] == [0, 2, 4, 6, 8]


def test_what_cannot_be_captured_stays_eager_and_says_so_once(caplog):
    class Refusing(InlineStreams):
        tries = 0

        def capture(self, queue, work):
            self.tries += 1
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    streams = Refusing()
    graphs = doubled(streams)
    for i in range(5):
        assert graphs(torch.tensor([float(i)])).item() == 2 * i
    assert streams.tries == len(caplog.records) == 1 and graphs.replayed() == []
    assert "(1,)" in caplog.text and "not permitted" in caplog.text and "more lines" not in caplog.text
    assert [graphs(torch.ones(2)).sum().item() for _ in range(3)] == [4, 4, 4]
    assert streams.tries == len(caplog.records) == 1 and "nor for any other" in caplog.text


def test_a_graph_that_does_not_fit_into_the_memory_costs_the_other_shapes_nothing(caplog):
    class Full(InlineStreams):
        def capture(self, queue, work):
            if work().numel() > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return work

    graphs = doubled(Full())
    for shape in (2, 1):
        assert [graphs(torch.ones(shape)).sum().item() for _ in range(3)] == [2 * shape] * 3
    assert graphs.replayed() == [(1,)] and "nor for any" not in caplog.text and "out of memory" in caplog.text


def test_what_broke_a_capture_is_told_and_not_that_its_end_failed_too(caplog):
    """`torch.cuda.graph` ends the capture on its way out of an error, which fails as well."""
    class Broken(InlineStreams):
        def capture(self, queue, work):
            try:
                raise RuntimeError("aten::item: operation not permitted when stream is capturing")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    graphs = doubled(Broken())
    for _ in range(2):
        graphs(torch.ones(1))
    assert "aten::item" in caplog.text and "previous error" not in caplog.text


def test_an_error_without_words_is_told_by_its_name(caplog):
    class Silent(InlineStreams):
        def capture(self, queue, work):
            raise NotImplementedError

    graphs = doubled(Silent())
    assert [graphs(torch.ones(1)).item() for _ in range(3)] == [2, 2, 2] and "NotImplemented" in caplog.text


def test_a_graph_with_another_answer_is_not_used(caplog):
    class Wrong(InlineStreams):
        def capture(self, queue, work):
            return lambda: work() + 1

    graphs = doubled(Wrong())
    for i in range(4):
        assert graphs(torch.tensor([float(i)])).item() == 2 * i
    assert graphs.replayed() == [] and "not the eager one" in caplog.text


def test_a_graph_holds_the_position_embeddings_whose_memory_it_reads():
    """The network's cache drops a grid that it is not asked for, and a replay does not ask."""
    class Frozen(InlineStreams):
        def capture(self, queue, work):
            output = work()
            return lambda: output

    pipeline, image = twin(True, Frozen()), picture(60, 80)
    for _ in range(2):
        pipeline.result(pipeline.submit([image]))
    positions = pipeline.setup.network.backbone.positions
    read = weakref.ref(positions((4, 5)))                             # 56 px on the short side, patches of 14
    assert positions.cache_info().misses == 1, "the grid of this image"
    for columns in range(6, 7 + GRIDS_KEPT):
        positions((4, columns))
    gc.collect()
    assert read() is not None and pipeline.replayed()
    pipeline.close()
    gc.collect()
    assert read() is None


def test_only_the_shapes_used_last_are_kept():
    graphs = doubled()
    for n in range(1, KEPT + 3):
        for _ in range(2):
            assert torch.equal(graphs(torch.ones(n)), torch.full((n,), 2.0))
    assert graphs.replayed() == [(n,) for n in range(3, KEPT + 3)]


@pytest.mark.parametrize("change, same", [
    (lambda a, c: None, True), (lambda a, c: a.add_(5e-4), True), (lambda a, c: a[:1].add_(0.01), False),
    (lambda a, c: c[:20].add_(1), False), (lambda a, c: c[:2].add_(1), True)])
def test_agreement_is_up_to_rounding(change, same):
    anomaly, classes = torch.rand(4000), torch.randint(0, 5, (4000,), dtype=torch.uint8)

    def packed(a, c):
        return torch.cat([a.view(torch.uint8), c, torch.ones(1, dtype=torch.uint8)])

    other = anomaly.clone(), classes.clone()
    change(*other)
    assert agree(packed(anomaly, classes), packed(*other)) is same


class FakeGraph:
    """A CUDA graph, with torch's rule for memory: a pool goes with the last of its graphs."""

    def pool(self):
        return self.of


@pytest.fixture
def recordings(monkeypatch):
    """(pool, stream, how many are under way) of each recording; torch.cuda as far as `capture` needs it."""
    under_way, seen, living = [], [], weakref.WeakSet()

    class Recording(contextlib.AbstractContextManager):
        def __init__(self, graph, pool, stream, capture_error_mode):
            if pool is not None and pool not in {other.of for other in living}:
                raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
            self.graph, self.stream = graph, stream
            graph.of = pool or object()

        def __enter__(self):
            under_way.append(self)
            seen.append((self.graph.of, self.stream, len(under_way)))

        def __exit__(self, *_):
            under_way.remove(self)
            living.add(self.graph)

    fakes = {"Stream": lambda device: object(), "CUDAGraph": FakeGraph, "graph": Recording,
             "device": contextlib.nullcontext}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return seen


def test_graphs_are_recorded_one_at_a_time_on_a_stream_of_their_own(recordings):
    """What cuBLAS keeps for a stream that also runs eagerly is freed by whoever closes an engine."""
    engines, kept = [CudaStreams(torch.device("cuda")) for _ in range(2)], []

    def record(streams):
        kept.append(streams.capture("compute", lambda: time.sleep(0.05)))

    threads = [threading.Thread(target=record, args=(streams,)) for streams in (*engines, *engines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pools, streams, most = zip(*recordings)
    assert most == (1, 1, 1, 1) and len(set(zip(pools, streams))) == len(set(pools)) == 2     # one an engine
    queues = {id(stream) for engine in engines for stream in engine._queues.values()}
    assert not queues & {id(stream) for stream in streams}


def test_a_graph_that_is_not_used_costs_those_after_it_nothing(recordings):
    """Its pool of memory went with it, and torch refuses to record another into that."""
    streams = CudaStreams(torch.device("cuda"))
    for _ in range(2):
        streams.capture("compute", lambda: None)       # nobody keeps it: its answer was not the eager one
    first = streams.capture("compute", lambda: None)
    second = streams.capture("compute", lambda: None)
    pools = [pool for pool, *_ in recordings]
    assert first and second and pools[2] is pools[3] and len(set(pools)) == 3


@NO_GPU
@pytest.mark.parametrize("graphs", [True, False])
def test_on_a_gpu_the_maps_are_those_of_the_cpu(graphs):
    images = [picture(60, 80, seed=i) for i in range(8)]
    with Engine(MODEL, device="cpu", precision="fp32") as cpu:
        want = cpu.infer(images)
    with Engine(MODEL, device="cuda", precision="fp32", cuda_graphs=graphs) as gpu:
        gpu.warmup([(60, 80)])
        tickets = [gpu.submit([image]) for image in images]               # overlapping
        got = [gpu.result(ticket)[0] for ticket in tickets]
        assert bool(gpu._pipeline._run.replayed() if graphs else True)
    for a, b in zip(want, got):
        assert (a.class_map == b.class_map).mean() > 0.99
        np.testing.assert_allclose(a.anomaly, b.anomaly, atol=5e-3)
