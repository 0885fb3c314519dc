# SPDX-License-Identifier: MIT
"""How images cover the one size of an exported graph, and what is refused before anything runs.

Whole exports, run in both backends, are tested in training/tests/test_export.py.
"""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_reference import tiny_model

from eomt_anomaly.runtime import Engine
from eomt_anomaly.runtime.backends import open_session
from eomt_anomaly.runtime.preprocess import cover

MODEL = tiny_model()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([(56, 84), (84, 56), (56, 56)]),
       st.sampled_from([0, 13]))
def test_windows_cover_the_image_at_its_own_aspect(height, width, window, slack):
    plan = cover(height, width, window, slack)
    covered = np.zeros(plan.scaled, bool)
    for crop in plan.crops():
        assert covered[crop].shape == window
        covered[crop] = True
    assert covered.all() and plan.window == window and min(np.subtract(plan.scaled, window)) == 0
    scale = max(window[0] / height, window[1] / width)
    squeezed = [abs(side * scale - got) for side, got in zip((height, width), plan.scaled)]
    assert max(squeezed) <= max(1, slack + 1)


def test_an_image_of_the_exports_aspect_is_one_pass():
    assert cover(360, 640, (252, 448)).corners == ((0, 0),)
    assert cover(480, 640, (252, 336)).corners == ((0, 0),)
    assert cover(360, 480, (252, 350), slack=13).scaled == (252, 350)     # one patch is squeezed ...
    assert len(cover(360, 480, (252, 350)).corners) == 2                  # ... unless asked not to
    assert len(cover(360, 640, (252, 336), slack=13).corners) == 2


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_what_is_no_export_is_refused_with_the_command(tmp_path, backend):
    MODEL.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="plain is a checkpoint for backend='torch'.*training/export.py"):
        Engine(tmp_path / "plain", backend=backend)
    with pytest.raises(ValueError, match="model in memory.*training/export.py"):
        Engine(MODEL, backend=backend)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Engine(tmp_path / "nowhere", backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_missing_backend_is_named_with_pips_command(tmp_path, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend, None)           # as if it were not installed
    with pytest.raises(ImportError, match=f"pip install {backend}"):
        open_session(backend, tmp_path / "model.onnx")
