# SPDX-License-Identifier: MIT
"""The ROS domain that a replay takes for itself."""

import os
import subprocess
import sys

import pytest

from eomt_anomaly.ros import processes


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The process's environment, and an empty folder for the locks; what a test does is undone."""
    found = dict(os.environ)
    monkeypatch.setattr("os.environ", found)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.getpid", lambda: 12341)     # whose first choice is 42
    found.pop("ROS_DOMAIN_ID", None)
    processes._own_domain.cache_clear()
    yield found
    processes._own_domain.cache_clear()


@pytest.mark.parametrize("users, domain", [("42", 43), (" 42", 43), ("43", 42), (None, 42)])
def test_a_replay_never_takes_the_users_own_domain(environment, users, domain):
    """There the robot's detector would judge the recorded pictures."""
    environment |= {"ROS_DOMAIN_ID": users} if users else {}
    assert processes.isolate() == domain
    assert environment["ROS_DOMAIN_ID"] == str(domain)
    assert processes.isolate() == domain    # the next replay of this process stays there


def test_two_tools_of_one_machine_never_share_a_domain(environment, monkeypatch):
    monkeypatch.setattr(processes, "DOMAINS", 5)
    own = processes._own_domain.__wrapped__     # as each tool calls it, here with the same process id
    assert {own() for _ in range(5)} == {1, 2, 3, 4, 5}
    assert own() in range(1, 6)     # all are taken: better one than none


def test_two_processes_of_tests_never_share_a_domain(environment):
    node_rig = pytest.importorskip("node_rig")
    processes._lock(42)     # of a tool that runs meanwhile
    one, other = (node_rig._own_domains.__wrapped__() for _ in range(2))
    one, other = ({next(domains) for _ in range(20)} for domains in (one, other))
    assert len(one) == len(other) == 10 and not one & other and 42 not in one | other


def test_a_test_stays_out_of_the_domain_of_a_detector_that_runs_for_its_whole_file(monkeypatch):
    node_rig = pytest.importorskip("node_rig")
    monkeypatch.setattr(node_rig, "_detectors", taken := {node_rig.next_domain()})
    assert not taken & {node_rig.next_domain() for _ in range(20)}


def test_a_domain_is_free_again_when_its_process_has_ended(environment, tmp_path):
    script = ("import os, tempfile; os.getpid = lambda: 12341; from eomt_anomaly.ros import processes;"
              "print(processes.isolate(), flush=True); input()")
    child = subprocess.Popen([sys.executable, "-c", script], text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE,
                             env=environment | {"TMPDIR": str(tmp_path)})
    with child:
        assert child.stdout.readline() == "42\n"
        assert not processes._lock(42)
        child.communicate("\n", timeout=30)
    assert child.returncode == 0 and processes._lock(42)


def test_without_a_folder_for_locks_the_domain_is_still_not_the_users(environment, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    environment["ROS_DOMAIN_ID"] = "42"
    assert processes.isolate() == 43
