# SPDX-License-Identifier: MIT
"""Hostile checkpoints: a clear ValueError in bounded time and memory, and nothing in them is ever run."""

import ast
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from bounded import bounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eomt_anomaly
from eomt_anomaly.model import EomtExt, EomtExtConfig
from eomt_anomaly.model.calibration import read_calibration
from eomt_anomaly.model.checkpoint import file_sha256

FUZZ = settings(max_examples=60, derandomize=True, database=None, deadline=None,   # `bounded` has limits
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats()
                    | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=8)
FIELDS = ["format", "weights_sha256", *EomtExtConfig.preset("tiny").to_dict()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good checkpoint, its config and its weights; every test writes what it spoils to the same folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    EomtExt(EomtExtConfig.preset("tiny")).save_pretrained(folder)
    load(folder)   # what torch imports late is not imported again in every child
    return folder, (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()


def refuses(whole, config=None, weights=None):
    """Load with these files in place of the good ones; returns the text of the refusal, "" where it loads."""
    folder, good_config, good_weights = whole
    (folder / "model.safetensors").write_bytes(good_weights if weights is None else weights)
    if config is None:
        values = json.loads(good_config) | {"weights_sha256": file_sha256(folder / "model.safetensors")}
        config = json.dumps(values).encode()
    (folder / "config.json").write_bytes(config)
    try:
        bounded(load, folder)
        return ""
    except ValueError as error:
        assert str(folder) in str(error) and len(str(error)) < 5000
        return str(error)


def load(folder):
    EomtExt.from_pretrained(folder)


@FUZZ
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_value_in_any_field_of_the_configuration_loads_or_is_refused(whole, field, value):
    values = json.loads(whole[1]) | {field: value}
    refuses(whole, config=json.dumps(values).encode())


@FUZZ
@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_anything_in_place_of_the_configuration_is_refused(whole, config):
    assert "config.json" in refuses(whole, config=config)


@pytest.mark.parametrize("config, words", [
    (b"[" * 100_000, "recursion"), (b'{"format": "eomt_ext/1"}' + b" " * (2 << 20), "bytes"),
    (b"\x80\x04K\x01.", "config.json")])
def test_a_configuration_that_would_exhaust_the_parser_is_refused(whole, config, words):
    assert words in refuses(whole, config=config)


@pytest.mark.parametrize("field", ["hidden_size", "num_layers", "num_heads", "mlp_ratio", "patch_size",
                                   "pos_grid", "num_register_tokens", "decoder_blocks", "num_queries",
                                   "upscale_blocks", "anomaly_hidden", "image_size"])
def test_a_network_of_absurd_size_is_refused_before_it_is_built(whole, field):
    values = json.loads(whole[1]) | {field: 10**9, "num_heads": 1 if field != "num_heads" else 10**9}
    assert field in refuses(whole, config=json.dumps(values).encode())


@FUZZ
@given(size=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 1999), st.integers(1, 255)),
                                                 max_size=4))
def test_weights_that_are_cut_off_or_altered_are_refused_or_are_other_numbers(whole, size, flips):
    data = bytearray(whole[2])
    for place, bits in flips:
        data[place] ^= bits
    refuses(whole, weights=bytes(data))
    assert refuses(whole, weights=bytes(data[:size]))


@pytest.mark.parametrize("length", [2**63, 2**40, 200_000_000, 8])
def test_a_header_length_that_lies_is_refused(whole, length):
    assert "safetensors" in refuses(whole, weights=struct.pack("<Q", length) + whole[2][8:])


@pytest.mark.parametrize("header", [
    {"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**62]}},
    {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    {"a": {"dtype": "P32", "shape": [1], "data_offsets": [0, 4]}},
    {"../../a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"/etc/passwd": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"__class__": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}},
    {}, [], "text"])
def test_a_header_that_lies_is_refused(whole, header):
    text = json.dumps(header).encode()
    assert refuses(whole, weights=struct.pack("<Q", len(text)) + text + bytes(4))


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "calibration.json"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "zip"])
def test_pickles_and_archives_are_refused_and_nothing_is_run(whole, tmp_path, name, kind):
    mark, file = tmp_path / "mark", tmp_path / "file"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Trap(mark)))
    elif kind == "torch":
        torch.save({"weight": Trap(mark)}, file)
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../escaped", bytes(50 << 20))   # a bomb: 50 MB in 50 kB
    if name == "calibration.json":
        (tmp_path / name).write_bytes(file.read_bytes())
        with pytest.raises(ValueError, match="not a valid calibration"):
            read_calibration(tmp_path, "0" * 64)
    else:
        data = file.read_bytes()
        assert refuses(whole, **{"config" if name == "config.json" else "weights": data})
    assert not mark.exists() and not (whole[0].parent.parent / "escaped").exists()


def test_no_file_of_the_package_can_unpickle():
    files = list(Path(eomt_anomaly.__file__).parent.rglob("*.py"))
    assert len(files) > 60
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal",
                                      "joblib"}, file
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                options = {word.arg for word in node.keywords}
                assert "allow_pickle" not in options, file
                assert ast.unparse(node.func) not in ("torch.load", "torch.jit.load"), file


@FUZZ
@given(st.one_of(st.binary(max_size=100), JSON.map(lambda value: json.dumps(value).encode()),
                 st.fixed_dictionaries({"score": JSON, "threshold": JSON}).map(
                     lambda value: json.dumps(value).encode())))
def test_any_calibration_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "calibration.json").write_bytes(data)
    try:
        assert 0.0 < bounded(read_calibration, folder, "0" * 64)["threshold"] < 1.0
    except ValueError as error:
        assert "not a valid calibration" in str(error)
