# SPDX-License-Identifier: MIT
"""The documents: their links lead somewhere, and the launch arguments that they name exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CARD = ROOT / "ros2_ws/src/eomt_anomaly/eomt_anomaly/checkpoints/default/README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("bags/*.md"), *ROOT.glob("docs/*.md"), CARD]


def anchors(file):
    """What GitHub calls the headings of a Markdown file."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_launch_arguments_in_the_documents_exist():
    known = set()
    for file in (ROOT / "launch").glob("*.launch.py"):
        table = next(node.value for node in ast.parse(file.read_text()).body
                     if isinstance(node, ast.Assign) and node.targets[0].id == "ARGUMENTS")
        known |= {row.elts[0].value for row in table.elts}
    for document in DOCUMENTS:
        named = set(re.findall(r"(?<!-p )(?<![\w.])([a-z_]+):=", document.read_text()))
        assert named <= known, f"{document.name}: {named - known}"
