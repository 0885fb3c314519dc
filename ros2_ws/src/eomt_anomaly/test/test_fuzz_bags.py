# SPDX-License-Identifier: MIT
"""Altered recordings: every byte may be wrong, and reading ends soon, with messages or with a BagError."""

import sqlite3

import pytest

pytest.importorskip("rosbags")

from bag_fixtures import make_bag
from bounded import bounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eomt_anomaly.ros.bag_io import Bag, BagError

FUZZ = settings(max_examples=40, derandomize=True, database=None, deadline=None,   # `bounded` has limits
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def whole(request, tmp_path_factory):
    """(storage file of a small bag, its bytes, its metadata.yaml)."""
    folder = make_bag(tmp_path_factory.mktemp("fuzz") / "bag", frames=3, size=(28, 21),
                      storage=request.param)
    file = next(f for f in folder.iterdir() if f.suffix in (".mcap", ".db3"))
    if request.param == "sqlite3":   # one file, no write-ahead log
        sqlite3.connect(file).execute("pragma journal_mode=delete").connection.close()
    return file, file.read_bytes(), folder / "metadata.yaml"


def read(path):
    """Read all there is: the refusal's text ("" where there is none) and the messages before it."""
    return bounded(_read, path)


def _read(path):
    number = 0
    try:
        with Bag(path) as bag:
            for record in bag.records():
                bag.deserialize(record)
                number += 1
        return "", number
    except BagError as error:
        assert str(path) in str(error)
        return str(error), number


@FUZZ
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)),
                        min_size=1, max_size=5), alone=st.booleans())
def test_a_bag_with_altered_bytes_is_read_or_refused(whole, changes, alone):
    file, data, _ = whole
    altered = bytearray(data)
    for place, new in changes:
        start = int(place * len(data))
        altered[start:start + len(new)] = new
    file.write_bytes(altered)
    read(file if alone else file.parent)
    file.write_bytes(data)


@FUZZ
@given(share=st.floats(0, 0.99), alone=st.booleans())
def test_a_bag_that_is_cut_off_is_refused(whole, share, alone):
    file, data, _ = whole
    file.write_bytes(data[:int(share * len(data))])
    text, number = read(file if alone else file.parent)
    assert text or number == 3 * 4   # the end of a database may hold nothing but an index
    file.write_bytes(data)


@FUZZ
@given(text=st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_anything_in_place_of_the_metadata_is_refused(whole, text):
    file, _, metadata = whole
    good = metadata.read_bytes()
    metadata.write_text(text, encoding="utf-8", newline="")
    try:
        assert read(file.parent)[0]
    finally:
        metadata.write_bytes(good)


def test_metadata_that_runs_python_or_names_files_elsewhere_is_refused(whole, tmp_path):
    file, _, metadata = whole
    good = metadata.read_text()
    mark = tmp_path / "mark"
    elsewhere = tmp_path / f"elsewhere{file.suffix}"
    elsewhere.write_bytes(b"not a bag")
    for text in (f"!!python/object/apply:os.mkdir ['{mark}']", good.replace(file.name, str(elsewhere)),
                 good.replace(file.name, "../../../../etc/passwd")):
        metadata.write_text(text)
        try:
            assert read(file.parent)[0]
        finally:
            metadata.write_text(good)
    assert not mark.exists() and read(file.parent) == ("", 3 * 4)
