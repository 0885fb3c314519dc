# SPDX-License-Identifier: MIT
"""Reading rosbag2 (sqlite3 or mcap, plain or zstd-compressed) as serialized messages. Imports no rclpy.

A bag flows through `Prefetch`, a reader thread with a bounded buffer: a bag that fits is wholly in memory
before a timed replay begins, a larger one streams. Every failure is a `BagError` that says what to do.
"""

from __future__ import annotations

import hashlib
import queue
import struct
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos
from rosbags.typesys import Stores, get_typestore

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (RAW, COMPRESSED)
STORAGE_SUFFIXES = (".mcap", ".db3")
REMEDY = "Recover it (`mcap recover`, or `ros2 bag reindex` for a folder) or record it again"
GROUND_TRUTH = "ground_truth"  # an image topic whose last name is this holds labels, not pictures


class BagError(ValueError):
    """The recording cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Topic:
    """One topic of a bag: type ("" for several), number of messages, recorded QoS (None if not kept)."""

    name: str
    msgtype: str
    count: int
    qos: Qos | None = None


@dataclass(frozen=True)
class Record:
    """One message: `time_ns` is when it was recorded, `data` its CDR serialization."""

    topic: str
    msgtype: str
    time_ns: int
    data: bytes


class Bag:
    """A rosbag2 recording: a folder with metadata.yaml, or a single .mcap or .db3 file.

    Use as a context manager. Raises BagError when it cannot be opened.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._opened: AnyReader | None = _open(self.path)
        self.topics = {
            name: Topic(name, info.msgtype or "", info.msgcount, _recorded_qos(info))
            for name, info in sorted(self._reader.topics.items())
        }
        empty = self._reader.message_count == 0
        self.start_ns = 0 if empty else self._reader.start_time
        self.duration_s = 0.0 if empty else self._reader.duration / 1e9

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; the bag cannot be read afterwards."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _reader(self) -> AnyReader:
        if self._opened is None:
            raise BagError(f"{self.path} was closed: open it again to read it")
        return self._opened

    def records(self, topics: Collection[str] | None = None, start_offset_s: float = 0.0) -> Iterator[Record]:
        """Messages of the given topics (None: all), from `start_offset_s` after the bag's first message on.

        Raises BagError for an unknown topic and where the file turns out to be damaged.
        """
        chosen = None if topics is None else {self.require(name).name for name in topics}
        connections = [c for c in self._reader.connections if chosen is None or c.topic in chosen]
        if not connections:
            return
        start = self.start_ns + round(start_offset_s * 1e9) if start_offset_s > 0 else None
        try:
            for connection, time_ns, data in self._reader.messages(connections, start=start):
                yield Record(connection.topic, connection.msgtype, time_ns, bytes(data))
        except (
            Exception
        ) as error:  # rosbags lets sqlite, zstd, struct and lz4 errors of damaged files through
            raise BagError(f"{self.path} is damaged: {_text(error)}. {REMEDY}") from error

    def deserialize(self, record: Record) -> Any:
        """The record as a message with the fields of its type. Raises BagError if the bytes do not fit."""
        try:
            return self._reader.deserialize(record.data, record.msgtype)
        except Exception as error:
            raise BagError(
                f"{self.path}: a message of {record.topic} is not a {record.msgtype}: {_text(error)}"
            ) from error

    def require(self, name: str) -> Topic:
        """The topic of this name. Raises BagError, which lists what there is."""
        if name not in self.topics:
            raise BagError(f"{self.path} has no topic {name}; it has:\n{self.listing()}")
        return self.topics[name]

    def image_topics(self) -> list[Topic]:
        """Topics with pictures, without the ground truth, in alphabetical order."""
        return [
            topic
            for topic in self.topics.values()
            if topic.msgtype in IMAGE_TYPES and not topic.name.endswith("/" + GROUND_TRUTH)
        ]

    def choose_image_topic(self, name: str | None = None) -> Topic:
        """The topic `name`, or the only one with pictures. Raises BagError, which lists what there is."""
        if name:
            topic = self.require(name)
            if topic.msgtype not in IMAGE_TYPES:
                raise BagError(
                    f"{name} carries {topic.msgtype}, not pictures; topics with pictures:\n"
                    f"{self.listing(self.image_topics()) or '  none'}"
                )
            chosen = topic
        else:
            images = [topic for topic in self.image_topics() if topic.count]
            if not images:
                raise BagError(
                    f"{self.path} has no topic with pictures ({RAW} or {COMPRESSED}); it has:\n"
                    f"{self.listing() or '  no topics at all'}"
                )
            if len(images) > 1:
                raise BagError(
                    f"{self.path} has {len(images)} topics with pictures; choose one (--topic NAME, "
                    "or TOPIC=NAME with make), or in bag_benchmark some (--topics NAME NAME) or all "
                    f"(--topics all):\n{self.listing(images)}"
                )
            chosen = images[0]
        if not chosen.count:
            raise BagError(f"{chosen.name} in {self.path} has no messages")
        return chosen

    def ground_truth_of(self, image_topic: str) -> Topic | None:
        """The label topic of a camera: `NAMESPACE/ground_truth` beside or above the pictures' topic."""
        parts = image_topic.split("/")
        for depth in range(len(parts) - 1, 0, -1):
            topic = self.topics.get("/".join(parts[:depth] + [GROUND_TRUTH]))
            if topic is not None and topic.msgtype in IMAGE_TYPES:
                return topic
        return None

    def camera_info_of(self, image_topic: str) -> Topic | None:
        """The CameraInfo topic beside the pictures (image_transport: also beside their parent), or None."""
        parts = image_topic.split("/")
        for depth in range(len(parts) - 1, max(len(parts) - 3, 0), -1):
            topic = self.topics.get("/".join(parts[:depth] + ["camera_info"]))
            if topic is not None and topic.msgtype == "sensor_msgs/msg/CameraInfo":
                return topic
        return None

    def listing(self, topics: Iterable[Topic] | None = None) -> str:
        """One line a topic: name, type, number of messages."""
        topics = self.topics.values() if topics is None else topics
        return "\n".join(
            f"  {topic.name}  {topic.msgtype or 'several types'}  {topic.count} messages" for topic in topics
        )

    def sha256(self) -> str:
        """Of the storage files one after the other, by name: a folder and its only file have the same."""
        digest = hashlib.sha256()
        files = (
            sorted(f for f in self.path.iterdir() if f.suffix in (*STORAGE_SUFFIXES, ".zstd"))
            if self.path.is_dir()
            else [self.path]
        )
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


class Prefetch:
    """Reads records in a thread, at most `max_bytes` ahead of their consumer. Iterate once.

    An error of the source is raised again in the consumer, after the records that came before it.
    """

    _END = object()

    def __init__(self, source: Iterable[Record], max_bytes: int):
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}: give at least 1")
        self._source, self._max_bytes = source, max_bytes
        self._items: queue.SimpleQueue = queue.SimpleQueue()
        self._held = 0
        self._changed = threading.Condition()
        self._full = self._closed = False
        self._thread = threading.Thread(target=self._read, name="bag reader", daemon=True)
        self._thread.start()

    def wait_until_full(self) -> None:
        """Return when the buffer is full or the source is read to its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._full)

    def __iter__(self) -> Iterator[Record]:
        while (item := self._items.get()) is not self._END:
            if isinstance(item, Exception):
                raise item
            with self._changed:
                self._held -= len(item.data)
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """Stop reading; what the source holds open may be closed afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _read(self) -> None:
        try:
            for record in self._source:
                with self._changed:
                    while self._held and self._held + len(record.data) > self._max_bytes and not self._closed:
                        self._full = True
                        self._changed.notify_all()
                        self._changed.wait()
                    if self._closed:
                        return
                    self._held += len(record.data)
                self._items.put(record)
        except Exception as error:
            self._items.put(error)
        finally:
            self._items.put(self._END)
            with self._changed:
                self._full = True
                self._changed.notify_all()


def stamp_of(data: bytes) -> int:
    """Nanoseconds of the stamp of a serialized message that begins with a std_msgs/Header."""
    sec, nanosec = struct.unpack_from(_stamp_format(data), data, 4)
    return sec * 1_000_000_000 + nanosec


def with_stamp(data: bytes, stamp_ns: int) -> bytes:
    """The same message with another header stamp. Only for types that begin with a std_msgs/Header."""
    stamp = struct.pack(_stamp_format(data), *divmod(stamp_ns, 1_000_000_000))
    return data[:4] + stamp + data[12:]


def _stamp_format(data: bytes) -> str:
    # CDR: 4 bytes of encapsulation, the second being 1 for little-endian; then int32 sec, uint32 nanosec.
    if len(data) < 12:
        raise BagError(f"a message of {len(data)} bytes is too short for a header: the bag is damaged")
    return "<iI" if data[1] & 1 else ">iI"


def _open(path: Path) -> AnyReader:
    if not path.exists():
        raise BagError(f"{path} does not exist: give a rosbag2 folder, or an .mcap or .db3 file")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(f for f in path.iterdir() if f.suffix in STORAGE_SUFFIXES)
        if len(files) != 1:
            raise BagError(
                f"{path} is not a rosbag2 folder: it has no metadata.yaml. "
                + (
                    f"Name one of its files ({', '.join(f.name for f in files)}), or run `ros2 bag reindex`"
                    if files
                    else "Give a folder made by `ros2 bag record`"
                )
            )
        path = files[0]
    if path.is_file() and path.suffix not in STORAGE_SUFFIXES:
        raise BagError(
            f"{path} is not a rosbag2 recording: give a folder with metadata.yaml, or an .mcap or "
            ".db3 file"
            + (" (this is ROS 1; `rosbags-convert` makes a rosbag2 of it)" if path.suffix == ".bag" else "")
        )
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
        reader.open()
        return reader
    except Exception as error:  # damaged files surface as sqlite, struct, zstd, YAML or OS errors too
        raise BagError(
            f"{path} cannot be read as rosbag2 (damaged, cut off, or not a bag): {_text(error)}. {REMEDY}"
        ) from error


def _recorded_qos(info: Any) -> Qos | None:
    profiles = info.connections[0].ext.offered_qos_profiles if info.connections else ()
    return profiles[0] if profiles else None


def _text(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
