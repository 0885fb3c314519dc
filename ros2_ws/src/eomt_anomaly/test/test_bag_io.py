# SPDX-License-Identifier: MIT
"""Any rosbag2 can be read, and every unusable one is refused with a text that helps."""

from __future__ import annotations

import sqlite3

import pytest

pytest.importorskip("rosbags")

from bag_fixtures import IMAGE, INFO, LABELS, START_NS, make_bag  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from eomt_anomaly.ros.bag_io import Bag, BagError, Prefetch, Record, stamp_of, with_stamp  # noqa: E402


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compression", ["", "file", "message"])
def test_every_kind_of_rosbag2_gives_the_same_messages(tmp_path, storage, compression):
    path = make_bag(tmp_path / "bag", frames=4, storage=storage, compression=compression)
    with Bag(path) as bag:
        assert bag.topics[IMAGE].count == 4
        assert bag.duration_s == pytest.approx(0.3, abs=1e-3)
        records = list(bag.records([IMAGE, INFO]))
        assert [r.topic for r in records] == [INFO, IMAGE] * 4
        message = bag.deserialize(records[1])
        assert (message.width, message.height, message.encoding) == (112, 84, "rgb8")
        assert [stamp_of(r.data) for r in records if r.topic == IMAGE] == [
            START_NS + i * 10**8 for i in range(4)
        ]


def test_a_single_storage_file_and_a_folder_without_metadata_can_be_read(tmp_path):
    path = make_bag(tmp_path / "bag", frames=3)
    with Bag(path) as bag:
        folder_hash = bag.sha256()
    (path / "metadata.yaml").unlink()
    for name in (path, next(path.glob("*.mcap"))):
        with Bag(name) as bag:
            assert bag.topics[IMAGE].count == 3
            assert bag.sha256() == folder_hash


def test_a_closed_bag_says_so(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=1)) as bag:
        pass
    bag.close()
    with pytest.raises(BagError, match="was closed"):
        next(bag.records([IMAGE]))


def test_start_offset_skips_the_beginning(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=5)) as bag:
        assert len(list(bag.records([IMAGE], start_offset_s=0.25))) == 2


def test_the_only_picture_topic_is_chosen_and_its_companions_found(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=2, compressed=True)) as bag:
        assert bag.choose_image_topic().name == IMAGE
        assert bag.ground_truth_of(IMAGE).name == LABELS
        assert bag.ground_truth_of(IMAGE + "/compressed").name == LABELS
        assert bag.camera_info_of(IMAGE + "/compressed").name == INFO
    with Bag(make_bag(tmp_path / "bare", frames=2, labels=False, info=False)) as bag:
        assert bag.ground_truth_of(IMAGE) is None
        assert bag.camera_info_of(IMAGE) is None


def test_choosing_among_several_topics_needs_a_name_and_lists_them(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=2, images=("/left/image", "/right/image"))) as bag:
        with pytest.raises(
            BagError, match=r"(?s)2 topics with pictures; choose one.*/left/image.*/right/image"
        ):
            bag.choose_image_topic()
        assert bag.choose_image_topic("/right/image").name == "/right/image"
        with pytest.raises(BagError, match=r"(?s)no topic /up/image; it has:.*/left/image"):
            bag.choose_image_topic("/up/image")
        with pytest.raises(
            BagError, match=r"(?s)/chatter carries std_msgs/msg/String, not pictures.*/left/image"
        ):
            bag.choose_image_topic("/chatter")


def test_a_bag_without_pictures_lists_what_it_has(tmp_path):
    with Bag(make_bag(tmp_path / "bag", frames=2, images=())) as bag:
        with pytest.raises(
            BagError, match=r"(?s)no topic with pictures.*/chatter  std_msgs/msg/String  2 messages"
        ):
            bag.choose_image_topic()


def test_what_is_not_a_bag_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "junk.mcap").write_bytes(b"junk" * 100)
    (tmp_path / "junk.db3").write_bytes(b"junk" * 100)
    for name, text in (
        ("absent", "does not exist"),
        ("empty", "no metadata.yaml"),
        ("notes.txt", "give a folder"),
        ("old.bag", "rosbags-convert"),
        ("junk.mcap", "cannot be read"),
        ("junk.db3", "cannot be read"),
    ):
        with pytest.raises(BagError, match=text):
            Bag(tmp_path / name)
    broken = make_bag(tmp_path / "broken", frames=2)
    (broken / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: [")
    with pytest.raises(BagError, match="cannot be read"):
        Bag(broken)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_an_error_and_never_a_shorter_bag(tmp_path, storage, part):
    path = make_bag(tmp_path / "bag", frames=12, storage=storage)
    file = next(f for f in path.iterdir() if f.suffix in (".mcap", ".db3"))
    if storage == "sqlite3":  # one file, no write-ahead log
        sqlite3.connect(file).execute("pragma journal_mode=delete").connection.close()
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BagError, match="damaged|cannot be read"):
        with Bag(path) as bag:
            for record in bag.records():
                bag.deserialize(record)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=30), limit=st.integers(1, 120))
def test_prefetch_keeps_order_and_its_bound(sizes, limit):
    held, most = 0, 0

    def source():
        nonlocal held, most
        for index, size in enumerate(sizes):
            held += size
            most = max(most, held - size)  # what was handed over and not yet consumed
            yield Record(str(index), "", index, bytes(size))

    buffer = Prefetch(source(), limit)
    buffer.wait_until_full()
    names = []
    for record in buffer:
        names.append(record.topic)
        held -= len(record.data)
    assert names == [str(i) for i in range(len(sizes))]
    assert most <= limit + max(sizes, default=0)


def test_prefetch_passes_errors_on_after_what_came_before_and_can_be_closed_early():
    def source():
        yield Record("a", "", 0, b"12345678")
        raise BagError("damaged")

    records = iter(Prefetch(source(), 100))
    assert next(records).topic == "a"
    with pytest.raises(BagError, match="damaged"):
        next(records)
    endless = Prefetch((Record("a", "", i, bytes(10)) for i in range(10**9)), 100)
    endless.wait_until_full()
    endless.close()


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.binary(max_size=20))
def test_restamping_changes_the_stamp_and_nothing_else(sec, nanosec, rest):
    data = b"\0\1\0\0" + bytes(8) + rest
    stamped = with_stamp(data, sec * 10**9 + nanosec)
    assert stamp_of(stamped) == sec * 10**9 + nanosec
    assert (stamped[:4], stamped[12:]) == (data[:4], data[12:])
    with pytest.raises(BagError, match="too short"):
        stamp_of(b"\0\1\0\0")
