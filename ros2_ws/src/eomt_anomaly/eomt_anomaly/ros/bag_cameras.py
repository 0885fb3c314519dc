# SPDX-License-Identifier: MIT
"""Which topics of a bag feed which cameras of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bag_io import COMPRESSED, Bag, BagError, Topic
from .parameters import is_name

ALL = "all"
ONE = "front"  # the name of a bag's only camera


@dataclass(frozen=True)
class Camera:
    """One camera of the detector: its name there, the bag's topic of its pictures and of its CameraInfo."""

    name: str
    topic: Topic
    info: Topic | None

    @property
    def published_as(self) -> str:
        """The topic on which its pictures are replayed: compressed ones need /compressed at its end."""
        name = self.topic.name
        if self.topic.msgtype == COMPRESSED and not name.endswith("/compressed"):
            return name + "/compressed"
        return name


def cameras_of(bag: Bag, topics: Sequence[str], names: Sequence[str], several: bool) -> tuple[Camera, ...]:
    """The cameras on these topics; [] is the bag's only one, ["all"] every one where there may be `several`.

    `names` are theirs in the same order; [] leaves it to `names_of`. Raises BagError, which says what to do.
    """
    if several and list(topics) == [ALL]:
        chosen = [topic for topic in bag.image_topics() if topic.count] or [bag.choose_image_topic()]
    else:
        chosen = [bag.choose_image_topic(name) for name in topics or (None,)]
    names = names or names_of(chosen)
    if len(names) != len(chosen):
        raise BagError(
            f"--cameras gives {len(names)} names ({', '.join(names)}) for {len(chosen)} topics: name each of "
            f"{', '.join(topic.name for topic in chosen)}, or leave --cameras out"
        )
    if wrong := [name for name in names if not is_name(name) or names.count(name) > 1]:
        raise BagError(
            f"--cameras gives {wrong[0]!r}: give each camera a name of its own, of letters, digits and "
            "underscores, beginning with a letter, and not engine or memory"
        )
    cameras = [
        Camera(name, topic, bag.camera_info_of(topic.name)) for name, topic in zip(names, chosen)
    ]
    first: dict[str, Camera] = {}
    for camera in cameras:
        if (other := first.setdefault(camera.published_as, camera)) is not camera:
            raise BagError(
                f"{other.topic.name} and {camera.topic.name} are both replayed as {camera.published_as}: "
                "leave one of them out (--topics)"
            )
    return tuple(cameras)


def names_of(topics: Sequence[Topic]) -> list[str]:
    """What tells the topics apart, as names: /rig/left/image_raw and /rig/right/… are left and right.

    One topic alone is `front`; camera1, camera2, … where the topics give no names.
    """
    if len(topics) == 1:
        return [ONE]
    parts = [[p for p in topic.name.split("/") if p and p != "compressed"] for topic in topics]
    shared = set.intersection(*map(set, parts))
    names = ["_".join(part for part in each if part not in shared) for each in parts]
    if all(map(is_name, names)) and len(set(names)) == len(names):
        return names
    return [f"camera{number}" for number in range(1, len(topics) + 1)]


def truths_of(bag: Bag, cameras: Sequence[Camera]) -> tuple[dict[str, Topic], list[str]]:
    """The label topic of each camera that has one, by its name, and notes on those that cannot be told."""
    found = {camera.name: bag.ground_truth_of(camera.topic.name) for camera in cameras}
    truths, notes = {}, []
    for name, topic in found.items():
        if topic is None:
            continue
        if list(found.values()).count(topic) == 1:
            truths[name] = topic
        else:
            notes.append(
                f"{name}: quality is not known, as {topic.name} lies beside or above the pictures of several "
                "cameras (--topics with the one that it belongs to)."
            )
    return truths, notes
