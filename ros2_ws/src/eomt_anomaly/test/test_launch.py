# SPDX-License-Identifier: MIT
"""The launch files: what their arguments mean and, where `launch` is installed, real launches."""

import ast
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from eomt_anomaly.alerts import Reason
from eomt_anomaly.ros.launch_helpers import (
    bag_mounting,
    bag_remaps,
    camera_parameters,
    file_value,
    full_name,
    is_true,
    node_parameters,
    parameter_file,
    parse_cameras,
    parse_mounting,
)
from eomt_anomaly.ros.transport import profile_name

PACKAGE = Path(__file__).parents[1]
LAUNCH = next(place for place in (PACKAGE / "launch", PACKAGE.parents[2] / "launch") if place.is_dir())
PROMISED = {"detector": {"cameras", "checkpoint", "backbone", "device", "backend", "params_file", "rviz",
                         "use_sim_time", "namespace", "mounting",
                         "log_level", "respawn", "short_side"},
            "replay": {"bag", "cameras", "mounting", "rate", "loop", "rviz", "respawn"}}


def rows(name):
    """The ARGUMENTS of a launch file (name, default, meaning), read without running it."""
    tree = ast.parse((LAUNCH / f"{name}.launch.py").read_text())
    return next(node.value for node in tree.body if isinstance(node, ast.Assign)
                and node.targets[0].id == "ARGUMENTS").elts


def declared(name):
    """{argument: meaning} of a launch file."""
    return {row.elts[0].value: row.elts[2].value for row in rows(name)}


def default(name, argument):
    return next(row.elts[1].value for row in rows(name) if row.elts[0].value == argument)


@pytest.mark.parametrize("name", PROMISED)
def test_the_arguments_are_the_promised_ones_and_say_what_they_mean(name):
    arguments = declared(name)
    assert set(arguments) == PROMISED[name]
    assert all(len(meaning) > 10 for meaning in arguments.values())


def test_cameras_are_names_with_or_without_topics():
    cameras = parse_cameras("front, rear = /rear/image_raw/compressed")
    assert cameras == {"front": "", "rear": "/rear/image_raw/compressed"}
    assert camera_parameters(cameras) == {"cameras": ["front", "rear"],
                                          "rear.image_topic": "/rear/image_raw/compressed"}


def test_without_cameras_those_of_the_parameter_file_stand():
    assert camera_parameters(parse_cameras("")) == {}


def test_an_argument_that_is_not_given_leaves_the_parameter_file_its_word():
    silent = dict.fromkeys(declared("detector"), "")
    assert node_parameters(silent) == {}
    assert node_parameters(silent | {"use_sim_time": "True", "device": "cuda", "cameras": "a=/b"}) == {
        "use_sim_time": True, "device": "cuda", "cameras": ["a"], "a.image_topic": "/b"}
    assert node_parameters(silent | {"use_sim_time": "false"}) == {"use_sim_time": False}
    assert default("detector", "use_sim_time") == ""


def test_the_mounting_is_height_and_perhaps_pitch_of_each_camera():
    values = {"front.height_m": 1.4, "front.pitch_deg": -3.0, "rear.height_m": 1.0}
    assert parse_mounting("front = 1.4/-3, rear=1") == values and parse_mounting(" ") == {}
    silent = dict.fromkeys(declared("detector"), "")
    assert node_parameters(silent | {"mounting": "front=1.4/-3,rear=1"}) == values


def test_the_size_for_the_network_is_a_whole_number_of_pixels():
    silent = dict.fromkeys(declared("detector"), "")
    assert node_parameters(silent | {"short_side": "252"}) == {"short_side": 252}
    for text in ("252.0", "small", "-1"):
        with pytest.raises(ValueError, match=f"short_side is '{text}': give a whole number of px"):
            node_parameters(silent | {"short_side": text})


@pytest.mark.parametrize("text", ["1.4", "front", "front=", "=1", "front=a", "front=1/2/3", "front=nan", ","])
def test_a_wrong_mounting_is_refused(text):
    with pytest.raises(ValueError, match="NAME=HEIGHT"):
        parse_mounting(text)


def test_the_sample_bag_says_how_its_camera_is_mounted():
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from eomt_anomaly.ros.bag_io import Bag

    bag = PACKAGE.parents[2] / "bags" / "sample_drive"
    if not bag.is_dir():
        pytest.skip("the sample bag is not beside the workspace")
    topic = default("replay", "cameras").partition("=")[2]
    with Bag(bag) as opened:
        found = parse_mounting(bag_mounting(opened, {"front": topic, "rear": "rear/image_raw"}))
    assert found == {"front.height_m": pytest.approx(1.45, abs=1e-3),
                     "front.pitch_deg": pytest.approx(math.degrees(0.06), abs=1e-2)}


def test_a_camera_whose_topic_is_not_in_the_bag_is_refused_with_those_that_are(tmp_path):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from bag_fixtures import IMAGE, make_bag

    from eomt_anomaly.ros.bag_io import Bag

    known = {"front": IMAGE, "rear": "", "left": "left/image_raw"}   # a relative one: not known here
    with Bag(make_bag(tmp_path / "bag", frames=1)) as bag:
        assert bag_mounting(bag, known) == "" and bag_mounting(bag, known, "front=1.4") == "front=1.4"
        with pytest.raises(ValueError, match=rf"no topic /not/there.* cameras:=NAME=TOPIC.*\n  {IMAGE}"):
            bag_mounting(bag, {"front": IMAGE, "rear": "/not/there"}, "front=1.4")


def test_compressed_pictures_under_a_plain_name_are_played_where_the_detector_listens(tmp_path):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from bag_fixtures import IMAGE, make_bag

    from eomt_anomaly.ros.bag_io import Bag

    with Bag(make_bag(tmp_path / "plain", frames=1)) as bag:
        assert bag_remaps(bag, {"front": IMAGE, "rear": "", "left": "left/image_raw"}) == {}
    with Bag(make_bag(tmp_path / "bag", frames=1, compressed=True, images=("/cam/image",))) as bag:
        assert bag_remaps(bag, {"front": "/cam/image"}) == {"/cam/image": "/cam/image/compressed"}


def test_a_parameter_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    """launch would warn, and a robot with another corridor and camera would be told CLEAR by the defaults."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for wrong in ("~/mine.yaml", str(tmp_path), ""):
        with pytest.raises(ValueError, match="params_file is .* which is no file: give the path"):
            parameter_file({"params_file": wrong})
    (tmp_path / "mine.yaml").write_text("")
    assert parameter_file({"params_file": "~/mine.yaml"}) == str(tmp_path / "mine.yaml")


PARAMETERS = """
/**: {ros__parameters: {cameras: [a], device: cpu}}
other: {ros__parameters: {cameras: [b]}}
/detector: {ros__parameters: {device: cuda}}
/*/detector: {ros__parameters: {cameras: [c, d]}}
robot: {detector: {ros__parameters: {cameras: [e]}}}
/**/camera_2/detector: {ros__parameters: {cameras: [f]}}
"""


@pytest.mark.parametrize("text", ["true", "True", "1", "false", "0"])
def test_a_switch_is_true_or_false(text):
    assert is_true({"rviz": text}, "rviz") is (text not in ("false", "0"))


@pytest.mark.parametrize("text", ["yes", "on", "ture", ""])
def test_a_switch_that_is_neither_is_refused(text):
    with pytest.raises(ValueError, match=f"rviz is '{text}': give true or false"):
        is_true({"rviz": text}, "rviz")


@pytest.mark.parametrize("text, namespace, cameras", [
    (PARAMETERS, "", ["a"]), (PARAMETERS, "van", ["c", "d"]), (PARAMETERS, "/robot/", ["e"]),
    (PARAMETERS, "/x/y/camera_2", ["f"]), ("", "", ["front"]),
    ("detector:\n  ros__parameters:", "", ["front"])])
def test_rviz_shows_the_cameras_that_the_parameter_file_gives_the_node(text, namespace, cameras):
    assert file_value(text, full_name(namespace), "cameras", ["front"]) == cameras


def test_rviz_takes_the_clock_that_the_parameter_file_gives_the_node():
    text = "/**:\n  ros__parameters: {use_sim_time: true}"
    assert file_value(text, "/detector", "use_sim_time", False) is True
    assert file_value(PARAMETERS, "/detector", "use_sim_time", False) is False


@pytest.mark.parametrize("text", [",", "a,,b", "a,a", "=topic"])
def test_wrong_cameras_are_refused(text):
    with pytest.raises(ValueError, match="NAME"):
        parse_cameras(text)


def test_the_parameter_file_names_only_parameters_that_exist():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from eomt_anomaly.ros.parameters import all_specs

    values = yaml.safe_load((PACKAGE / "config" / "detector.yaml").read_text())["/**"]["ros__parameters"]
    specs = all_specs(values["cameras"])

    def flat(tree, prefix=""):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value
    for name, value in flat(values):
        assert name in specs and type(value) is type(specs[name].default), name
        assert specs[name].default == value, f"{name}: the file says {value}, the code {specs[name].default}"


# ---- the real thing ----

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *pairs = sys.argv[1:]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(path), launch_arguments=[pair.split(":=", 1) for pair in pairs])]))
sys.exit(service.run())
"""


@pytest.fixture
def launched():
    """Returns run(file, **arguments) → (process, log, client); what it starts is ended by its id."""
    pytest.importorskip("launch_ros.actions",
                        reason="launch and launch_ros are not installed: launch files not run")
    pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        share = Path(packages.get_package_share_directory("eomt_anomaly"))
    except packages.PackageNotFoundError:
        pytest.skip("eomt_anomaly is not installed: build ros2_ws and source its install/setup.bash first")
    from node_rig import Client, next_domain

    started, logs, domain = [], [], next_domain()

    def run(file, **arguments):
        log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        logs.append(log)
        env = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        env = {name: value for name, value in env.items() if not name.endswith("_PROFILES_FILE")}
        pairs = [f"{name}:={value}" for name, value in arguments.items()]
        process = subprocess.Popen([sys.executable, "-c", RUN, str(share / "launch" / f"{file}.launch.py"),
                                    *pairs],
                                   env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        client = Client(domain)
        started.append((process, client))
        return process, Path(log.name), client
    yield run
    for process, client in started:
        client.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    for log in logs:
        print(Path(log.name).read_text()[-6000:])
        log.close()


def children(pid):
    """Ids of the processes a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid):
    return dict(item.split("=", 1) for item in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
                if "=" in item)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny random network; good enough to be activated."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from eomt_anomaly.model import EomtExt, EomtExtConfig, Label

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    labels = (Label(0, "sky", (1, 2, 3)), Label(1, "road", (4, 5, 6), drivable=True))
    EomtExt(EomtExtConfig.preset("tiny", labels=labels, image_size=56)).save_pretrained(folder)
    (folder / "calibration.json").write_text('{"score": "eomt_ext", "threshold": 0.9}')
    return folder


def test_the_detector_launches_with_its_arguments_and_ends_cleanly(launched, checkpoint):
    from node_rig import picture
    from rcl_interfaces.srv import GetParameters

    process, log, client = launched("detector", cameras="left,right=/cams/right/image_raw/compressed",
                                    namespace="robot", mounting="left=1.5/-2.5",
                                    checkpoint=checkpoint, device="cpu", respawn="false", log_level="debug")
    left, right = "/robot/detector/left/alerts", "/robot/detector/right/alerts"
    client.listen(left), client.listen(right)

    def feed():
        client.send(picture(), "/robot/left/image_raw")
        client.send_jpeg(picture(), "/cams/right/image_raw/compressed")
    client.until(lambda: all(any(not m.heartbeat for m in client.messages[topic]) for topic in (left, right)),
                 120,
                 meanwhile=feed, every=0.2)
    values = client.call(GetParameters, "/robot/detector/get_parameters",
                         names=["checkpoint", "device", "use_sim_time", "left.height_m",
                                "left.pitch_deg"]).values
    assert (values[0].string_value, values[1].string_value, values[2].bool_value) == (str(checkpoint), "cpu",
                                                                                      False)
    assert [value.double_value for value in values[3:]] == [1.5, -2.5]
    detector, = children(process.pid)
    profiles = {name: Path(value).name for name, value in environment(detector).items()
                if name.endswith("_PROFILES_FILE")}
    assert profiles == {profile_name(): "fastdds_shm.xml"}
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 0
    text = log.read_text()
    assert "process has finished cleanly" in text and "Traceback" not in text


def test_a_detector_that_dies_is_started_again(launched, checkpoint):
    process, _, client = launched("detector", checkpoint=checkpoint, device="cpu", respawn="true")
    client.level(0)
    first, = children(process.pid)
    os.kill(first, signal.SIGKILL)
    client.until(lambda: (now := children(process.pid)) and now != [first], 60)
    client.level(0)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 0


def test_a_detector_that_ends_with_an_error_is_started_again(launched, tmp_path):
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {max_age: -1.0}}")
    _, log, client = launched("detector", params_file=tmp_path / "p.yaml")
    client.until(lambda: log.read_text().count("exit code 2") >= 2, 60)


def test_a_detector_that_was_asked_to_end_is_not_started_again(launched, checkpoint):
    process, log, client = launched("detector", checkpoint=checkpoint, device="cpu", respawn="true")
    client.level(0, reasons=Reason.NO_INPUT)      # it is active
    first, = children(process.pid)
    os.kill(first, signal.SIGINT)
    assert process.wait(30) == 0      # launch ends with its last process
    assert log.read_text().count("process started with pid") == 1 and "Traceback" not in log.read_text()


def test_the_cameras_of_the_parameter_file_are_used(launched, checkpoint, tmp_path):
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {cameras: [left, right]}}")
    _, _, client = launched("detector", params_file=tmp_path / "p.yaml", checkpoint=checkpoint, device="cpu")
    for name in ("left", "right"):
        client.level(0, topic=f"/detector/{name}/alerts")


@pytest.mark.parametrize("argument, words", [
    ({"cameras": "a,a"}, "each name once"), ({"params_file": "~/not/there.yaml"}, "which is no file")])
def test_a_wrong_argument_is_said(launched, argument, words):
    process, log, _ = launched("detector", **argument)
    assert process.wait(60) != 0
    assert words in log.read_text()


def test_a_bag_is_replayed_through_the_detector(launched, checkpoint, tmp_path):
    import cv2
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = {name: store.types[name] for name in ("sensor_msgs/msg/CompressedImage", "std_msgs/msg/Header",
                                                  "builtin_interfaces/msg/Time")}
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/camera/front/image_raw/compressed",
                                           "sensor_msgs/msg/CompressedImage", typestore=store)
        for number in range(30):
            stamp = types["builtin_interfaces/msg/Time"](sec=1000 + number // 10,
                                                         nanosec=number % 10 * 100_000_000)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
            data = cv2.imencode(".jpg", np.full((60, 80, 3), 90 + number, np.uint8))[1].ravel()
            message = types["sensor_msgs/msg/CompressedImage"](header=header, format="jpeg", data=data)
            writer.write(connection, 1000_000_000_000 + number * 100_000_000,
                         store.serialize_cdr(message, message.__msgtype__))
    process, log, client = launched("replay", bag=tmp_path / "bag", rviz="false", checkpoint=checkpoint,
                                    device="cpu", rate="0.5")
    alerts = client.listen("/detector/front/alerts")
    client.until(lambda: process.poll() is not None, 120)
    assert process.returncode == 0
    judged = [message for message in alerts if not message.heartbeat and message.reasons & ~(1 | 2) != 32]
    assert len({message.header.stamp.sec for message in judged}) >= 2, log.read_text()
    assert all(1000 <= message.header.stamp.sec <= 1003 for message in judged if message.latency.sec >= 0)
    assert "the bag has ended" in log.read_text() or "done" in log.read_text()
