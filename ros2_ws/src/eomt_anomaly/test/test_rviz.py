# SPDX-License-Identifier: MIT
"""rviz/detector.rviz: a whole configuration, whose topics and QoS are the node's."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

from eomt_anomaly.ros.launch_helpers import render_rviz

PACKAGE = Path(__file__).parents[1]
FOLDER = next(place for place in (PACKAGE / "rviz", PACKAGE.parents[2] / "rviz") if place.is_dir())
TEXT = (FOLDER / "detector.rviz").read_text()
KINDS = {"rviz_default_plugins/Image": "sensor_msgs/msg/Image",
         "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
         "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2"}


def displays(text):
    return yaml.safe_load(text)["Visualization Manager"]["Displays"]


def topics(text):
    """{topic: display} of those that show one."""
    return {display["Topic"]["Value"]: display for display in displays(text) if "Topic" in display}


def test_it_has_every_part_that_rviz_needs():
    config = yaml.safe_load(TEXT)
    assert set(config) == {"Panels", "Visualization Manager", "Window Geometry"}
    manager = config["Visualization Manager"]
    assert manager["Class"] == "" and manager["Tools"] and manager["Views"]
    assert manager["Global Options"]["Fixed Frame"] == "base_link"
    assert manager["Transformation"]["Current"]["Class"] == "rviz_default_plugins/TF"
    for display in displays(TEXT):
        assert {"Class", "Enabled", "Name", "Value"} <= set(display)
        assert display["Enabled"] is display["Value"]
        if "Topic" in display:
            assert set(display["Topic"]) == {"Value", "Depth", "History Policy", "Reliability Policy",
                                             "Durability Policy"}
    assert {topic.rpartition("/")[2] for topic in topics(TEXT)} == {
        "overlay", "heatmap", "mask_color", "markers", "obstacles"}


def test_it_is_rendered_for_namespaces_and_cameras():
    text = render_rviz(TEXT, "/fleet/robot1/", ["left", "right"])
    assert set(topics(text)) == {f"/fleet/robot1/detector/{camera}/{name.rpartition('/')[2]}"
                                 for camera in ("left", "right") for name in topics(TEXT)}
    shown = topics(text)
    assert shown["/fleet/robot1/detector/left/overlay"]["Name"] == "overlay left"
    assert shown["/fleet/robot1/detector/left/overlay"]["Enabled"]
    assert not shown["/fleet/robot1/detector/right/overlay"]["Enabled"]
    assert yaml.safe_load(render_rviz(TEXT, "", ["front"])) == yaml.safe_load(TEXT)


@pytest.mark.parametrize("namespace, cameras", [("", ["front"]), ("/robot", ["left", "right"])])
def test_a_live_node_publishes_what_rviz_asks_for(namespace, cameras):
    pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")
    from node_rig import detector

    with detector(namespace=namespace, cameras=f"[{', '.join(cameras)}]") as (_, client, _log):
        for topic, display in topics(render_rviz(TEXT, namespace, cameras)).items():
            publishers = client.until(lambda topic=topic: client.node.get_publishers_info_by_topic(topic))
            assert [publisher.topic_type for publisher in publishers] == [KINDS[display["Class"]]]
            offered, asked = publishers[0].qos_profile, display["Topic"]
            wanted = {key: asked[f"{key} Policy"].lower().replace(" ", "_")
                      for key in ("History", "Reliability", "Durability")}
            assert HistoryPolicy.get_from_short_key(wanted["History"]) == HistoryPolicy.KEEP_LAST
            assert ReliabilityPolicy.get_from_short_key(wanted["Reliability"]) == offered.reliability
            assert DurabilityPolicy.get_from_short_key(wanted["Durability"]) == offered.durability
