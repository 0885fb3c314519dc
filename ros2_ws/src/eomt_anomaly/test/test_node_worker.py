# SPDX-License-Identifier: MIT
"""The worker: whatever the engine does to a frame, the frame has an account and the next one is judged."""

import sys
import threading
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from eomt_anomaly.alerts import Reason
from eomt_anomaly.ros.fallback import LONGEST_S, EngineSettings, Ladder, Rung, lower_rung
from eomt_anomaly.ros.mailbox import Drop, Frame, Mailbox
from eomt_anomaly.ros.refusals import Refused
from eomt_anomaly.ros.worker import Batching, Worker

SETTINGS = EngineSettings("here", device="cuda", short_side=476)


class NonFiniteOutput(RuntimeError):
    pass


class OutOfMemoryError(RuntimeError):
    pass


class Engine:
    """Answers every image with its own value; raises what an image or the test asks for."""

    batched = True

    def __init__(self, settings):
        self.settings, self.short_side, self.batches, self.closed = settings, settings.short_side, [], False
        self.trouble = lambda images: None

    def warmup(self, shapes, batch=1):
        self.warmed = [*getattr(self, "warmed", []), (tuple(shapes), batch)]

    def infer(self, images):
        self.batches.append(len(images))
        self.trouble(images)
        return [SimpleNamespace(value=int(image[0, 0, 0])) for image in images]

    def gpu_memory(self):
        return {}

    def close(self):
        self.closed = True


class Rig:
    """A worker with a mailbox of two cameras; frames carry a number which becomes the image."""

    def __init__(self, factory=Engine, **options):
        self.engines, self.judged, self.refusals = [], [], []
        self.mailbox = Mailbox(("a", "b"))
        self.factory = factory
        self.worker = Worker(self._make, SETTINGS, [(4, 4)], self.mailbox, self,
                             lambda: Batching(4, 0.02), **options)

    def _make(self, settings):
        self.engines.append(self.factory(settings))
        return self.engines[-1]

    def admit(self, frame, engine):
        if frame.message == "bad":
            raise Refused(Drop.INVALID, Reason.INVALID_INPUT, "bad message")
        return np.full((4, 4, 3), frame.message, np.uint8)

    def judge(self, frame, rgb, prediction, inference_s, engine):
        if prediction.value == 99:
            raise KeyError("judging failed")
        if prediction.value >= 200:
            engine.infer([rgb])   # a second look
        self.judged.append((frame.camera, prediction.value))

    def refused(self, frame, why):
        self.refusals.append((frame.camera, why.drop, why.reason, str(why)))

    def feed(self, **messages):
        for camera, message in messages.items():
            self.mailbox.put(Frame(camera, message, time.monotonic()))
        wait(lambda: all(self.mailbox.counts(camera).pending == 0 for camera in "ab"))

    def __enter__(self):
        self.worker.start()
        assert self.worker.settled.wait(5)
        return self

    def __exit__(self, *_):
        assert self.worker.stop(5)
        assert all(engine.closed for engine in self.engines)


def wait(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)


def test_frames_of_two_cameras_go_through_in_one_batch():
    with Rig() as rig:
        rig.feed(a=1, b=2)
        assert sorted(rig.judged) == [("a", 1), ("b", 2)]
        assert rig.engines[0].batches == [2]


def test_an_engine_that_takes_images_one_by_one_gets_one_at_a_time_and_nobody_waits_for_the_others():
    class Processor(Engine):
        batched = False

    with Rig(Processor) as rig:
        rig.feed(a=1, b=2)
        assert sorted(rig.judged) == [("a", 1), ("b", 2)] and rig.engines[0].batches == [1, 1]


def test_a_bad_message_does_not_cost_the_other_camera_its_frame():
    with Rig() as rig:
        rig.feed(a="bad", b=2)
        assert rig.judged == [("b", 2)]
        assert rig.refusals == [("a", Drop.INVALID, Reason.INVALID_INPUT, "bad message")]


def test_one_poisonous_image_in_a_batch_fails_alone():
    def trouble(images):
        if any(image[0, 0, 0] == 13 for image in images):
            raise NonFiniteOutput("nan")
    with Rig() as rig:
        rig.engines[0].trouble = trouble
        rig.feed(a=13, b=2)
        assert rig.judged == [("b", 2)]
        assert rig.refusals[0][:3] == ("a", Drop.ERROR, Reason.INVALID_OUTPUT)


def test_failures_of_inference_and_of_judging_are_errors_and_the_next_frame_is_judged():
    def trouble(images):
        if images[0][0, 0, 0] == 13:
            raise RuntimeError("boom")
    with Rig() as rig:
        rig.engines[0].trouble = trouble
        for number in (13, 99, 5):
            rig.feed(a=number)
        assert rig.judged == [("a", 5)]
        assert [refusal[1:3] for refusal in rig.refusals] == [(Drop.ERROR, Reason.INFERENCE_ERROR)] * 2
        assert "boom" in rig.refusals[0][3]
        counts = rig.mailbox.counts("a")
        assert (counts.received, counts.judged, counts.dropped) == (3, 1, {"error": 2})


def test_a_refusal_that_cannot_be_published_costs_nothing_else():
    def fail(frame, why):
        raise RuntimeError("no room for it")
    with Rig() as rig:
        rig.refused = fail
        rig.feed(a="bad")
        rig.feed(a=1)
        assert rig.judged == [("a", 1)] and rig.mailbox.counts("a").dropped == {"invalid": 1}


def test_an_engine_that_cannot_be_built_is_reported():
    def factory(settings):
        raise FileNotFoundError("no checkpoint here")
    rig = Rig(factory)
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    assert "no checkpoint here" in str(rig.worker.failure) and rig.worker.engine is None
    assert rig.worker.stop(5)


def test_gpu_memory_is_asked_for_by_the_worker_once_a_second_at_most_and_costs_no_frame():
    asked = []

    class Gpu(Engine):
        def gpu_memory(self):
            asked.append(threading.current_thread().name)
            if len(asked) > 1:
                raise RuntimeError("no driver")
            return {"reserved_mb": 7.0}

    with Rig(Gpu) as rig:
        assert rig.worker.gpu_memory == {"reserved_mb": 7.0}     # as soon as it is built
        for number in range(3):
            rig.feed(a=number)
        assert asked == ["worker"]
        rig.worker._measured -= 1.0
        rig.feed(a=3)
        rig.feed(a=4)
        assert rig.worker.gpu_memory == {"problem": "RuntimeError: no driver"}
    assert len(rig.judged) == 5 and asked == ["worker"] * 2


class Exits(Engine):
    def warmup(self, shapes, batch=1):
        raise SystemExit(3)


def test_an_engine_whose_build_would_end_the_thread_is_reported_and_closed():
    rig = Rig(Exits)
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    assert "SystemExit(3)" in str(rig.worker.failure) and rig.worker.engine is None
    assert rig.engines[0].closed and rig.worker.stop(5)


class Hungry(Engine):
    """Runs out of memory for batches, and for single images above 300 px on the GPU."""

    def infer(self, images):
        if len(images) > 1 or self.short_side > 300:
            raise OutOfMemoryError("CUDA out of memory")
        return super().infer(images)


def test_out_of_memory_goes_down_the_rungs():
    with Rig(Hungry) as rig:
        rig.feed(a=1, b=2)
        rig.feed(a=3)
        rig.feed(a=4)
        assert rig.engines[-1].short_side == 267 and ("a", 4) in rig.judged
        assert "267 px" in rig.worker.degraded
        assert all(reason == Reason.INFERENCE_ERROR for _, _, reason, _ in rig.refusals)


def test_out_of_memory_at_the_second_look_goes_down_the_rungs_too():
    class Zoom(Engine):
        def infer(self, images):
            if self.batches[-1:] == [1] and images[0][0, 0, 0] == 200 and self.short_side > 300:
                raise OutOfMemoryError("CUDA out of memory")
            return super().infer(images)
    with Rig(Zoom) as rig:
        rig.feed(a=200)
        assert rig.refusals[0][1:3] == (Drop.ERROR, Reason.INFERENCE_ERROR)
        rig.feed(a=200)   # again, until it fits
        rig.feed(a=201)
        assert rig.engines[-1].short_side < 300 and ("a", 201) in rig.judged and rig.engines[0].closed


def test_a_dead_gpu_at_the_second_look_leaves_no_frame_of_the_batch_without_an_account():
    class AcceleratorError(RuntimeError):
        pass

    class Dying(Engine):
        def infer(self, images):
            if self.batches:
                raise AcceleratorError("CUDA error: an illegal memory access was encountered")
            return super().infer(images)
    rig = Rig(Dying)
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    rig.feed(a=200, b=3)
    wait(lambda: rig.worker.dead)
    assert sorted(camera for camera, *_ in rig.refusals) == ["a", "b"] and not rig.judged


class Memory:
    """Stands for memory of the GPU; `Memory.held()` counts what nobody has given back."""

    all = weakref.WeakSet()

    def __init__(self):
        Memory.all.add(self)

    @classmethod
    def held(cls):
        return len(cls.all)


def test_nothing_of_the_old_engine_is_held_when_the_smaller_one_is_built():
    class Big(Engine):
        def __init__(self, settings):
            held.append(Memory.held())
            super().__init__(settings)
            self.network = Memory()

        def infer(self, images):
            activations = Memory()
            if self.short_side > 300:
                raise OutOfMemoryError(f"CUDA out of memory for {activations}")
            return super().infer(images)

        def close(self):
            super().close()
            self.network = None
    held = []
    with Rig(Big) as rig:
        rig.feed(a=1, b=2)
        for number in (3, 4):
            rig.feed(a=number)
        assert ("a", 4) in rig.judged and held == [0, 0, 0]


def test_an_engine_that_fails_to_warm_up_is_closed_before_the_next_one_is_built():
    class Hot(Engine):
        def __init__(self, settings):
            assert all(engine.closed for engine in rig.engines)
            super().__init__(settings)

        def warmup(self, shapes, batch=1):
            if self.short_side == 357:
                raise OutOfMemoryError("CUDA out of memory")

        def infer(self, images):
            if self.short_side > 300:
                raise OutOfMemoryError("CUDA out of memory")
            return super().infer(images)
    rig = Rig(Hot)
    with rig:
        rig.feed(a=1)
        rig.feed(a=2)
        assert [engine.short_side for engine in rig.engines] == [476, 357, 267] and rig.judged == [("a", 2)]


def test_without_leave_to_degrade_it_stays_an_error():
    with Rig(Hungry, allow_degraded=False) as rig:
        for number in range(3):
            rig.feed(a=number)
        assert len(rig.engines) == 1 and len(rig.refusals) == 3 and not rig.judged and rig.worker.starved


def test_the_ladder_ends():
    rungs, settings = [], SETTINGS
    while (settings := lower_rung(settings, None)) is not None:
        rungs.append((settings.short_side, settings.device))
    assert rungs == [(357, "cuda"), (267, "cuda"), (267, "cpu")]
    half = lower_rung(replace(SETTINGS, precision="fp16", short_side=267), 267)
    assert (half.device, half.precision) == ("cpu", "auto"), "no CPU has fp16"
    exported = replace(SETTINGS, backend="openvino")          # one size, and on the CPU already
    assert lower_rung(exported, 252) is None


def test_the_way_up_is_tried_after_a_quiet_time_and_later_after_each_failure():
    now = [0.0]
    ladder = Ladder(SETTINGS, 10.0, clock=lambda: now[0])
    now[0] = 1e6
    assert not ladder.due() and ladder.describe() == ""      # nothing was given up
    waits, low = [], Rung(replace(SETTINGS, short_side=357), single=True)
    for _ in range(11):
        ladder.ran_out()
        ladder.down(low)
        start = now[0]
        while not ladder.due():
            now[0] += 5.0
        waits.append(now[0] - start)
        assert ladder.up() == low and ladder.rung == Rung(SETTINGS)
    assert waits == [min(10.0 * 2**n, LONGEST_S) for n in range(11)]

    never = Ladder(SETTINGS, 0.0, clock=lambda: now[0])
    never.down(low)
    now[0] += 1e9
    assert not never.due()
    assert never.describe() == "one image a pass, short side 357 px on cuda (out of memory)"


class Crowded(Engine):
    """Shares the memory: `free` px of the short side fit into it, for several images twice as many."""

    free = 300

    def __init__(self, settings):
        super().__init__(settings)
        if self.short_side > self.free:
            raise OutOfMemoryError("CUDA out of memory")

    def infer(self, images):
        if self.short_side * (2 if len(images) > 1 else 1) > self.free:
            raise OutOfMemoryError("CUDA out of memory")
        return super().infer(images)


def test_when_there_is_memory_again_everything_given_up_comes_back(monkeypatch):
    monkeypatch.setattr(Crowded, "free", 1000)
    with Rig(Crowded, retry_s=0.05) as rig:
        monkeypatch.setattr(Crowded, "free", 300)
        rig.feed(a=1, b=2)
        wait(lambda: len(rig.engines) >= 2 and not rig.worker.rebuilding)
        assert rig.worker.degraded.startswith("one image a pass, short side") and not rig.worker.starved
        built = len(rig.engines)
        wait(lambda: len(rig.engines) > built + 2)           # it tries in vain, and goes on with what fits
        monkeypatch.setattr(Crowded, "free", 1000)
        wait(lambda: rig.worker.degraded == "", seconds=20)
        assert rig.engines[-1].short_side == 476
        rig.feed(a=3, b=4)
        assert {("a", 3), ("b", 4)} <= set(rig.judged)


def test_every_number_of_frames_of_a_pass_is_warmed_up():
    with Rig() as rig:
        assert rig.engines[0].warmed == [(((4, 4),), 1), (((4, 4),), 4)]


def test_memory_that_runs_out_for_batches_only_leaves_the_picture_its_size():
    class Narrow(Engine):
        def warmup(self, shapes, batch=1):
            if batch > 1:
                raise OutOfMemoryError("CUDA out of memory")

    with Rig(Narrow) as rig:
        assert rig.worker.degraded == "one image a pass (out of memory)"
        rig.feed(a=1, b=2)
        assert [engine.short_side for engine in rig.engines] == [476] and rig.engines[0].batches == [1, 1]


class Cramped(Engine):
    """Its first picture, in the warm-up, does not fit above 300 px."""

    def warmup(self, shapes, batch=1):
        if self.short_side > 300:
            raise OutOfMemoryError("CUDA out of memory")


def test_memory_that_runs_out_at_the_first_build_goes_down_the_rungs():
    with Rig(Cramped) as rig:
        assert rig.worker.failure is None
        assert [engine.short_side for engine in rig.engines] == [476, 357, 267]
        assert rig.worker.degraded == "short side 267 px on cuda (out of memory)"
        rig.feed(a=1)
        assert rig.judged == [("a", 1)]


def test_a_size_that_only_the_engine_knows_is_lowered_too(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", replace(SETTINGS, short_side=None, device="cpu"))

    def factory(settings):
        engine = Cramped(settings)
        engine.short_side = settings.short_side or 476   # the checkpoint's
        return engine
    with Rig(factory) as rig:
        assert [engine.short_side for engine in rig.engines] == [476, 357, 267]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_first_build_that_fits_nowhere_or_may_not_go_down_is_reported(allowed):
    def factory(settings):
        tried.append((settings.short_side, settings.device))
        raise OutOfMemoryError("CUDA out of memory")
    tried = []
    rig = Rig(factory, allow_degraded=allowed)
    rig.worker.start()
    assert rig.worker.settled.wait(5) and "out of memory" in str(rig.worker.failure)
    assert tried == [(476, "cuda"), (357, "cuda"), (267, "cuda"), (267, "cpu")][:4 if allowed else 1]
    assert rig.worker.stop(5)


@pytest.mark.parametrize("error", [FileNotFoundError("the checkpoint has gone"), SystemExit("a panic"),
                                   OutOfMemoryError("CUDA out of memory")])
def test_a_way_up_that_fails_for_any_reason_leaves_the_engine_that_worked(error):
    troubles, tries = [error] * 3, []

    class Moody(Engine):
        def __init__(self, settings):
            super().__init__(settings)
            if settings.short_side == 476 and rig.engines:
                tries.append(time.monotonic())
                if troubles:
                    raise troubles.pop()

        def infer(self, images):
            if self.short_side == 476 and not tries:
                raise OutOfMemoryError("CUDA out of memory")
            return super().infer(images)
    rig = Rig(Moody, retry_s=0.3)
    with rig:
        rig.feed(a=1)
        wait(lambda: len(tries) == 2 and not rig.worker.rebuilding)
        assert rig.worker.degraded == ("short side 357 px on cuda (out of memory; the last try for more "
                                       f"failed: {type(error).__name__}: {error})")
        rig.feed(a=2)
        assert rig.judged == [("a", 2)] and not rig.worker.dead
        wait(lambda: rig.worker.degraded == "" and not rig.worker.rebuilding, seconds=20)
        waits = [later - earlier for earlier, later in zip(tries, tries[1:])]
        assert waits[0] >= 0.6 and waits[1] >= 1.2 and waits[2] >= 2.4


def test_where_nothing_fits_any_more_the_thread_ends(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    class Shrinks(Hungry):
        def __init__(self, settings):
            if rig.engines:
                raise OutOfMemoryError("CUDA out of memory")
            super().__init__(settings)
    rig = Rig(Shrinks)
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    rig.mailbox.put(Frame("a", 1, time.monotonic()))
    wait(lambda: rig.worker.dead)


def test_an_engine_that_cannot_be_built_again_for_another_reason_ends_the_thread(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    class Gone(Hungry):
        def __init__(self, settings):
            if settings.short_side == 357:
                raise FileNotFoundError("the checkpoint has gone")
            super().__init__(settings)
    rig = Rig(Gone)
    rig.worker.start()
    assert rig.worker.settled.wait(5) and not rig.worker.dead
    rig.mailbox.put(Frame("a", 1, time.monotonic()))
    wait(lambda: rig.worker.dead)
    assert not rig.worker.rebuilding and rig.engines[0].closed


def test_a_gpu_that_fails_for_good_ends_the_thread_and_its_frame_has_an_account(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    accelerator_error = type("AcceleratorError", (RuntimeError,), {})

    def fail(images):
        raise accelerator_error("CUDA error: an illegal memory access was encountered")
    rig = Rig()
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    rig.engines[0].trouble = fail
    rig.mailbox.put(Frame("a", 1, time.monotonic()))
    wait(lambda: rig.worker.dead)
    ((camera, drop, reason, why),) = rig.refusals
    assert (camera, drop, reason) == ("a", Drop.ERROR, Reason.INFERENCE_ERROR) and "illegal memory" in why
    assert rig.mailbox.counts("a").pending == 0


@pytest.mark.parametrize("message", [
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED in x",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
    "Expected mha_graph.execute(handle, variant_pack, workspace_ptr).is_good() to be true, but got false.",
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1154'])
def test_a_gpu_error_that_means_memory_goes_down_the_rungs(message):
    accelerator_error = type("AcceleratorError", (RuntimeError,), {})

    class Full(Engine):
        def infer(self, images):
            if self.short_side == 476:
                raise accelerator_error(message)
            return super().infer(images)
    with Rig(Full) as rig:
        rig.feed(a=1)
        wait(lambda: len(rig.engines) == 2)
        rig.feed(a=2)
        assert rig.judged == [("a", 2)] and not rig.worker.dead


def too_large_for_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.empty(2**60, dtype=torch.uint8)


def too_large_for_opencv():
    cv2.resize(np.zeros((2, 2), np.uint8), (2**18, 2**21))


def too_large_for_numpy():
    np.empty(2**60, np.uint8)


def too_large_for_cpp():
    raise RuntimeError("std::bad_alloc")   # as bindings hand it on


@pytest.mark.parametrize("allocate", [too_large_for_torch, too_large_for_opencv, too_large_for_numpy,
                                      too_large_for_cpp])
def test_a_cpu_without_memory_goes_down_the_rungs(allocate):
    class Full(Engine):
        def __init__(self, settings):
            super().__init__(settings)
            if self.short_side == 357:
                allocate()

        def infer(self, images):
            if self.short_side == 476:
                allocate()
            return super().infer(images)
    with pytest.raises(Exception):   # noqa: B017 (what it raises is the library's affair)
        allocate()
    with Rig(Full) as rig:
        rig.feed(a=1)
        wait(lambda: len(rig.engines) == 2 or rig.worker.dead)
        rig.feed(a=2)
        assert rig.judged == [("a", 2)] and rig.worker.degraded.startswith("short side 267 px")


def test_the_time_of_a_rebuild_is_not_that_of_the_rest_of_the_batch():
    busy = []

    class Slow(Engine):
        def __init__(self, settings):
            super().__init__(settings)
            if settings.short_side < 476:
                time.sleep(0.4)
                busy.append(rig.worker.busy_for())   # a rebuild is watched as such, by `build_timeout`

        def infer(self, images):
            if self.short_side == 476:
                raise OutOfMemoryError("no")
            busy.append(rig.worker.busy_for())
            return super().infer(images)
    with Rig(Slow) as rig:
        rig.mailbox.put(Frame("a", 1, time.monotonic()))
        rig.mailbox.put(Frame("b", 2, time.monotonic()))
        wait(lambda: len(busy) > 1)
    assert busy[0] == 0.0 and busy[1] < 0.3


def test_a_hanging_engine_shows_and_stop_does_not_hang():
    release = threading.Event()
    rig = Rig()
    rig.worker.start()
    assert rig.worker.settled.wait(5)
    rig.engines[0].trouble = lambda images: release.wait(10)
    rig.mailbox.put(Frame("a", 1, time.monotonic()))
    wait(lambda: rig.worker.busy_for() > 0.05)
    assert not rig.worker.stop(0.05)
    release.set()
    assert rig.worker.stop(5)


@pytest.mark.parametrize("count", [0, 1])
def test_a_wrong_number_of_predictions_is_an_error(count):
    class Odd(Engine):
        def infer(self, images):
            return [SimpleNamespace(value=1)] * count
    with Rig(Odd) as rig:
        rig.feed(a=1, b=2)
        assert len(rig.refusals) == (2 if count == 0 else 0) and len(rig.judged) == (0 if count == 0 else 2)
