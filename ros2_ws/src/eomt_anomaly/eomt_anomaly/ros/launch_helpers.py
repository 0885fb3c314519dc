# SPDX-License-Identifier: MIT
"""What the launch files compute: the cameras, their parameters, and an RViz configuration for them."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from .bag_io import Bag  # needs rosbags, which a detector alone does not

NODE, CAMERA = "/detector", "front"   # whose topics rviz/detector.rviz shows


def parse_cameras(text: str) -> dict[str, str]:
    """`front, rear=/rear/image_raw/compressed` → {"front": "", "rear": "/rear/image_raw/compressed"}.

    An empty text names no camera. Raises ValueError for an empty name or a name that comes twice.
    """
    cameras: dict[str, str] = {}
    for name, topic in _named(text):
        if not name or name in cameras:
            raise ValueError(f"cameras is {text!r}: give NAME or NAME=TOPIC, comma separated, each name once")
        cameras[name] = topic
    return cameras


def _named(text: str) -> list[tuple[str, str]]:
    """`a=1, b` → [("a", "1"), ("b", "")]; an empty text has none."""
    parts = (item.partition("=") for item in text.split(",")) if text.strip() else ()
    return [(name.strip(), value.strip()) for name, _, value in parts]


def parse_mounting(text: str) -> dict[str, object]:
    """`front=1.4/3, rear=1.1` → {"front.height_m": 1.4, "front.pitch_deg": 3.0, "rear.height_m": 1.1}.

    An empty text says nothing. Raises ValueError for what is no NAME=HEIGHT or NAME=HEIGHT/PITCH.
    """
    parameters: dict[str, object] = {}
    for name, numbers in _named(text):
        try:
            values = [float(number) for number in numbers.split("/")]
        except ValueError:
            values = []
        if not name or len(values) not in (1, 2) or not all(map(math.isfinite, values)):
            raise ValueError(f"mounting is {text!r}: give NAME=HEIGHT or NAME=HEIGHT/PITCH (m, degrees), "
                             "comma separated")
        parameters |= {f"{name}.{key}": value for key, value in zip(("height_m", "pitch_deg"), values)}
    return parameters


def bag_mounting(bag: Bag, cameras: Mapping[str, str], given: str = "") -> str:
    """Where the cameras (name → topic) sit, for `parse_mounting`: as `given`, or by the bag's /tf_static.

    Raises ValueError for a camera with an absolute topic that the bag does not have.
    """
    from .ground_truth import mounting

    absent = [topic for topic in cameras.values() if topic.startswith("/") and topic not in bag.topics]
    if absent:
        raise ValueError(f"{bag.path} has no topic {', '.join(absent)}: give cameras:=NAME=TOPIC with one "
                         f"of\n{bag.listing(bag.image_topics()) or '  none, as it has no pictures'}")
    places = {} if given else {name: mounting(bag, bag.topics[topic]) for name, topic in cameras.items()
                               if topic in bag.topics}
    return given or ", ".join(f"{name}={place[0]:.4f}/{math.degrees(place[1]):.3f}"
                              for name, place in places.items() if place and place[0] > 0)


def bag_remaps(bag: Bag, cameras: Mapping[str, str]) -> dict[str, str]:
    """Recorded topic → the one to play it on, where compressed pictures' name does not tell that they are."""
    from .bag_cameras import Camera

    played = {topic: Camera(name, bag.topics[topic], None).published_as for name, topic in cameras.items()
              if topic in bag.topics}
    return {recorded: name for recorded, name in played.items() if name != recorded}


def camera_parameters(cameras: Mapping[str, str]) -> dict[str, object]:
    """The node's parameters; without cameras, and of a camera without a topic, the params file's stand."""
    return {**({"cameras": list(cameras)} if cameras else {}),
            **{f"{name}.image_topic": topic for name, topic in cameras.items() if topic}}


def node_parameters(given: Mapping[str, str]) -> dict[str, object]:
    """What the arguments of detector.launch.py set; where one is empty, the params file's word stands."""
    parameters = camera_parameters(parse_cameras(given["cameras"])) | parse_mounting(given["mounting"])
    if given["use_sim_time"]:
        parameters["use_sim_time"] = is_true(given, "use_sim_time")
    if given["short_side"]:
        if not given["short_side"].isdecimal():
            raise ValueError(f"short_side is {given['short_side']!r}: give a whole number of px")
        parameters["short_side"] = int(given["short_side"])
    return parameters | {name: given[name] for name in ("checkpoint", "backbone", "device", "backend")
                         if given[name]}


def parameter_file(given: Mapping[str, str]) -> str:
    """The file of `params_file`, `~` expanded.

    Raises ValueError where there is none: launch would only warn, and the node watch with its defaults.
    """
    file = Path(given["params_file"]).expanduser()
    if not file.is_file():
        raise ValueError(f"params_file is {given['params_file']!r}, which is no file: give the path of a "
                         "YAML file of parameters (in a container: its path there), or leave it out")
    return str(file)


def is_true(given: Mapping[str, str], name: str) -> bool:
    """Whether a launch argument says true. Raises ValueError for what says neither true nor false."""
    if (word := given[name].lower()) not in ("true", "1", "false", "0"):
        raise ValueError(f"{name} is {given[name]!r}: give true or false")
    return word in ("true", "1")


def full_name(namespace: str) -> str:
    """The detector's full name: "robot" → "/robot/detector"."""
    return "/".join(["", *filter(None, namespace.split("/")), NODE.lstrip("/")])


def file_value(text: str, node: str, name: str, default: Any) -> Any:
    """What a parameter file (its text) says of the parameter `name` of the node `node` (its full name).

    As in ROS, `*` stands for one part of the name and `**` for any number, and the last entry wins.
    """
    found = default

    def visit(tree: Mapping, entry: str) -> None:
        nonlocal found
        for key, value in tree.items():
            if key == "ros__parameters":
                pattern = entry.replace("/**", r"(/\w+)*").replace("/*", r"/\w+")
                if re.fullmatch(pattern, node):
                    found = (value or {}).get(name, found)
            elif isinstance(value, Mapping):
                visit(value, f"{entry}/{key.strip('/')}")

    visit(yaml.safe_load(text) or {}, "")
    return found


def render_rviz(text: str, namespace: str, cameras: Sequence[str]) -> str:
    """The RViz configuration of `/detector` and `front` for a node in `namespace` with these cameras.

    Every display of a topic of the camera `front` is repeated for each camera; the first camera's are enabled
    as in the original, the others' are switched off, so that their topics cost nothing until somebody looks.
    """
    config = yaml.safe_load(text)
    manager = config["Visualization Manager"]
    displays, node = [], full_name(namespace)
    for display in manager["Displays"]:
        topic = display.get("Topic", {}).get("Value", "")
        if not topic.startswith(f"{NODE}/{CAMERA}/"):
            displays.append(display)
            continue
        for number, camera in enumerate(cameras):
            new = copy.deepcopy(display)
            new["Topic"]["Value"] = f"{node}/{camera}/{topic.removeprefix(f'{NODE}/{CAMERA}/')}"
            new["Name"] = display["Name"].replace(CAMERA, camera)
            if number:
                new["Enabled"] = new["Value"] = False
            displays.append(new)
    manager["Displays"] = displays
    return yaml.safe_dump(config, sort_keys=False)
