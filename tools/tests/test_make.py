# SPDX-License-Identifier: MIT
"""What `make` asks for: the tests in two processes, `make bench` with labelled frames, and `make bench-gpu`,
which needs a GPU: every case is asked for, and one that fails costs no other."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from eomt_anomaly.model.checkpoint import read_config
from eomt_anomaly.runtime import bench

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/bash\necho "$*"\n[[ "$*" != *"--model large"* ]]\n')
    stand_in.chmod(0o755)

    def run(*variables, target="bench-gpu"):
        call = ["make", "-s", target, "SETUP=@true", "ENTER=true", *variables]
        of_outside = "ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"  # of `make test ARGS=...`
        env = {name: value for name, value in os.environ.items() if name not in of_outside}
        env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
        return subprocess.run(call, cwd=ROOT, env=env, timeout=60, capture_output=True, text=True)

    return run


def test_tests_run_in_two_processes_and_arguments_take_their_place(make):
    assert make(target="test").stdout == "-m pytest -n 2 --dist loadfile\n"
    assert make("ARGS=-x a.py", target="test").stdout == "-m pytest -x a.py\n"


def test_every_case_runs_and_those_that_fail_are_named(make):
    done = make()
    for words in ("--model small --image 640 640 --side 640 --output out/bench-gpu/small-640",
                  "--model large --image 1024 1024 --side 1024", "eomt_anomaly.runtime.scaling --device cuda",
                  "report.scaling_page", "it needs CAMVID=folder"):  # fmt: skip
        assert words in done.stdout
    assert done.returncode and "failed: large-640 large-1024\n" in done.stdout


def test_some_cases_on_data_of_ones_own(make):
    done = make("CASES=base-640 approximations", "CAMVID=some where", "STAMPS=stamps", "ARGS=--frames 9")
    assert done.returncode == 0, done.stderr
    assert "out/bench-gpu/base-640 --frames 9" in done.stdout and "small" not in done.stdout
    assert "approximations.py --device cuda --data camvid --root some where --stamps stamps" in done.stdout


def test_bench_measures_labelled_frames_where_they_are_named(make):
    assert make(target="bench").stdout == "-m eomt_anomaly.runtime.bench --output out/bench\n"
    done = make("CAMVID=some where", "STAMPS=stamps", "ARGS=--checkpoint c --output x", target="bench")
    first, second = done.stdout.splitlines()
    assert first.endswith("--checkpoint c --output x --output out/bench")  # where the second looks for it
    assert second.startswith("training/bench_labelled.py --bench out/bench --root some where --stamps stamps")
    args = bench.arguments(make("CAMVID=c", target="bench").stdout.splitlines()[0].split()[2:])
    assert read_config(ROOT / args.checkpoint)[0].image_size == args.side
    done = make("CAMVID=c", "ARGS=--model large", target="bench")
    assert done.returncode and "bench_labelled" not in done.stdout
