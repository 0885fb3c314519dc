# SPDX-License-Identifier: MIT
"""docs/safety.md: every fault in its table has tests, each test it names exists, its figures are right."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = next((p for p in HERE.parents if (p / "docs" / "safety.md").is_file()), None)
pytestmark = pytest.mark.skipif(ROOT is None, reason="this copy of the package has no repository around it")


@pytest.fixture(scope="module")
def safety():
    return (ROOT / "docs" / "safety.md").read_text()


def functions(file):
    """Names of the tests in a file of this folder; empty if there is no such file."""
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_fault_names_tests_and_every_one_of_them_exists(safety):
    table = safety.split("## Faults and tests\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()
            if line.startswith("|")][2:]
    assert len(rows) > 30
    for fault, behaviour, tests in rows:
        if fault.startswith("**"):
            continue
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert behaviour and named, fault
        for file, test in named:
            assert test in functions(HERE / file), f"{file}::{test}, for {fault!r}"


def test_the_figures_of_the_worst_case_are_the_computed_ones(safety):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from eomt_anomaly.ros.parameters import all_specs
    from eomt_anomaly.ros.reaction import worst_case

    worst = worst_case({name: spec.default for name, spec in all_specs(["front"]).items()})
    bold = [float(number) for number in re.findall(r"= \*\*([\d.]+) s\*\*", safety)]
    beside = [float(number) for number in re.search(r"\(([\d.]+) s, ([\d.]+) s\)\.", safety).groups()]
    assert bold == pytest.approx([worst["not_clear"], worst["lost"]])
    assert beside == pytest.approx([worst["not_clear_beside"], worst["lost_beside"]])
