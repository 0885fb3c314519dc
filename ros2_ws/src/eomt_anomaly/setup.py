# SPDX-License-Identifier: MIT
"""Build of the ROS package. Refuses to build one without launch, RViz, configuration or checkpoint files."""
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "eomt_anomaly"
CHECKPOINT = f"{NAME}/checkpoints/default"
# `launch` and `rviz` are links to the repository's folders: in a copy of this one alone they lead nowhere.
NEEDED = [
    "launch/detector.launch.py",
    "launch/replay.launch.py",
    "rviz/detector.rviz",
    "config/detector.yaml",
    "config/fastdds_shm.xml",
    f"{CHECKPOINT}/config.json",
    f"{CHECKPOINT}/calibration.json",
    f"{CHECKPOINT}/model.safetensors",
]

missing = [path for path in NEEDED if not Path(path).is_file()]
if missing:
    raise SystemExit(
        f"error: {NAME} cannot be built without {', '.join(missing)} (looked in {Path.cwd()}).\n"
        "Build it inside a whole clone of the repository; `launch` and `rviz` are links to its folders, "
        "so copy with `cp -rL` if you copy it elsewhere."
    )

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["checkpoints/default/*", "report/*.css"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/config", sorted(glob("config/*"))),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/rviz", sorted(glob("rviz/*.rviz"))),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},  # without this, `colcon test` runs no test and is green
    zip_safe=False,
    maintainer="eomt_anomaly maintainers",
    maintainer_email="maintainers@eomt-anomaly.org",
    description="Semantic masks, anomaly heatmaps and obstacle alerts from camera topics.",
    license="MIT",
    entry_points={
        "console_scripts": [
            f"{name} = {NAME}.ros.{name}:main" for name in ("detector", "bag_player", "bag_benchmark", "demo")
        ],
    },
)
