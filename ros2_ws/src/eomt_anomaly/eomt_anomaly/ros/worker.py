# SPDX-License-Identifier: MIT
"""The one thread that owns the engine: it builds it, feeds it, and survives whatever a frame does to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import Any, Protocol

from .fallback import EngineSettings, Ladder, lower_rung
from .mailbox import Frame, Mailbox
from .refusals import Refused, explain, is_fatal, is_out_of_memory


class Handler(Protocol):
    """What the worker asks of the node; all three run in the worker's thread."""

    def admit(self, frame: Frame, engine: Any) -> Any:
        """The frame as uint8 [H,W,3] RGB, an array or the engine's own tensor, or raise `Refused`."""

    def judge(self, frame: Frame, rgb: Any, prediction: Any, inference_s: float, engine: Any) -> None:
        """Draw the conclusions and publish them, or raise `Refused`. It may ask the engine again."""

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
    (memory runs out and there is nothing left to give up), `gpu_memory` (as the engine says, or its
    `problem`), `busy_for()`, `building_for()`, `ended` and
    `dead`. Where memory runs out, at the first build too, a smaller engine is built after `close`, which must
    give back its memory. After `retry_s` seconds in which memory did not run out, the next larger one is
    tried, and where that fails the smaller one is built again; if that fails, or none fits, the thread ends.
    """

    def __init__(self, make_engine: Callable[[EngineSettings], Any], settings: EngineSettings,
                 shapes: Sequence[tuple[int, int]], mailbox: Mailbox, handler: Handler,
                 batching: Callable[[], Batching], allow_degraded: bool = True,
                 retry_s: float = 0.0):
        self.engine: Any = None
        self.failure: Exception | None = None
        self.settled = threading.Event()
        self.rebuilding, self.starved = False, False
        self.gpu_memory: dict[str, Any] = {}
        self._measured = float("-inf")   # when it was last asked for, monotonic s
        self._make_engine, self._shapes = make_engine, list(shapes)
        self._mailbox, self._handler, self._batching = mailbox, handler, batching
        self._allow_degraded, self._ladder = allow_degraded, Ladder(settings, retry_s)
        self._side: int | None = None   # of the last engine that was built, px
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
            self.engine = self._build_what_fits()
        except Exception as error:
            self.failure = error
        except BaseException as error:   # SystemExit, a panic in a Rust library: the node waits for an answer
            self.failure = RuntimeError(f"building the engine was ended by {error!r}")
        self.settled.set()
        while self.engine is not None and not self._stop.is_set():
            if self._ladder.due():
                self._step_up()
            batching = self._batching()
            # An engine that takes images one by one gains nothing, and each would wait for the last.
            size = batching.size if self.engine.batched and not self._ladder.rung.single else 1
            frames = self._mailbox.take(size, batching.window, timeout=0.2)
            if frames:
                self._busy_since = time.monotonic()
                self._serve(frames)
                if time.monotonic() - self._measured > 1.0:
                    self._measure(self.engine)
                self._busy_since = None
        if self.engine is not None:
            self._close()

    def _build(self) -> Any:
        """An engine of the rung in force, warmed up."""
        self._building_since = time.monotonic()
        try:
            engine = self._make_engine(self._ladder.rung.settings)
            self._side = getattr(engine, "short_side", None)
            try:
                if self._shapes:
                    engine.warmup(self._shapes)
                    self._warm_up_batches(engine)
                self._measure(engine)
            except BaseException:
                engine.close()
                raise
            return engine
        finally:
            self._building_since = None

    def _warm_up_batches(self, engine: Any) -> None:
        """Meet every number of frames of a pass, or learn that memory has room for single ones only."""
        batch = self._batching().size
        if not engine.batched or self._ladder.rung.single or batch < 2:
            return
        try:
            engine.warmup(self._shapes, batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error.__traceback__)
            self._ladder.ran_out()
            self._ladder.down(replace(self._ladder.rung, single=True))

    def _measure(self, engine: Any) -> None:
        """Ask for the GPU's memory: in this thread, as a driver that hangs must not hold up the heartbeat."""
        try:
            self.gpu_memory = engine.gpu_memory()
        except Exception as error:
            self.gpu_memory = {"problem": f"{type(error).__name__}: {error}"}
        self._measured = time.monotonic()

    def _build_what_fits(self) -> Any:
        """The same, or of the first rung below it that fits into the memory; raises where none does."""
        while True:
            try:
                return self._build()
            except Exception as error:   # it holds the failed engine: gone before the next one is built
                if not (is_out_of_memory(error) and self._give_up_something()):
                    raise
                self._ladder.ran_out()

    def _close(self) -> None:
        self._building_since = time.monotonic()
        self.engine.close()
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
            if is_fatal(error):
                for frame in frames:
                    self._refuse(frame, error)
                raise
            self._recover(frames, images, error)
            return
        inference_s, self.starved = time.monotonic() - started, False
        left = deque(zip(frames, images, predictions))
        while left:
            frame, image, prediction = left.popleft()
            try:
                self._handler.judge(frame, image, prediction, inference_s, self.engine)
                self._mailbox.settle(frame)
            except Exception as error:   # of the rules, of publishing, or of the engine's second look
                clear_frames(error.__traceback__)
                if is_fatal(error):
                    for lost in (frame, *(later for later, *_ in left)):
                        self._refuse(lost, error)
                    raise
                self._give_up(frame, error)

    def _recover(self, frames: list[Frame], images: list[Any], error: Exception) -> None:
        """One bad image must not cost the others: a failed batch is run again frame by frame."""
        if len(frames) > 1:
            if is_out_of_memory(error):
                self._ladder.ran_out()
                self._ladder.down(replace(self._ladder.rung, single=True))
            for frame, image in zip(frames, images):
                self._infer([frame], [image])
            return
        self._give_up(frames[0], error)

    def _give_up(self, frame: Frame, error: Exception) -> None:
        """Refuse a frame, and build a smaller engine where memory ran out over it."""
        self._refuse(frame, error)
        if is_out_of_memory(error):
            self._ladder.ran_out()
            self._step_down()

    def _give_up_something(self) -> bool:
        """Go down to the next rung; False where there is none, or no leave to go there."""
        settings = self._ladder.rung.settings
        lower = lower_rung(settings, self._side) if self._allow_degraded else None
        if lower is not None:
            self._ladder.down(replace(self._ladder.rung, settings=lower))
        return lower is not None

    def _step_down(self) -> None:
        """Build a smaller engine; where nothing is left to give up, the alerts stay UNKNOWN."""
        if not self._give_up_something():
            self.starved = True
            return
        with self._rebuilding():
            self.engine = self._build_what_fits()

    def _step_up(self) -> None:
        """Try the next larger engine; where that fails, for whatever reason, build the one that worked."""
        left = self._ladder.up()
        if left.settings == self._ladder.rung.settings:
            return
        with self._rebuilding():
            try:
                self.engine = self._build()
                return
            except BaseException as error:
                self._ladder.fell_back(left, f"{type(error).__name__}: {error}")
            self.engine = self._build_what_fits()

    @contextmanager
    def _rebuilding(self) -> Iterator[None]:
        """Close the engine. It stays in its place until there is another: its classes are still asked for."""
        self.rebuilding = True
        try:
            self._close()
            yield
        finally:
            if self._busy_since is not None:   # the rest of the batch has its own time, without the rebuild
                self._busy_since = time.monotonic()
            self.rebuilding = False

    def _refuse(self, frame: Frame, error: Exception) -> None:
        why = error if isinstance(error, Refused) else explain(error)
        self._mailbox.settle(frame, why.drop)
        try:
            self._handler.refused(frame, why)
        except Exception:   # publishing the refusal failed: the heartbeat says UNKNOWN in its stead
            return
