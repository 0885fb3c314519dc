# SPDX-License-Identifier: MIT
"""Every parameter of the node: its default, range, meaning, and when it may change.

`python -m eomt_anomaly.ros.parameters` prints the tables of the README.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from ..alerts import RANGES, Corridor, MonitorParams
from ..alerts.corridor import MODES
from ..alerts.params import WHOLE

START, CONFIGURE, LIVE = "at start", "while unconfigured", "at any time"


@dataclass(frozen=True)
class Spec:
    """One parameter. `low` and `high` (included) bound numbers, `choices` strings; `when` it may change."""

    name: str
    default: Any
    meaning: str
    low: float | None = None
    high: float = math.inf
    choices: tuple[str, ...] = ()
    when: str = CONFIGURE

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor that ROS shows and from which it enforces the range."""
        descriptor = ParameterDescriptor(name=self.name, description=self.meaning,
                                         read_only=self.when == START)
        descriptor.additional_constraints = f"may change {self.when}" + (
            f"; one of: {', '.join(self.choices)}" if self.choices else "")
        if self.low is not None and isinstance(self.default, float):
            bounds = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            descriptor.floating_point_range = [bounds]
        elif self.low is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high),
                                                     step=1)]
        return descriptor

    def problem(self, value: Any) -> str:
        """Why `value` is not allowed, or "". Ranges are checked here too: ROS lets NaN pass."""
        if self.choices and value not in self.choices:
            return f"{self.name} is {value!r}: choose one of {', '.join(self.choices)}"
        if self.low is not None and not (math.isfinite(value) and self.low <= value <= self.high):
            return f"{self.name} is {value!r}: give a number in [{self.low:g}, {self.high:g}]"
        return ""


GENERAL = (
    Spec("cameras", ["front"], "names of the cameras; each has its own parameters `NAME.…` and topics",
         when=START),
    Spec("autostart", True, "configure and activate by itself; after a failure again and again", when=START),
    Spec("checkpoint", "", "checkpoint folder; empty: the one inside the package"),
    Spec("backbone", "", "file or folder of the frozen backbone's weights; empty: where the checkpoint says"),
    Spec("device", "auto", "where the network runs: auto, cpu, cuda, cuda:0, …"),
    Spec("precision", "auto", "arithmetic of the network", choices=("auto", "fp32", "bf16", "fp16", "exact")),
    Spec("backend", "torch", "what runs the network; onnxruntime and openvino take a checkpoint that "
         "training/export.py wrote; auto measures at the start which is fastest on it",
         choices=("auto", "torch", "onnxruntime", "openvino")),
    Spec("short_side", 0, "short side, px, to which images are scaled for the network; 0: the checkpoint's",
         0, 4096),
    Spec("threads", 0, "threads of the network on a CPU; 0: torch's choice", 0, 256),
    Spec("compile", False, "torch.compile the network: a minute or so at configuration; needs warmup_size"),
    Spec("cuda_graphs", True, "on CUDA, replay a graph for each size and number of pictures that comes "
         "again"),
    Spec("gpu_jpeg", False, "on CUDA, decode baseline JPEG there by nvJPEG; what that does to quality is not "
         "measured. Without torchvision, the CPU decodes (told in the log and in /diagnostics)"),
    Spec("oom_fallback", True, "when memory runs out, lower the resolution and then leave the GPU (told in "
         "/diagnostics); otherwise stay UNKNOWN"),
    Spec("oom_retry_s", 300.0, "s without want of memory after which the next larger engine is tried "
         "(UNKNOWN while it is built); doubled after each try that fails; 0.0: never", 0.0, 86400.0),
    Spec("threshold", -1.0, "anomaly in (0, 1) from which a pixel counts; -1.0: as calibrated",
         -1.0, 1.0, when=LIVE),
    Spec("drivable_labels", [""], "class names of the surface to drive on; [\"\"] or []: the checkpoint's",
         when=LIVE),
    Spec("second_look", True, "before something new raises an alert, the network looks at it again at "
         "another scale, and both looks are averaged: fewer false alerts", when=LIVE),
    Spec("max_age", 0.5, "s; frames older than this are dropped before inference", 0.01, 60.0, when=LIVE),
    Spec("stale_timeout", 1.0, "s; a judgement of an older frame is worth UNKNOWN", 0.05, 120.0, when=LIVE),
    Spec("frozen_timeout", 2.0, "s; pictures that do not change in a single byte for so long are a frozen "
         "camera's, and worth UNKNOWN; 0.0: never (a simulator without noise, a still picture)", 0.0,
         3600.0, when=LIVE),
    Spec("batch_window", 0.005, "s to wait for other cameras once a frame is there (on CUDA)", 0.0, 1.0,
         when=LIVE),
    Spec("max_batch", 4, "most frames in one pass of the network, on CUDA; a CPU takes them one by one", 1,
         32, when=LIVE),
    Spec("stall_timeout", 2.0, "s on one batch after which alerts say STALLED_WORKER", 0.1, 600.0, when=LIVE),
    Spec("worker_timeout", 60.0, "s on one batch, or on one call in the executor, after which the process "
         "ends with an error, to be restarted", 1.0, 3600.0, when=LIVE),
    Spec("build_timeout", 600.0, "s of building the engine, or again, after which the process ends with an "
         "error, to be restarted", 1.0, 7200.0, when=LIVE),
    Spec("heartbeat_rate", 10.0, "Hz; alerts come at least this often, and /diagnostics every second",
         1.0, 100.0, when=START),
    Spec("overlay_rate", 10.0, "Hz; most overlays and coloured masks a camera; 0.0: one for every frame",
         0.0, 1000.0, when=LIVE),
    Spec("overlay_alpha", 0.35, "weight of the class colours in the overlay", 0.0, 1.0, when=LIVE),
)

CORRIDOR = (
    Spec("corridor.mode", "auto", "corridor on the ground (metres, needs camera_info, height), in the image "
         "(polygon), or auto: the ground where it can", choices=MODES, when=LIVE),
    Spec("corridor.half_width_m", Corridor.half_width_m, "m; half the corridor's width", 0.01, 50.0,
         when=LIVE),
    Spec("corridor.length_m", Corridor.length_m, "m; how far ahead of the camera it reaches", 0.01, 500.0,
         when=LIVE),
    Spec("corridor.polygon", [float(x) for corner in Corridor.polygon for x in corner],
         "u0, v0, u1, v1, … relative to the image's width and height", when=LIVE),
)

MONITOR = tuple(
    Spec(f"monitor.{name}", (int if name in WHOLE else float)(getattr(MonitorParams, name)), meaning,
         low, high, when=LIVE)
    for name, (low, high, meaning) in RANGES.items() if name != "threshold")


def camera_specs(camera: str) -> tuple[Spec, ...]:
    """The parameters of one camera."""
    return (
        Spec(f"{camera}.image_topic", f"{camera}/image_raw",
             "topic of the pictures; relative to the namespace"),
        Spec(f"{camera}.transport", "auto",
             "kind of messages; auto: compressed if the topic's name ends in /compressed; compressed: as in "
             "image_transport, /compressed is added to a name that does not",
             choices=("auto", "raw", "compressed")),
        Spec(f"{camera}.camera_info_topic", "",
             "topic of the calibration; empty: camera_info beside the pictures"),
        Spec(f"{camera}.rectified", False, "the pictures are rectified: use P, not K and D", when=LIVE),
        Spec(f"{camera}.height_m", 0.0, "m above the ground; 0.0: unknown, alerts then carry no position",
             0.0, 100.0, when=LIVE),
        Spec(f"{camera}.pitch_deg", 0.0, "degrees the camera looks down", -90.0, 90.0, when=LIVE),
        Spec(f"{camera}.ignore_mask", "",
             "picture file of the camera's size, white where the vehicle itself is seen"),
        Spec(f"{camera}.warmup_size", [0, 0],
             "width, height, px, to warm up for; [0, 0]: the first frame is slower"),
    )


def all_specs(cameras: Iterable[str]) -> dict[str, Spec]:
    """Every parameter of a node with these cameras, by name."""
    specs = GENERAL + CORRIDOR + MONITOR + tuple(spec for camera in cameras for spec in camera_specs(camera))
    return {spec.name: spec for spec in specs}


class Parameters:
    """Declares the parameters on a node, refuses what is wrong, and answers with the values in force."""

    def __init__(self, node: Node):
        """Raises ValueError for wrong names or start values, and what rclpy raises for types and ranges."""
        self._node = node
        names = next(spec for spec in GENERAL if spec.name == "cameras")
        self.cameras = list(self._declare(names))
        distinct = len(set(self.cameras)) == len(self.cameras) > 0
        if not distinct or not all(map(is_name, self.cameras)):
            raise ValueError(f"cameras is {self.cameras}: give at least one name, each once, of letters, "
                             "digits and underscores, beginning with a letter, and not engine or memory")
        self.specs = all_specs(self.cameras)
        for spec in self.specs.values():
            if spec is not names:
                self._declare(spec)
        if why := self.refusal([node.get_parameter(name) for name in self.specs], configured=False):
            raise ValueError(why)

    def _declare(self, spec: Spec) -> Any:
        """Declare one; return its value. An empty list in a file is of no type in ROS, and so no value."""
        value = self._node.declare_parameter(spec.name, spec.default, spec.descriptor()).value
        if value is None and spec.name == "drivable_labels":
            value = spec.default
            self._node.set_parameters([Parameter(spec.name, value=value)])
        elif value is None:
            raise ValueError(f"{spec.name} is an empty list: give one such as {spec.default}, or leave it "
                             "out")
        return value

    def __getitem__(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def unknown(self) -> list[str]:
        """Names given at the start that the node does not have, each with the name that may be meant.

        A camera's block that only repeats defaults is none: the installed parameter file has one of `front`.
        """
        names = []
        for name, parameter in self._node._parameter_overrides.items():   # rclpy has no public way
            defaults = {spec.name: spec.default for spec in camera_specs(name.partition(".")[0])}
            if not (self._node.has_parameter(name) or name.startswith("qos_overrides.")
                    or parameter.value == defaults.get(name)):
                meant = get_close_matches(name, self.specs, n=1, cutoff=0.9)
                names.append(f"{name} ({meant[0]}?)" if meant else name)
        return sorted(names)

    def refusal(self, changes: list[Parameter], configured: bool) -> str:
        """Why these changes cannot be made together, or ""."""
        new = {change.name: change.value for change in changes}
        for name, value in new.items():
            spec = self.specs.get(name)
            if spec is None:
                continue
            if configured and spec.when == CONFIGURE:
                return f"{name} may change only while the node is unconfigured: clean it up first"
            if why := spec.problem(value):
                return why
        try:
            self._check_together(new)
        except ValueError as error:
            return str(error)
        return ""

    def monitor(self, drivable_ids: Iterable[int], threshold: float,
                new: dict[str, Any] | None = None, grid: int = 0) -> MonitorParams:
        """The Monitor's parameters, with `new` values in place of those in force. Raises ValueError."""
        new = new or {}

        def value(name: str) -> Any:
            return new[name] if name in new else self[name]

        corners = list(value("corridor.polygon"))
        if len(corners) % 2:
            raise ValueError(f"corridor.polygon has {len(corners)} numbers: give pairs u, v")
        corridor = Corridor(
            mode=value("corridor.mode"), half_width_m=value("corridor.half_width_m"),
            length_m=value("corridor.length_m"), polygon=tuple(zip(corners[::2], corners[1::2])))
        rest = {spec.name.removeprefix("monitor."): value(spec.name) for spec in MONITOR}
        return MonitorParams(drivable_ids=tuple(drivable_ids), threshold=threshold, grid=grid,
                             corridor=corridor, **rest)

    def _check_together(self, new: dict[str, Any]) -> None:
        threshold = new.get("threshold", -1.0)
        if not (threshold == -1.0 or 0.0 < threshold < 1.0):
            raise ValueError(f"threshold is {threshold:g}: give a number in (0, 1), or -1.0 (calibrated)")
        self.monitor((0,), 0.5, new)   # ids and threshold are checked when the checkpoint is known
        for name, value in new.items():
            if name.endswith(".warmup_size") and (len(value) != 2 or min(value) < 0 or max(value) > 16384):
                raise ValueError(f"{name} is {list(value)}: give width and height in pixels, or [0, 0]")
            if name.endswith("_topic") and name in self.specs and value != self.specs[name].default:
                try:
                    validate_topic_name(value.rstrip("/"))
                except InvalidTopicNameException as error:
                    raise ValueError(f"{name}: {error}") from error   # it shows the name and the place in it


def is_name(text: str) -> bool:
    """May a camera be called so?"""
    plain = text.isidentifier() and text.isascii() and not text.startswith("_")
    return plain and text not in ("engine", "memory")   # of /diagnostics, which names each camera too


def markdown() -> str:
    """The tables of the README."""
    lines = []
    for title, specs in (("General", GENERAL), ("Corridor", CORRIDOR), ("Monitor", MONITOR),
                         ("For each camera `CAM`", camera_specs("CAM"))):
        lines += [f"### {title}", "", "| parameter | default | range | may change | meaning |",
                  "|---|---|---|---|---|"]
        for spec in specs:
            bounds = f"{spec.low:g} … {spec.high:g}" if spec.low is not None else ", ".join(spec.choices)
            default = f"`{spec.default!r}`".replace("'", '"')
            lines.append(f"| `{spec.name}` | {default} | {bounds} | {spec.when} | {spec.meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
