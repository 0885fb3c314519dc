# SPDX-License-Identifier: MIT
"""How images cover the one size of an exported graph, and what is refused before anything runs.

Whole exports, run in both backends, are tested in training/tests/test_export.py.
"""

import json
import sys

import numpy as np
import pytest
from bounded import bounded
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from runtime_reference import tiny_model

from eomt_anomaly.model.checkpoint import file_sha256
from eomt_anomaly.runtime import Engine, InvalidImage
from eomt_anomaly.runtime.backends import open_session
from eomt_anomaly.runtime.exported import FORMAT, open_exported
from eomt_anomaly.runtime.preprocess import cover

MODEL = tiny_model()
JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats()
                    | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=8)
FUZZ = settings(max_examples=60, derandomize=True, database=None, deadline=None)   # `bounded` has limits


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([(56, 84), (84, 56), (56, 56)]),
       st.sampled_from([0, 13]))
def test_windows_cover_the_image_at_its_own_aspect(height, width, window, slack):
    try:
        plan = cover(height, width, window, slack)
    except InvalidImage:     # too many windows: test_runtime_preprocess.py
        reject()
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
    assert [len(cover(rows, 84, (56, 84), slack=13).corners) for rows in (69, 70)] == [1, 2]


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


# ---- hostile folders ----


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """(a folder that is a whole export but for its graph's contents, the values of its export.json)."""
    folder = tmp_path_factory.mktemp("export")
    MODEL.save_pretrained(folder)
    (folder / "model.onnx").write_bytes(b"a graph")
    values = {"format": FORMAT, "precision": "fp32", "postprocess": None,
              "input": {"height": 56, "width": 56, "preprocess": True},
              "weights_sha256": json.loads((folder / "config.json").read_text())["weights_sha256"],
              "files": {name: file_sha256(folder / name) for name in ("model.onnx", "config.json")}}
    return folder, values


def opened(export, text):
    """The sizes and the score of the folder with this export.json; None where it is refused."""
    (export[0] / "export.json").write_bytes(text)
    try:
        found = bounded(open_exported, export[0])
    except ValueError as error:
        assert "not a whole export" in str(error) and len(str(error)) < 5000
        return None
    return found.size, found.output_size, found.score


@FUZZ
@given(place=st.sampled_from([(), ("input",), ("files",)]), data=st.data(), value=JSON)
def test_any_value_in_any_field_of_an_export_opens_or_is_refused(export, place, data, value):
    values = json.loads(json.dumps(export[1]))
    fields = values[place[0]] if place else values
    fields[data.draw(st.sampled_from(sorted(fields)))] = value
    assert opened(export, json.dumps(values).encode()) in (None, ((56, 56), None, None))


@FUZZ
@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_anything_in_place_of_export_json_is_refused(export, text):
    assert opened(export, text) is None


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{}" + b" " * (2 << 20)])
def test_an_export_json_that_would_exhaust_the_parser_is_refused(export, text):
    assert opened(export, text) is None


@pytest.mark.parametrize("field", ["input", "postprocess"])
def test_an_export_of_absurd_size_is_refused(export, field):
    huge = {"height": 56 * 10**6, "width": 56, "preprocess": True, "score": "msp"}
    assert opened(export, json.dumps(export[1]).encode()) == ((56, 56), None, None)
    assert opened(export, json.dumps(export[1] | {field: huge}).encode()) is None
