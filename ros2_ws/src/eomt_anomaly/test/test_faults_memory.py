# SPDX-License-Identifier: MIT
"""Memory runs out in the running node: each step down, the end of the steps, and the way back up."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_rig import detector, picture

from eomt_anomaly.alerts import Level, Reason
from eomt_anomaly.ros.qos import LATCHED
from eomt_anomaly_msgs.msg import ModelInfo

UNKNOWN, CLEAR, CAUTION, STOP = Level
QUICK = {"monitor__clear_frames": 3}
MEMORY = "detector: memory"


def clear(client):
    return client.level(CLEAR, meanwhile=lambda: client.send(picture()))


def listen(client):
    """Boxes of ModelInfo and of /diagnostics."""
    return client.listen("/detector/model_info", ModelInfo, LATCHED), \
        client.listen("/diagnostics", DiagnosticArray)


def told(client, diagnostics, level, words, name=MEMORY, meanwhile=None):
    """Wait until a status has this level and these words."""
    seen = len(diagnostics)
    return client.until(lambda: next((s for m in diagnostics[seen:] for s in m.status if s.name == name
                                      and s.level == level and words in s.message), None),
                        meanwhile=meanwhile)


@pytest.mark.slow
def test_what_was_given_up_for_memory_comes_back_by_itself_and_is_told():
    with detector(oom_retry_s=5.0, **QUICK) as (process, client, log):
        info, diagnostics = listen(client)
        clear(client)
        values = {v.key: v.value for v in told(client, diagnostics, DiagnosticStatus.OK, "enough").values}
        assert values["degraded"] == "no" and float(values["rss_mb"]) > 10.0
        assert values["gpu_reserved_mb"] == "512.0"
        client.send(picture(trick=4))
        client.until(lambda: info[-1].precision == "fp32 at 240 px")
        told(client, diagnostics, DiagnosticStatus.WARN, "240 px")
        clear(client)
        client.until(lambda: info[-1].precision == "fp32 at 320 px", meanwhile=lambda: client.send(picture()))
        told(client, diagnostics, DiagnosticStatus.OK, "enough", meanwhile=lambda: client.send(picture()))
        clear(client)
        client.send(picture(trick=4))                          # and it may happen again
        client.until(lambda: info[-1].precision == "fp32 at 240 px")
        clear(client)
        text = log.read_text()
        assert "memory: short side 240 px" in text and "memory: all runs as configured again" in text
        assert process.poll() is None and "Traceback" not in text


def test_the_smallest_region_that_counts_follows_the_engine_down_and_up():
    """In patches: 112 px of the picture at 320 px, 187 px at 240 px, and the obstacle has 144 px."""
    with detector(oom_retry_s=8.0, monitor__min_area_patches=15.0, **QUICK) as (process, client, _):
        info, _ = listen(client)
        obstacle = lambda: client.send(picture(obstacle=True))   # noqa: E731
        client.level(STOP, 20.0, meanwhile=obstacle)
        client.send(picture(trick=4))
        client.until(lambda: info[-1].precision == "fp32 at 240 px")
        client.level(CLEAR, 20.0, meanwhile=obstacle)            # less than three quarters of a patch
        client.until(lambda: info[-1].precision == "fp32 at 320 px", meanwhile=obstacle)
        client.level(STOP, 20.0, meanwhile=obstacle)
        assert process.poll() is None


def test_where_nothing_is_left_to_give_up_it_is_an_error_until_memory_suffices():
    with detector(short_side=300, oom_retry_s=0.0, **QUICK) as (process, client, log):
        _, diagnostics = listen(client)
        clear(client)
        client.send(picture(trick=4))
        told(client, diagnostics, DiagnosticStatus.WARN, "300 px on cpu")
        told(client, diagnostics, DiagnosticStatus.ERROR, "nothing is left",
             meanwhile=lambda: client.send(picture(trick=4)))
        client.level(UNKNOWN, reasons=Reason.INFERENCE_ERROR,
                     meanwhile=lambda: client.send(picture(trick=4)))
        clear(client)                                          # the next pictures fit
        told(client, diagnostics, DiagnosticStatus.WARN, "300 px on cpu",
             meanwhile=lambda: client.send(picture()))
        assert process.poll() is None


def test_a_camera_whose_pictures_do_not_come_is_stale_and_not_broken():
    with detector(**QUICK) as (_, client, _):
        _, diagnostics = listen(client)
        camera = "detector: front"
        told(client, diagnostics, DiagnosticStatus.STALE, "NO_INPUT", camera)
        clear(client)
        told(client, diagnostics, DiagnosticStatus.OK, "CLEAR", camera, lambda: client.send(picture()))
        told(client, diagnostics, DiagnosticStatus.STALE, "STALE_INPUT", camera)
        told(client, diagnostics, DiagnosticStatus.ERROR, "INVALID_INPUT", camera,
             lambda: client.send(picture(), step=3))
