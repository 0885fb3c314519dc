# SPDX-License-Identifier: MIT
"""The watch: it ends the process for whatever hangs, also for what the node has left behind."""

import threading
import time
from types import SimpleNamespace

import pytest

from eomt_anomaly.ros import watch
from eomt_anomaly.ros.fallback import EngineSettings
from eomt_anomaly.ros.mailbox import Frame, Mailbox
from eomt_anomaly.ros.watch import EXIT_HUNG, Watch
from eomt_anomaly.ros.worker import Batching, Worker

LIMITS = {"worker_timeout": 0.3, "build_timeout": 0.6}


class Stuck:
    """An engine, and its handler, that hang where they are told to, until released."""

    batched = False

    def __init__(self, where):
        self.where, self.release, self.hangs = where, threading.Event(), threading.Event()

    def _maybe(self, here):
        if here == self.where:
            self.hangs.set()
            self.release.wait(20)

    def gpu_memory(self):
        return {}

    def infer(self, images):
        self._maybe("infer")
        return images

    def close(self):
        self._maybe("close")

    def admit(self, frame, engine):
        return frame.message

    def judge(self, *_):
        pass

    refused = judge


@pytest.fixture
def ends(monkeypatch):
    """Statuses with which the process would have ended."""
    box = []
    monkeypatch.setattr(watch.os, "_exit", box.append)
    return box


def looking(seconds, watched, executor=True):
    """Beats of a heartbeat; returns the reasons that were logged as fatal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if executor:
            watched.executor_runs()
        watched.end_if_hung()
        time.sleep(0.01)
    return watched._logger.said


def make():
    said = []
    return Watch(LIMITS, SimpleNamespace(said=said, fatal=said.append))


@pytest.mark.parametrize("where, words", [("infer", "inference has hung"), ("close", "closing the engine")])
def test_a_worker_that_is_left_behind_is_watched_until_it_ends(ends, where, words):
    for released in (True, False):
        engine, watched, mailbox = Stuck(where), make(), Mailbox(["a"])
        worker = Worker(lambda _, engine=engine: engine, EngineSettings("here"), [], mailbox, engine,
                        lambda: Batching(1, 0.0))
        worker.start()
        watched.add(worker)
        assert worker.settled.wait(5)
        if where == "infer":
            mailbox.put(Frame("a", 1, time.monotonic()))
            assert engine.hangs.wait(5)
        assert not worker.stop(0.05)
        assert watched.working and not ends
        if released:
            engine.release.set()
            assert worker.stop(5)
        said = looking(1.0, watched)
        engine.release.set()
        assert worker.stop(5) and not watched.working
        assert set(ends) == (set() if released else {EXIT_HUNG})
        assert all(words in text for text in said) and bool(said) != released


def test_an_executor_that_stands_still_ends_the_process_and_one_that_runs_does_not(ends):
    watched = make()
    assert not looking(0.6, watched) and not ends
    assert "the executor has hung" in looking(0.6, watched, executor=False)[0] and set(ends) == {EXIT_HUNG}


@pytest.mark.parametrize("rate, expected", [(10.0, 1.0), (1.0, 3.0)])
def test_a_slow_heartbeat_that_comes_in_time_does_not_end_the_process(monkeypatch, rate, expected):
    wound = []
    monkeypatch.setattr(watch.faulthandler, "dump_traceback_later", lambda limit, exit: wound.append(limit))
    Watch({"worker_timeout": 1.0, "build_timeout": 600.0, "heartbeat_rate": rate}, None).guard()
    assert wound == [expected]
