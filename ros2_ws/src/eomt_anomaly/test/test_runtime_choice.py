# SPDX-License-Identifier: MIT
"""backend="auto": the fastest that answers as torch does. Whole exports: training/tests/test_export.py."""

from collections import Counter

import numpy as np
import pytest
from runtime_reference import tiny_model

from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.choice import ROUNDS, fastest
from eomt_anomaly.runtime.errors import InvalidImage
from eomt_anomaly.runtime.pipeline import Prediction

CANDIDATES = {"torch": "auto", "onnxruntime": "auto", "openvino": "bf16"}


SIZE, CAMERA = (40, 60), (40, 90)      # the export's, and one of another aspect


class LibraryError(Exception):
    """As ONNX Runtime's `Fail` and `RuntimeException`: derived from nothing more special."""


class Machine:
    """Stand-in engines, and the clock that they move: seconds of a pass, by backend or (backend, size)."""

    def __init__(self, seconds, precision="bf16", answers=None, failing=None, refusing=None):
        self.seconds, self.precision, self.answers = seconds, precision, answers or {}
        self.failing, self.refusing, self.now, self.open = failing or {}, refusing, 0.0, 0

    def start(self, backend, precision):
        if backend in self.failing:
            raise self.failing[backend](f"{backend} is not installed")
        self.open += 1
        assert self.open == 1, "memory must hold one engine at a time"
        return Running(self, backend)

    def choose(self, shapes=()):
        choice = fastest(CANDIDATES, self.start, SIZE, shapes, lambda: self.now)
        assert self.open == 0, "every engine must be closed"
        return choice


class Running:
    def __init__(self, machine, backend):
        self.machine, self.backend, self.precision, self.runs = machine, backend, machine.precision, Counter()

    def infer(self, images):
        (image,), machine = images, self.machine
        size = image.shape[:2]
        assert image.shape == (*size, 3) and image.dtype == np.uint8 and image.std() > 20
        if (self.backend, size) == machine.refusing:
            raise InvalidImage("the image needs two windows")
        if machine.seconds[self.backend] is None:
            raise LibraryError("the graph's version is not supported")
        passes = machine.seconds.get((self.backend, size), machine.seconds[self.backend])
        machine.now += passes if self.runs[size] else 100.0
        self.runs[size] += 1
        usual = machine.answers.get(self.backend, (0, 0.1))
        classes, anomaly = machine.answers.get((self.backend, size), usual)
        return [Prediction(np.full(size, classes, np.uint8), np.full(size, anomaly, np.float32), {})]

    def close(self):
        assert all(count in (1, 1 + ROUNDS, 2 + ROUNDS) for count in self.runs.values())
        self.machine.open -= 1


@pytest.mark.parametrize("best", CANDIDATES)
def test_the_fastest_is_kept_whatever_its_first_pass_takes(best):
    choice = Machine({**dict.fromkeys(CANDIDATES, 0.2), best: 0.1}).choose()
    assert (choice.backend, choice.precision, choice.left_out) == (best, CANDIDATES[best], {})
    assert choice.milliseconds == pytest.approx({**dict.fromkeys(CANDIDATES, 200.0), best: 100.0})
    assert f"{best} 100.0 ms" in str(choice)


def test_times_are_those_of_the_cameras_pictures():
    """A graph of one size shows a longer picture through two windows."""
    machine = {"torch": 0.2, "onnxruntime": 0.3, "openvino": 0.15, ("openvino", CAMERA): 0.3}
    assert Machine(machine).choose().backend == "openvino"
    choice = Machine(machine).choose([CAMERA])
    assert choice.backend == "torch" and choice.milliseconds["openvino"] == pytest.approx(300)
    both = Machine(machine).choose([SIZE, CAMERA, CAMERA])       # each size once
    assert both.milliseconds == pytest.approx({"torch": 200, "onnxruntime": 300, "openvino": 225})


def test_windows_may_answer_otherwise_but_must_run():
    """Answers are compared where all see the image alike; what refuses the camera's pictures is left out."""
    machine = {"torch": 0.3, "onnxruntime": 0.2, "openvino": 0.1}
    assert Machine(machine, answers={("openvino", CAMERA): (1, 0.9)}).choose([CAMERA]).backend == "openvino"
    choice = Machine(machine, refusing=("openvino", CAMERA)).choose([CAMERA])
    assert choice.backend == "onnxruntime"
    assert choice.left_out == {"openvino": "it does not run: the image needs two windows"}


@pytest.mark.parametrize("answer, words", [
    ((1, 0.1), "0.0 % of the classes are torch's"), ((0, 0.15), "the anomaly is 0.05 off")])
def test_one_that_answers_otherwise_is_left_out_however_fast(answer, words):
    seconds = {"torch": 0.3, "onnxruntime": 0.2, "openvino": 0.1}
    choice = Machine(seconds, answers={"openvino": answer}).choose()
    assert choice.backend == "onnxruntime" and set(choice.milliseconds) == {"torch", "onnxruntime"}
    assert words in choice.left_out["openvino"] and "openvino left out: it answers otherwise" in str(choice)


def test_rounding_that_bf16_explains_is_none_of_fp32():
    rounded = {"openvino": (0, 0.11)}
    seconds = {"torch": 0.3, "onnxruntime": 0.2, "openvino": 0.1}
    assert Machine(seconds, "bf16", rounded).choose().backend == "openvino"
    assert Machine(seconds, "fp32", rounded).choose().backend == "onnxruntime"


def test_what_cannot_be_opened_is_left_out_with_its_reason():
    seconds = dict.fromkeys(CANDIDATES, 0.1)
    choice = Machine(seconds, failing={"torch": LibraryError, "openvino": ImportError}).choose()
    assert choice.backend == "onnxruntime" and choice.left_out["torch"] == "torch is not installed"
    choice = Machine({**seconds, "onnxruntime": None}).choose()
    assert choice.left_out == {"onnxruntime": "it does not run: the graph's version is not supported"}
    with pytest.raises(ValueError, match="none that runs: torch: .*onnxruntime: .*openvino is not installed"):
        Machine(seconds, failing=dict.fromkeys(CANDIDATES, ImportError)).choose()


def test_a_plain_checkpoint_runs_in_torch_and_says_why(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with Engine(tmp_path, backend="auto", precision="fp32", short_side=56) as engine:
        assert (engine.backend, engine.short_side) == ("torch", 56)
        assert "training/export.py" in engine.choice.left_out["openvino"] and not engine.choice.milliseconds


@pytest.mark.parametrize("shapes", [[(0, 60)], [(40,)], [(40, 60), (-1, 2)]])
def test_shapes_that_are_none_are_refused(shapes):
    with pytest.raises(ValueError, match="shapes is .*height and width of each image"):
        Engine(tiny_model(), "cpu", "fp32", shapes=shapes)
