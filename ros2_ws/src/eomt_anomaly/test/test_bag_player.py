# SPDX-License-Identifier: MIT
"""bag_player replays what was recorded, on time and byte for byte, over real DDS."""

from __future__ import annotations

import signal
import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
pytest.importorskip("eomt_anomaly_msgs")

from bag_fixtures import IMAGE, INFO, START_NS, TYPES, make_bag  # noqa: E402
from bag_tools import run, start  # noqa: E402
from node_rig import Client, next_domain  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rosbags.interfaces import (  # noqa: E402
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Writer  # noqa: E402
from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from eomt_anomaly.ros.bag_io import Bag, BagError, Topic, stamp_of, with_stamp  # noqa: E402
from eomt_anomaly.ros.bag_player import arguments, chosen, main  # noqa: E402
from eomt_anomaly.ros.player import replay_qos  # noqa: E402
from eomt_anomaly.ros.qos import alerts  # noqa: E402


@pytest.fixture
def client():
    domain = next_domain()
    made = Client(domain)
    made.domain = domain
    yield made
    made.close()


def finish(process, client=None):
    while client is not None and process.poll() is None:
        client.spin(0.05)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


def listen_raw(client, topic, kind):
    box = []
    client.node.create_subscription(
        kind, topic, lambda data: box.append((time.monotonic(), data)), 100, raw=True
    )
    return box


def test_messages_arrive_in_order_on_time_and_unchanged_under_another_name(client, tmp_path):
    path = make_bag(tmp_path / "bag", frames=10, rate=10)
    pictures, infos = listen_raw(client, "/eye/image", Image), listen_raw(client, INFO, CameraInfo)
    status, output = finish(
        start(
            "bag_player",
            path,
            "--rate",
            2,
            "--topics",
            IMAGE,
            INFO,
            "--remap",
            f"{IMAGE}:=/eye/image",
            "--wait-for-subscribers",
            20,
            domain=client.domain,
        ),
        client,
    )
    client.spin(0.3)
    assert status == 0, output
    assert "done: 20 messages" in output
    with Bag(path) as bag:
        assert [data for _, data in pictures] == [r.data for r in bag.records([IMAGE])]
    assert len(infos) == 10
    took = pictures[-1][0] - pictures[0][0]
    assert 0.3 < took < 1.5  # 0.9 s of bag at twice the speed, on a busy machine


def recorded_qos(deadline, lifespan, lease, liveliness=QosLiveliness.MANUAL_BY_TOPIC):
    """A QoS as recorders keep it; durations are (s, ns)."""
    return Qos(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, QosTime(*deadline),
               QosTime(*lifespan), liveliness, QosTime(*lease), False)


def test_a_reader_of_alerts_that_asks_for_what_was_recorded_gets_it_from_the_replay(client, tmp_path):
    """safety.md tells readers to request deadline and liveliness: what offers neither sends them nothing."""
    topic, half = "/detector/front/alerts", (0, 500_000_000)
    with Writer(tmp_path / "bag", version=9) as writer:
        connection = writer.add_connection(topic, "std_msgs/msg/String", typestore=TYPES,
                                           offered_qos_profiles=[recorded_qos(half, half, half)])
        for index in range(5):
            message = TYPES.types["std_msgs/msg/String"](data=str(index))
            writer.write(connection, START_NS + index * 10**8,
                         TYPES.serialize_cdr(message, connection.msgtype))
    box = client.listen(topic, String, alerts(0.1))
    status, output = finish(
        start("bag_player", tmp_path / "bag", "--wait-for-subscribers", 20, domain=client.domain), client)
    client.spin(0.3)
    assert (status, [msg.data for msg in box]) == (0, ["0", "1", "2", "3", "4"]), output


@pytest.mark.parametrize("infinite", [(0, 0), (2**31 - 1, 2**32 - 1), (9223372036, 854775807)])
def test_durations_that_were_infinite_stay_so(infinite):
    qos = replay_qos(Topic("/a", "std_msgs/msg/String", 1, recorded_qos(
        infinite, infinite, infinite, QosLiveliness.AUTOMATIC)))
    default = QoSProfile(depth=10)
    for name in ("deadline", "lifespan", "liveliness_lease_duration", "liveliness"):
        assert getattr(qos, name) == getattr(default, name)


def test_restamped_messages_have_the_present_time_and_the_same_content(client, tmp_path):
    path = make_bag(tmp_path / "bag", frames=5, rate=20)
    pictures, infos = listen_raw(client, IMAGE, Image), listen_raw(client, INFO, CameraInfo)
    status, output = finish(
        start(
            "bag_player",
            path,
            "--topics",
            IMAGE,
            INFO,
            "--restamp",
            "--wait-for-subscribers",
            20,
            domain=client.domain,
        ),
        client,
    )
    client.spin(0.3)
    assert status == 0, output
    stamps = [stamp_of(data) for _, data in pictures]
    assert abs(stamps[0] / 1e9 - time.time()) < 20
    assert [b - a for a, b in zip(stamps, stamps[1:])] == pytest.approx([5e7] * 4, abs=2)
    assert stamps == [stamp_of(data) for _, data in infos]  # what belonged together still does
    with Bag(path) as bag:
        assert [with_stamp(data, 0) for _, data in pictures] == [
            with_stamp(r.data, 0) for r in bag.records([IMAGE])
        ]


def test_a_loop_with_a_clock_goes_on_until_interrupted_and_then_exits_cleanly(client, tmp_path):
    path = make_bag(tmp_path / "bag", frames=4, rate=20)
    clock, pictures = client.listen("/clock", Clock, 100), listen_raw(client, IMAGE, Image)
    process = start(
        "bag_player",
        path,
        "--topics",
        IMAGE,
        "--loop",
        "--clock",
        "--wait-for-subscribers",
        20,
        domain=client.domain,
    )
    client.until(lambda: len(pictures) > 10, 30)
    process.send_signal(signal.SIGINT)
    status, output = finish(process, client)
    assert (status, "interrupted" in output) == (0, True), output
    times = [m.clock.sec * 10**9 + m.clock.nanosec for m in clock]
    assert all(START_NS <= t <= START_NS + 10**9 for t in times)
    assert any(b < a for a, b in zip(times, times[1:]))  # the bag's time starts again with each loop


def test_a_recorded_clock_and_what_is_excluded_are_left_out(tmp_path):
    """Two clocks would make time jump, and recorded alerts would stand beside the detector's own."""
    own = "/detector/front/alerts", "/detector/model_info"
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic in (IMAGE, "/clock", *own, "/detector_2/alerts"):
            writer.add_connection(topic, "std_msgs/msg/String", typestore=TYPES)
    with Bag(tmp_path / "bag") as bag:
        def played(*args):
            return chosen(bag, arguments(["bag", *args]))

        assert played() == sorted([IMAGE, "/clock", *own, "/detector_2/alerts"])
        assert played("--clock") == sorted([IMAGE, *own, "/detector_2/alerts"])
        assert played("--clock", "--exclude-topics", "/detector/") == sorted([IMAGE, "/detector_2/alerts"])
        assert played("--topics", IMAGE, *own, "--exclude-topics", own[0]) == [IMAGE, own[1]]
        with pytest.raises(BagError, match="no topic that can be played"):
            played("--clock", "--topics", "/clock")


def test_a_topic_with_several_types_is_left_out_by_name_and_the_others_are_played(tmp_path, capsys):
    types = get_typestore(Stores.ROS2_JAZZY)
    types.register(get_types_from_msg("int32 x", "nobody_msgs/msg/Thing"))
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic, kind in ((IMAGE, "sensor_msgs/msg/Image"), ("/mixed", "std_msgs/msg/String"),
                            ("/mixed", "std_msgs/msg/Header"), ("/strange", "nobody_msgs/msg/Thing")):
            writer.add_connection(topic, kind, typestore=types)
    with Bag(tmp_path / "bag") as bag:
        assert chosen(bag, arguments(["bag"])) == [IMAGE]
        told = capsys.readouterr().err
        assert "left out, as recorded with several types:\n  /mixed  several types  0 messages\n" in told
        assert "left out, as their message types are not installed:\n  /strange  nobody_msgs" in told
    assert main([str(tmp_path / "bag"), "--topics", "/mixed"]) == 1
    assert "a topic was recorded with several types: leave it out (--topics)" in capsys.readouterr().err


def test_what_cannot_be_played_ends_with_status_1_and_a_reason(tmp_path, capsys):
    path = make_bag(tmp_path / "bag", frames=2)
    for args, text in (
        ([tmp_path / "absent"], "does not exist"),
        ([path, "--topics", "/nothing"], "no topic /nothing"),
        ([path, "--remap", "/nothing:=/a"], "no topic /nothing"),
        ([path, "--loop", "--start-offset", "100"], "no message is left after --start-offset 100 s"),
    ):
        assert main([str(arg) for arg in args]) == 1
        assert text in capsys.readouterr().err
    for args, text in (
        (["--clock", "--restamp"], "exclude each other"),
        (["--remap", "/a"], "write FROM:=TO"),
        (["--rate", "0"], "not a number above 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([str(path), *args])
        assert text in capsys.readouterr().err
    status, output = run("bag_player", path, "--topics", IMAGE, "--wait-for-subscribers", 0.3)
    assert (status, f"nobody subscribes to {IMAGE}" in output) == (1, True), output
