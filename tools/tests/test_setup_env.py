# SPDX-License-Identifier: MIT
"""What the set-up says on machines it cannot work on, and how it runs its steps."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import setup_env

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(3, 6), (3, 8), (3, 9), (3, 14), (4, 0)])
def test_an_unsupported_python_is_named_with_the_remedy(version):
    with pytest.raises(
        setup_env.SetupError, match=rf"{version[0]}\.{version[1]} .*3\.10 to 3\.13[^$]*PYTHON="
    ):
        setup_env.check_python(version)


@pytest.mark.parametrize("minor", range(10, 14))
def test_supported_pythons_pass(minor):
    setup_env.check_python((3, minor))


def test_pypy_is_refused():
    with pytest.raises(setup_env.SetupError, match="PyPy 3.11"):
        setup_env.check_python((3, 11), "PyPy")


@pytest.mark.parametrize("system, machine", [("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")])
def test_another_system_or_processor_is_refused(system, machine):
    with pytest.raises(setup_env.SetupError, match=f"{system} on {machine}"):
        setup_env.check_platform(system, machine)


def test_an_environment_without_pip_is_made_anew_and_one_of_another_python_is_told(tmp_path, monkeypatch):
    """Where python3-venv is missing, venv leaves a folder with an interpreter and no pip."""
    venv = tmp_path / ".venv"
    for name, path in (("ROOT", tmp_path), ("VENV", venv), ("STAMPS", venv / "stamps"), ("LOGS", tmp_path)):
        monkeypatch.setattr(setup_env, name, path)
    monkeypatch.setattr(setup_env, "PYTHON", venv / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    assert setup_env.make_venv() == "made"
    assert setup_env.make_venv().startswith("there")
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 10, 0))
    assert f"for Python 3.10 remove {venv} first" in setup_env.make_venv()


def test_a_full_disk_is_refused_with_the_remedy():
    with pytest.raises(setup_env.SetupError, match="3.0 GB are free .* 4 GB are needed"):
        setup_env.check_space(3.0, setup_env.CPU_INDEX)
    with pytest.raises(setup_env.SetupError, match="12 GB are needed.*TORCH_INDEX="):
        setup_env.check_space(11.0, "")
    setup_env.check_space(5.0, setup_env.CPU_INDEX)
    setup_env.check_space(13.0, "")


def test_the_script_parses_on_pythons_too_old_for_the_rest():
    ast.parse((ROOT / "tools" / "setup_env.py").read_text(), feature_version=(3, 6))


def test_a_failing_command_shows_its_last_words_its_log_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "LOGS", tmp_path / "logs")
    command = [
        sys.executable,
        "-c",
        "print('WARNING: Location x'); print('no such wheel'); raise SystemExit(3)",
    ]
    with pytest.raises(setup_env.SetupError) as caught:
        setup_env.run("step", command, {}, "Check the network.", tmp_path)
    text = str(caught.value)
    assert "status 3" in text and "no such wheel" in text and "logs/step.log" in text
    assert "Check the network." in text and "WARNING: Location x'" not in text.splitlines()[-3:]


def test_a_long_step_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup_env, "LOGS", tmp_path)
    monkeypatch.setattr(setup_env, "PROGRESS_S", 0.2)
    code = "import time; print('Collecting torch', flush=True); time.sleep(1)"
    setup_env.run("step", [sys.executable, "-c", code], {}, "", tmp_path)
    assert "Collecting torch" in capsys.readouterr().out


def test_a_foreign_ros_does_not_reach_the_steps(monkeypatch):
    monkeypatch.setenv("PATH", "/opt/ros/jazzy/bin:/usr/bin")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/jazzy/lib/python3.12/site-packages")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/ros/jazzy/lib:/usr/lib/cuda")
    env = setup_env.environment({"X": "1"})
    assert not [name for name, value in env.items() if "/opt/ros" in value and name != "ROS_ROOT"]
    assert env["LD_LIBRARY_PATH"] == "/usr/lib/cuda" and env["X"] == "1"
    assert env["PATH"].split(os.pathsep) == [str(setup_env.VENV / "bin"), "/usr/bin"]


def test_a_step_is_skipped_exactly_while_its_stamp_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, "STAMPS", tmp_path / "stamps")
    assert setup_env.stamp("pip") is None
    setup_env.write_stamp("pip", setup_env.digest("a", "b"))
    assert setup_env.stamp("pip") == setup_env.digest("a", "b")
    assert setup_env.stamp("pip") != setup_env.digest("ab") and setup_env.stamp("pip") != setup_env.digest(
        "a", "c"
    )


def test_env_sh_before_the_set_up_says_what_to_run(tmp_path):
    (tmp_path / "tools").mkdir()
    script = tmp_path / "tools" / "env.sh"
    script.write_text((ROOT / "tools" / "env.sh").read_text())
    done = subprocess.run(["bash", "-c", f"source {script}"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "make setup" in done.stderr


def test_make_setup_is_for_the_demo_or_what_is_named():
    for words, wanted in (([], "demo"), (["FOR=train"], "train")):
        command = ["make", "-n", "--no-print-directory", "setup", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.rstrip().endswith(f"tools/setup_env.py --for {wanted}"), done


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "demo", "test", "test-fast", "lint", "train", "clean"):
        assert f"\n{target} " in "\n" + done.stdout
