# SPDX-License-Identifier: MIT
"""For the fuzz tests: a call that must end soon and in little memory, in a process of its own."""

import os
import pickle
import resource
import select
import signal
import sys
import time
from pathlib import Path

CPU_S, WALL_S, MEGABYTES = 5.0, 60.0, 200


class OutOfBounds(AssertionError):
    """The call took too long or too much memory, or it took its process down."""


def bounded(call, *args, cpu_s=CPU_S, wall_s=WALL_S, megabytes=MEGABYTES):
    """What `call(*args)` returns or raises, made in a forked child; `OutOfBounds` beyond the limits.

    A child's peak of resident memory begins at its fork, unlike that of the test's process, which remembers
    every earlier test; it does not begin with all that its parent has, for mapped files do not come along. So
    the child itself says by how much it grew. Its address space is limited too (to four times as much, for
    allocators reserve), so that a bomb costs a MemoryError and not the machine.
    """
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _answer(write, call, args, address_space + 4 * (megabytes << 20))
    os.close(write)
    data, end = b"", time.monotonic() + wall_s
    with open(read, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            if not (more := pipe.read(1 << 16)):
                break
            data += more
    late = time.monotonic() >= end
    if late:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if late or usage.ru_utime + usage.ru_stime > cpu_s:
        raise OutOfBounds(f"{usage.ru_utime + usage.ru_stime:.1f} s of CPU, ended after {wall_s:g} s: {late}")
    if status:
        raise OutOfBounds(f"the process ended with {os.waitstatus_to_exitcode(status)}")
    result, error, grown = pickle.loads(data)
    if grown > megabytes:
        raise OutOfBounds(f"{grown:.0f} MB, more than {megabytes}")
    if error is not None:
        raise error
    return result


def _answer(pipe, call, args, address_space):
    """In the child: send the result or None, the exception or None, and MB of growth; never returns."""
    status, peak = 1, _peak()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)   # OpenMP's threads did not come along
        try:
            answer = call(*args), None
        except Exception as error:
            answer = None, error
        with open(pipe, "wb") as file:
            pickle.dump((*answer, _peak() - peak), file)
        status = 0
    finally:
        os._exit(status)   # pytest's own way out is for the parent alone


def _peak():
    """The most resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
