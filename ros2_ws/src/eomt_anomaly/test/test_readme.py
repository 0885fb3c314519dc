# SPDX-License-Identifier: MIT
"""What the README says of topics, types, services, parameters and commands is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("eomt_anomaly_msgs")

from node_rig import detector  # noqa: E402

from eomt_anomaly.ros import bag_benchmark, bag_player, demo, parameters  # noqa: E402

ROOT = next(
    (p for p in Path(__file__).resolve().parents if (p / "README.md").is_file() and (p / "launch").is_dir()),
    None,
)
pytestmark = pytest.mark.skipif(ROOT is None, reason="this copy of the package has no repository around it")
OF_EVERY_NODE = ("rcl_interfaces/", "lifecycle_msgs/", "type_description_interfaces/")
OWN = ("/parameter_events", "/rosout", "/detector/transition_event")  # of every lifecycle node


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text()


def rows(text, title):
    """The first two cells of each row of the table below a heading, without backquotes."""
    body = text.split(f"### {title}\n", 1)[1].split("\n\n", 1)[0]
    cells = [
        [cell.strip().replace("`", "") for cell in line.split("|")[1:3]] for line in body.splitlines()[2:]
    ]
    return {name.replace("~/", "/detector/").replace("CAM", "front"): kind for name, kind in cells}


def test_topics_and_services_are_those_of_the_running_node(readme):
    topics, services = rows(readme, "Published topics"), rows(readme, "Services")
    with detector() as (_, client, _log):

        def published():
            found = client.node.get_publisher_names_and_types_by_node("detector", "/")
            return {name: kinds[0] for name, kinds in found if name not in OWN}

        def served():
            found = client.node.get_service_names_and_types_by_node("detector", "/")
            return {name: kinds[0] for name, kinds in found if not kinds[0].startswith(OF_EVERY_NODE)}

        client.level(0, 40)
        client.until(lambda: "detector" in client.node.get_node_names())  # may come late
        for _ in range(100):  # discovery takes its time
            if (published(), served()) == (topics, services):
                break
            client.spin(0.2)
        assert published() == topics
        assert served() == services


def test_parameters_are_the_printed_tables(readme):
    tables = re.search(r"<!-- parameters: .*? -->\n(.*?)\n<!-- /parameters -->", readme, re.DOTALL).group(1)
    assert tables.strip() == parameters.markdown().strip(), (
        "run `python tools/readme_tables.py`"
    )


def test_files_and_options_that_the_readme_names_exist(readme):
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", readme):
        assert (ROOT / link).exists(), link
    for script in re.findall(r"python3? ((?:training|bags|tools)/\S+\.py)", readme):
        assert (ROOT / script).is_file(), script
    for option in re.findall(r"`(--[a-z-]+(?: --[a-z-]+)*)`", readme):
        known = bag_player.arguments(["bag"]), bag_benchmark.arguments(["bag"]), demo.arguments([])
        for name in option.split():
            assert any(hasattr(args, name[2:].replace("-", "_")) for args in known), name
