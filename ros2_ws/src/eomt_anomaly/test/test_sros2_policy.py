# SPDX-License-Identifier: MIT
"""The security policy names exactly the topics and services that the running node has."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from node_rig import detector
from sensor_msgs.msg import Image

POLICY = Path(__file__).parents[1] / "config" / "sros2_policy.xml"


def allowed():
    """{(what, right): names} of the only profile; every rule must be one that allows."""
    root = ElementTree.parse(POLICY).getroot()
    assert root.tag == "policy" and root.get("version") == "0.2.0"
    (enclave,) = root.findall("enclaves/enclave")
    (profile,) = enclave.findall("profiles/profile")
    assert (enclave.get("path"), profile.get("ns"), profile.get("node")) == ("/detector", "/", "detector")
    rules = {}
    for group in profile:
        ((right, value),) = group.attrib.items()
        assert value == "ALLOW"
        rules[group.tag, right] = [name.text for name in group]
    return rules


def test_the_policy_names_each_thing_once_and_without_wildcards():
    for names in allowed().values():
        assert len(names) == len(set(names))
        assert all(name.startswith("/") and "*" not in name and " " not in name for name in names)


def test_the_policy_is_what_the_running_node_has():
    rules = allowed()
    with detector(use_sim_time="true") as (_, client, _):
        client.publisher(Image, "/front/image_raw")     # waits for the node's last topics
        graph = {("topics", "publish"): client.node.get_publisher_names_and_types_by_node,
                 ("topics", "subscribe"): client.node.get_subscriber_names_and_types_by_node,
                 ("services", "reply"): client.node.get_service_names_and_types_by_node}

        def has():
            return {key: {name for name, _ in names("detector", "/")} for key, names in graph.items()}
        wanted = {key: set(names) for key, names in rules.items()}
        client.until(lambda: "detector" in client.node.get_node_names())
        client.until(lambda: all(wanted[key] <= names for key, names in has().items()))
        client.spin(1.0)                                # what else there might be
        assert has() == wanted and not client.node.get_client_names_and_types_by_node("detector", "/")
