# SPDX-License-Identifier: MIT
"""What the launch files compute: parameters from camera arguments, and an RViz configuration for these."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import yaml

NODE, CAMERA = "/detector", "front"   # whose topics rviz/detector.rviz shows


def parse_cameras(text: str) -> dict[str, str]:
    """`front, rear=/rear/image_raw/compressed` → {"front": "", "rear": "/rear/image_raw/compressed"}.

    Raises ValueError for an empty list, an empty name or a name that comes twice.
    """
    cameras: dict[str, str] = {}
    for item in text.split(","):
        name, _, topic = (part.strip() for part in item.partition("="))
        if not name or name in cameras:
            raise ValueError(f"cameras is {text!r}: give NAME or NAME=TOPIC, comma separated, each name once")
        cameras[name] = topic
    return cameras


def camera_parameters(cameras: Mapping[str, str]) -> dict[str, object]:
    """The node's parameters; a camera without a topic keeps the default or the params file's."""
    return {"cameras": list(cameras),
            **{f"{name}.image_topic": topic for name, topic in cameras.items() if topic}}


def render_rviz(text: str, namespace: str, cameras: Sequence[str]) -> str:
    """The RViz configuration of `/detector` and `front` for a node in `namespace` with these cameras.

    Every display of a topic of the camera `front` is repeated for each camera; the first camera's are enabled
    as in the original, the others' are switched off, so that their topics cost nothing until somebody looks.
    """
    config = yaml.safe_load(text)
    manager = config["Visualization Manager"]
    prefix = "/".join(part for part in ("", *namespace.strip("/").split("/")) if part)
    prefix = f"/{prefix}" if prefix else ""
    displays = []
    for display in manager["Displays"]:
        topic = display.get("Topic", {}).get("Value", "")
        if not topic.startswith(f"{NODE}/{CAMERA}/"):
            displays.append(display)
            continue
        for number, camera in enumerate(cameras):
            new = copy.deepcopy(display)
            new["Topic"]["Value"] = f"{prefix}{NODE}/{camera}/{topic.removeprefix(f'{NODE}/{CAMERA}/')}"
            new["Name"] = display["Name"].replace(CAMERA, camera)
            if number:
                new["Enabled"] = new["Value"] = False
            displays.append(new)
    manager["Displays"] = displays
    return yaml.safe_dump(config, sort_keys=False)
