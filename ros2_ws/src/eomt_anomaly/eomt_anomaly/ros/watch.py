# SPDX-License-Identifier: MIT
"""Ends the process where something hangs that cannot be ended from inside, so that it is started again."""

from __future__ import annotations

import faulthandler
import os
import time
from typing import TYPE_CHECKING, Any

from .worker import Worker

if TYPE_CHECKING:
    from _typeshed import SupportsGetItem

EXIT_HUNG = 70
BEATS = 3   # heartbeats that must stay away before their absence ends the process


class Watch:
    """Looks after workers, each until its thread ends, and after the thread that spins the node.

    The heartbeat calls `end_if_hung` and `guard`, the executor `executor_runs`, both more often than the
    limits: `worker_timeout` for a batch or for the executor, `build_timeout` for an engine, in seconds.
    """

    def __init__(self, parameters: SupportsGetItem[str, Any], logger: Any):
        self._parameters, self._logger = parameters, logger
        self._workers: list[Worker] = []
        self.executor_runs()

    def add(self, worker: Worker) -> None:
        """Watch this worker, also when the node has left it behind."""
        self._workers.append(worker)

    def executor_runs(self) -> None:
        """The thread that spins the node has come round, or waits for something that is watched."""
        self._executor_ran = time.monotonic()

    @property
    def working(self) -> bool:
        """Whether a worker's thread still runs."""
        return any(not worker.ended for worker in list(self._workers))

    def end_if_hung(self) -> None:
        """End the process (status 70) if a thread has died or hung."""
        if why := self._hung():
            self._logger.fatal(f"{why}: the process ends with status {EXIT_HUNG}, to be started again")
            os._exit(EXIT_HUNG)   # a thread that hangs in native code cannot be ended in any other way

    def _hung(self) -> str:
        times = [("worker_timeout", "the executor", time.monotonic() - self._executor_ran)]
        for worker in list(self._workers):
            if worker.dead:
                return "the worker's thread has died"
            if worker.ended:
                self._workers.remove(worker)
            times += [("worker_timeout", "inference", worker.busy_for()),
                      ("build_timeout", "building or closing the engine", worker.building_for())]
        return "; ".join(f"{what} has hung for {seconds:.0f} s ({name})" for name, what, seconds in times
                         if seconds > self._parameters[name])

    def guard(self) -> None:
        """For native code that keeps Python's lock, and with it the heartbeat: a watch that needs no lock.

        Unless a heartbeat winds it up again in time, it writes where every thread is and ends the process
        (status 1).
        """
        building = any(worker.building_for() > 0.0 for worker in list(self._workers))
        limit = self._parameters["build_timeout" if building else "worker_timeout"]
        faulthandler.dump_traceback_later(max(limit, BEATS / self._parameters["heartbeat_rate"]), exit=True)

    def close(self) -> None:
        """Nothing is guarded any more."""
        faulthandler.cancel_dump_traceback_later()
