# SPDX-License-Identifier: MIT
"""backend="auto": the fastest that answers as torch does. Whole exports: training/tests/test_export.py."""

import numpy as np
import pytest
from runtime_reference import tiny_model

from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.choice import ROUNDS, fastest
from eomt_anomaly.runtime.pipeline import Prediction

CANDIDATES = {"torch": "auto", "onnxruntime": "auto", "openvino": "bf16"}


class Machine:
    """Stand-in engines whose passes take the given seconds, and the clock that they move."""

    def __init__(self, seconds, precision="bf16", answers=None, failing=()):
        self.seconds, self.precision, self.answers = seconds, precision, answers or {}
        self.failing, self.now, self.open = failing, 0.0, 0

    def start(self, backend, precision):
        if backend in self.failing:
            raise ImportError(f"{backend} is not installed")
        self.open += 1
        assert self.open == 1, "memory must hold one engine at a time"
        return Running(self, backend)

    def choose(self):
        choice = fastest(CANDIDATES, self.start, (40, 60), lambda: self.now)
        assert self.open == 0, "every engine must be closed"
        return choice


class Running:
    def __init__(self, machine, backend):
        self.machine, self.backend, self.precision, self.runs = machine, backend, machine.precision, 0

    def infer(self, images):
        assert images[0].shape == (40, 60, 3) and images[0].dtype == np.uint8 and images[0].std() > 20
        first = self.runs == 0
        self.runs += 1
        self.machine.now += 100.0 if first else self.machine.seconds[self.backend]
        classes, anomaly = self.machine.answers.get(self.backend, (0, 0.1))
        return [Prediction(np.full((40, 60), classes, np.uint8), np.full((40, 60), anomaly, np.float32), {})]

    def close(self):
        assert self.runs in (0, 1, 1 + ROUNDS)
        self.machine.open -= 1


@pytest.mark.parametrize("best", CANDIDATES)
def test_the_fastest_is_kept_whatever_its_first_pass_takes(best):
    choice = Machine({**dict.fromkeys(CANDIDATES, 0.2), best: 0.1}).choose()
    assert (choice.backend, choice.precision, choice.left_out) == (best, CANDIDATES[best], {})
    assert choice.milliseconds == pytest.approx({**dict.fromkeys(CANDIDATES, 200.0), best: 100.0})
    assert f"{best} 100.0 ms" in str(choice)


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
    choice = Machine(seconds, failing=("torch", "openvino")).choose()
    assert choice.backend == "onnxruntime" and choice.left_out["torch"] == "torch is not installed"
    with pytest.raises(ValueError, match="none that runs: torch: .*onnxruntime: .*openvino is not installed"):
        Machine(seconds, failing=CANDIDATES).choose()


def test_a_plain_checkpoint_runs_in_torch_and_says_why(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with Engine(tmp_path, backend="auto", precision="fp32", short_side=56) as engine:
        assert (engine.backend, engine.short_side) == ("torch", 56)
        assert "training/export.py" in engine.choice.left_out["openvino"] and not engine.choice.milliseconds
