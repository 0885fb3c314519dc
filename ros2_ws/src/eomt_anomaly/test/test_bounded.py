# SPDX-License-Identifier: MIT
"""The bounds of the fuzz tests bind: also after a peak of the test's own process."""

import os
import signal
import time

import numpy as np
import pytest
from bounded import OutOfBounds, bounded


def take(megabytes):
    return int(np.ones(megabytes << 20, np.uint8)[-1])


def fail():
    raise ValueError("what was wrong")


def burn():
    while True:
        pass


def test_results_and_errors_come_back():
    assert bounded(take, 1) == 1
    with pytest.raises(ValueError, match="what was wrong"):
        bounded(fail)


def test_memory_is_measured_after_an_earlier_peak_too():
    take(400)
    assert bounded(take, 20, megabytes=100) == 1
    with pytest.raises(OutOfBounds, match="MB, more than 100"):
        bounded(take, 200, megabytes=100)
    with pytest.raises(MemoryError):
        bounded(take, 1 << 20, megabytes=100)


def test_what_does_not_end_is_ended_and_what_takes_its_process_down_is_told():
    start = time.monotonic()
    for call in (burn, lambda: time.sleep(60)):
        with pytest.raises(OutOfBounds, match="ended after 0.5 s: True"):
            bounded(call, wall_s=0.5)
    assert time.monotonic() - start < 20
    with pytest.raises(OutOfBounds, match="s of CPU"):
        bounded(lambda: sum(range(20_000_000)), cpu_s=0.1)
    with pytest.raises(OutOfBounds, match="ended with -9"):
        bounded(lambda: os.kill(os.getpid(), signal.SIGKILL))
