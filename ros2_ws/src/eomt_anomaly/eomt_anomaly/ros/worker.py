# SPDX-License-Identifier: MIT
"""The one thread that owns the engine: it builds it, feeds it, and survives whatever a frame does to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import Any, Protocol

from ..alerts import Reason
from .fallback import EngineSettings, Ladder, lower_rung
from .mailbox import Drop, Frame, Mailbox

# How libraries say it, in lower case: CUDA; cuBLAS and cuDNN; torch on a CPU and ONNX Runtime; OpenCV; C++.
OUT_OF_MEMORY = ("out of memory", "status_alloc_failed", "allocate memory", "not enough memory",
                 "insufficient memory", "bad_alloc")


class Refused(Exception):
    """A frame that must not be judged: how it is counted, what the alert says, and the text for people."""

    def __init__(self, drop: Drop, reason: Reason, text: str):
        super().__init__(text)
        self.drop, self.reason = drop, reason


class Handler(Protocol):
    """What the worker asks of the node; all three run in the worker's thread."""

    def admit(self, frame: Frame, engine: Any) -> Any:
        """The frame as uint8 [H,W,3] RGB, an array or the engine's own tensor, or raise `Refused`."""

    def judge(self, frame: Frame, rgb: Any, prediction: Any, inference_s: float) -> None:
        """Draw the conclusions and publish them, or raise `Refused`."""

    def refused(self, frame: Frame, why: Refused) -> None:
        """A frame was not judged."""


@dataclass(frozen=True)
class Batching:
    """At most `size` frames a pass, collected for at most `window` seconds after the first."""

    size: int
    window: float


class Worker:
    """Runs `make_engine(settings)` and then batches from the mailbox until `stop`.

    State for other threads: `engine` (None until it is ready), `failure` (why it could not be built),
    `settled` (set when either is known), `degraded` (what had to be given up for want of memory), `starved`
    (memory runs out and there is nothing left to give up), `busy_for()`, `building_for()`, `ended` and
    `dead`. An engine's `close` must give back its memory: a smaller one is built after it. After `retry_s`
    seconds in which memory did not run out, the next larger one is tried; an engine that cannot be built
    again for any other reason ends the thread.
    """

    def __init__(self, make_engine: Callable[[EngineSettings], Any], settings: EngineSettings,
                 shapes: Sequence[tuple[int, int]], mailbox: Mailbox, handler: Handler,
                 batching: Callable[[], Batching], allow_degraded: bool = True,
                 retry_s: float = 0.0):
        self.engine: Any = None
        self.failure: Exception | None = None
        self.settled = threading.Event()
        self.rebuilding, self.starved = False, False
        self._make_engine, self._shapes = make_engine, list(shapes)
        self._mailbox, self._handler, self._batching = mailbox, handler, batching
        self._allow_degraded, self._ladder = allow_degraded, Ladder(settings, retry_s)
        self._busy_since: float | None = None
        self._building_since: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin to build the engine."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """End the thread and close the engine; False if the thread is still busy after `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def degraded(self) -> str:
        """What had to be given up for want of memory, in words; "" for nothing."""
        return self._ladder.describe()

    @property
    def ended(self) -> bool:
        """Whether the thread has run to its end, whatever the reason."""
        return self.settled.is_set() and not self._thread.is_alive()

    @property
    def dead(self) -> bool:
        """Whether the thread has ended although there is an engine to serve and nobody stopped it."""
        return self.ended and self.engine is not None and not self._stop.is_set()

    def busy_for(self) -> float:
        """Seconds the current batch has taken so far; 0 while waiting for frames or rebuilding the engine."""
        since = self._busy_since
        return 0.0 if since is None or self.rebuilding else time.monotonic() - since

    def building_for(self) -> float:
        """Seconds that building, warming up or closing an engine has taken so far; 0 while none is."""
        since = self._building_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        try:
            self.engine = self._build()
        except Exception as error:
            self.failure = error
        except BaseException as error:   # SystemExit, a panic in a Rust library: the node waits for an answer
            self.failure = RuntimeError(f"building the engine was ended by {error!r}")
        self.settled.set()
        while self.engine is not None and not self._stop.is_set():
            if self._ladder.due():
                self._step_up()
            batching = self._batching()
            size = 1 if self._ladder.rung.single else batching.size
            frames = self._mailbox.take(size, batching.window, timeout=0.2)
            if frames:
                self._busy_since = time.monotonic()
                self._serve(frames)
                self._busy_since = None
        if self.engine is not None:
            self._building_since = time.monotonic()
            self.engine.close()
            self._building_since = None

    def _build(self) -> Any:
        self._building_since = time.monotonic()
        try:
            engine = self._make_engine(self._ladder.rung.settings)
            try:
                if self._shapes:
                    engine.warmup(self._shapes)
            except BaseException:
                engine.close()
                raise
            return engine
        finally:
            self._building_since = None

    def _serve(self, frames: list[Frame]) -> None:
        """Judge or refuse every frame, whatever is raised: no frame is left without an account."""
        admitted, images = [], []
        for frame in frames:
            try:
                images.append(self._handler.admit(frame, self.engine))
                admitted.append(frame)
            except Exception as error:
                self._refuse(frame, error)
        if admitted:
            self._infer(admitted, images)

    def _infer(self, frames: list[Frame], images: list[Any]) -> None:
        started = time.monotonic()
        try:
            predictions = self.engine.infer(images)
            if len(predictions) != len(images):
                raise RuntimeError(f"the engine returned {len(predictions)} predictions for {len(images)} "
                                   "images")
        except Exception as error:
            clear_frames(error.__traceback__)   # they hold the network and the failed pass's tensors
            if _is_fatal(error):
                for frame in frames:
                    self._refuse(frame, error)
                raise
            self._recover(frames, images, error)
            return
        inference_s, self.starved = time.monotonic() - started, False
        for frame, image, prediction in zip(frames, images, predictions):
            try:
                self._handler.judge(frame, image, prediction, inference_s)
                self._mailbox.settle(frame)
            except Exception as error:
                self._refuse(frame, error)

    def _recover(self, frames: list[Frame], images: list[Any], error: Exception) -> None:
        """One bad image must not cost the others: a failed batch is run again frame by frame."""
        if len(frames) > 1:
            if _is_out_of_memory(error):
                self._ladder.ran_out()
                self._ladder.down(replace(self._ladder.rung, single=True))
            for frame, image in zip(frames, images):
                self._infer([frame], [image])
            return
        self._refuse(frames[0], error)
        if _is_out_of_memory(error):
            self._ladder.ran_out()
            self._step_down()

    def _step_down(self) -> None:
        """Rebuild the engine lower and lower until it fits; without a lower rung the alerts stay UNKNOWN."""
        side = getattr(self.engine, "short_side", None)
        while self._allow_degraded and (lower := lower_rung(self._ladder.rung.settings, side)) is not None:
            self._ladder.down(replace(self._ladder.rung, settings=lower))
            if self._rebuild():
                return
        self.starved = True

    def _step_up(self) -> None:
        """Try the next larger engine; where it does not fit, build the one that did."""
        left = self._ladder.up()
        if left.settings == self._ladder.rung.settings or self._rebuild():
            return
        self._ladder.down(left)
        if not self._rebuild():
            self._step_down()

    def _rebuild(self) -> bool:
        """Build the engine of the rung in force; False if it does not fit into the memory.

        The closed engine stays in its place meanwhile: its classes and its threshold are still asked for.
        """
        self.rebuilding, self._building_since = True, time.monotonic()
        try:
            self.engine.close()
            self.engine = self._build()
            return True
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            self._ladder.ran_out()
            return False
        finally:
            if self._busy_since is not None:   # the rest of the batch has its own time, without the rebuild
                self._busy_since = time.monotonic()
            self.rebuilding, self._building_since = False, None

    def _refuse(self, frame: Frame, error: Exception) -> None:
        why = error if isinstance(error, Refused) else explain(error)
        self._mailbox.settle(frame, why.drop)
        try:
            self._handler.refused(frame, why)
        except Exception:   # publishing the refusal failed: the heartbeat says UNKNOWN in its stead
            return


def explain(error: Exception) -> Refused:
    """Sort an exception from the engine (or from anywhere else on a frame's way) into a refusal."""
    name = type(error).__name__
    if name == "InvalidImage":
        return Refused(Drop.INVALID, Reason.INVALID_INPUT, f"the engine refused the image: {error}")
    if name == "NonFiniteOutput":
        return Refused(Drop.ERROR, Reason.INVALID_OUTPUT, f"the network's output is not finite: {error}")
    return Refused(Drop.ERROR, Reason.INFERENCE_ERROR, f"inference failed: {name}: {error}")


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "OutOfMemory") or \
        any(words in text for words in OUT_OF_MEMORY)


def _is_fatal(error: Exception) -> bool:
    """Whether the GPU fails for good: after such an error every later call of this process fails as well."""
    return type(error).__name__ == "AcceleratorError" and not _is_out_of_memory(error)
