# SPDX-License-Identifier: MIT
"""The fix-up of the ROS 2 wheels on a generated environment."""

import os
from pathlib import Path

import fix_ros_paths
import pytest
from hypothesis import given
from hypothesis import strategies as st

HEADERS = 'set(_include "${_IMPORT_PREFIX}/include;/opt/python/cp%s-cp%s/include/python%s")\n'
NUMPY = 'list(APPEND dirs "/opt/python/cp%s-cp%s/lib/python%s/site-packages/numpy/_core/include")\n'


def make_tree(prefix: Path, tag: str, version: str) -> tuple[Path, Path, Path]:
    """Two files that need mending and one that does not."""
    paths = (
        prefix / "share" / "a_msgs" / "cmake" / "export_a_msgs__python.cmake",
        prefix / "lib" / "cmake" / "b" / "bConfig.cmake",
        prefix / "share" / "c" / "cmake" / "cConfig.cmake",
    )
    texts = (HEADERS % (tag, tag, version), NUMPY % (tag, tag, version) + "# π\n", "# nothing foreign\n")
    for path, text in zip(paths, texts):
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    return paths


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_foreign_headers_become_this_interpreters_and_a_second_run_changes_nothing(tmp_path, minor):
    headers, numpy, other = make_tree(tmp_path, f"3{minor}", f"3.{minor}")
    assert fix_ros_paths.fix(tmp_path, "/usr/include/python", "/venv/numpy/include") == [numpy, headers]
    assert headers.read_text() == 'set(_include "${_IMPORT_PREFIX}/include;/usr/include/python")\n'
    assert numpy.read_text(encoding="utf-8") == 'list(APPEND dirs "/venv/numpy/include")\n# π\n'
    assert other.read_text() == "# nothing foreign\n"
    assert fix_ros_paths.fix(tmp_path, "/usr/include/python", "/venv/numpy/include") == []


@given(folder=st.text(alphabet=r"ab/\1 g<>.$", min_size=1).filter(lambda s: "/opt" not in s))
def test_any_path_is_put_in_literally(tmp_path_factory, folder):
    prefix = tmp_path_factory.mktemp("tree")
    headers, *_ = make_tree(prefix, "311", "3.11")
    fix_ros_paths.fix(prefix, folder, "numpy")
    assert headers.read_text() == 'set(_include "${_IMPORT_PREFIX}/include;' + folder + '")\n'


def test_a_foreign_path_of_another_kind_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "share" / "d" / "d.cmake"
    path.parent.mkdir(parents=True)
    path.write_text('set(x "/opt/python/cp311-cp311/bin/python3")')
    with pytest.raises(ValueError, match=r"d\.cmake names '/opt/python/cp311-cp311/bin/python3"):
        fix_ros_paths.fix(tmp_path, "a", "b")


def test_files_shared_with_a_package_cache_stay_as_they_are(tmp_path):
    headers, *_ = make_tree(tmp_path / "venv", "311", "3.11")
    cached = tmp_path / "cached.cmake"
    os.link(headers, cached)
    fix_ros_paths.fix(tmp_path / "venv", "a", "b")
    assert "/opt/python" in cached.read_text() and "/opt/python" not in headers.read_text()


def test_the_environment_that_runs_this_is_mended():
    import sys

    files = fix_ros_paths.cmake_files(Path(sys.prefix))
    if not files:
        pytest.skip("ROS 2 does not come from wheels here")
    assert not [path for path in files if fix_ros_paths.FOREIGN in path.read_text(errors="replace")]
