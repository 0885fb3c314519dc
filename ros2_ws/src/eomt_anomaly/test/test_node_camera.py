# SPDX-License-Identifier: MIT
"""One camera without DDS: what comes while a frame is being judged, and outputs that fail after its alert."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from node_rig import FakeEngine, picture
from rclpy.clock import Clock
from std_msgs.msg import Header

from eomt_anomaly.alerts import Level, MonitorParams, Reason
from eomt_anomaly.ros import visuals
from eomt_anomaly.ros.camera import Camera
from eomt_anomaly.ros.conversions import image_message
from eomt_anomaly.ros.fallback import EngineSettings
from eomt_anomaly.ros.gate import Gate
from eomt_anomaly.ros.mailbox import Mailbox
from eomt_anomaly.ros.pipeline import Pipeline
from eomt_anomaly.ros.publishers import DENSE, Look
from eomt_anomaly.ros.worker import Batching, Worker

PARAMETERS = {"heartbeat_rate": 10.0, "stale_timeout": 10.0, "max_age": 10.0,
              "front.image_topic": "front/image_raw", "front.transport": "auto",
              "front.camera_info_topic": "", "front.ignore_mask": ""}
PLAIN = sorted(DENSE.keys() - {"markers", "obstacles"})   # the outputs that need no calibration
LOOK = Look(visuals.palette([(1, 2, 3), (4, 5, 6)]), "fake", "eomt_ext", 0.5, 0.3, 0.0, 1.0)


class Node:
    """What a camera asks of its node: publishers keep their messages by topic, the logger its warnings."""

    def __init__(self):
        self.published, self.warnings, self.clock = {}, [], Clock()

    def create_publisher(self, kind, topic, *_):
        box = self.published.setdefault(topic.rpartition("/")[2], [])
        return SimpleNamespace(publish=box.append, get_subscription_count=lambda: 1)

    create_lifecycle_publisher = create_publisher

    def create_subscription(self, *_, **__):
        return None

    def get_clock(self):
        return self.clock

    def get_logger(self):
        return SimpleNamespace(warning=lambda text, **_: self.warnings.append(text))


class Rig:
    """A camera with a real Monitor behind the real mailbox and worker."""

    def __init__(self):
        self.node, self.mailbox, self.gate = Node(), Mailbox(["front"]), Gate()
        self.gate.active = True
        self.camera = Camera(self.node, "front", PARAMETERS, self.mailbox, self.gate)
        self.camera.restart(MonitorParams(drivable_ids=(1,), threshold=0.5, clear_frames=1))
        self.camera.open("fake")
        self.pipeline = Pipeline({"front": self.camera})
        self.pipeline.look = LOOK
        self.worker = Worker(FakeEngine, None, [], self.mailbox, self.pipeline, lambda: Batching(1, 0.0))
        self.worker.engine = FakeEngine(EngineSettings(checkpoint=""))
        self.alerts = self.node.published["alerts"]

    def arrive(self, **fields):
        """A picture comes, with fields of its message replaced."""
        header = Header(frame_id="optical", stamp=self.node.clock.now().to_msg())
        message = image_message(picture(), "rgb8", header)
        for name, value in fields.items():
            setattr(message, name, value)
        self.camera._on_image(message)

    def work(self):
        """The worker's turn."""
        self.worker._serve(self.mailbox.take(1, 0.0, 1.0))
        return self.alerts[-1]

    def meanwhile(self, do):
        """Let `do()` happen while the next frame is being judged."""
        monitor, update = self.camera._monitor, self.camera._monitor.update

        def interrupted(*args):
            monitor.update = update
            result = update(*args)
            do()
            return result
        monitor.update = interrupted


def test_a_bad_message_during_a_judgement_keeps_its_fault():
    rig = Rig()
    rig.arrive()
    assert rig.work().level == Level.CLEAR
    rig.arrive()
    rig.meanwhile(lambda: rig.arrive(step=3))
    alert = rig.work()
    assert (alert.level, alert.reasons) == (Level.UNKNOWN, Reason.INVALID_INPUT)
    assert "step is 3" in rig.camera.health.text
    rig.camera.announce()
    assert (rig.alerts[-1].level, rig.alerts[-1].reasons) == (Level.UNKNOWN, Reason.INVALID_INPUT)
    counts = rig.mailbox.counts("front")
    assert (counts.received, counts.judged, counts.dropped) == (3, 2, {"invalid": 1})
    rig.arrive()
    assert rig.work().level == Level.CLEAR and rig.camera.health.text == ""


def test_a_fault_before_the_judgement_is_forgiven_by_it():
    rig = Rig()
    rig.arrive(step=3)
    assert rig.alerts[-1].reasons == Reason.INVALID_INPUT
    rig.arrive()
    assert rig.work().level == Level.CLEAR


@pytest.mark.parametrize("broken", PLAIN)
def test_an_output_that_fails_costs_neither_the_frame_nor_its_alert_nor_the_others(broken):
    rig = Rig()

    def fail(message):
        raise RuntimeError("no room for it")
    rig.camera.outputs._dense[broken].publish = fail
    rig.arrive()
    assert rig.work().level == Level.CLEAR
    assert rig.camera.verdict(rig.camera.health.judged).level == Level.CLEAR
    counts = rig.mailbox.counts("front")
    assert (counts.judged, counts.dropped) == (1, {})
    assert rig.node.warnings == [f"front/{broken} was not published: RuntimeError: no room for it"]
    assert all(len(rig.node.published[name]) == (name != broken) for name in PLAIN)


def test_a_picture_that_cannot_be_drawn_costs_neither_the_frame_nor_its_alert(monkeypatch):
    monkeypatch.setattr(visuals, "overlay", lambda *_: np.zeros(1 << 62))
    rig = Rig()
    rig.arrive()
    assert rig.work().level == Level.CLEAR and rig.mailbox.counts("front").judged == 1
    assert "front/overlay was not published" in rig.node.warnings[0]


def test_the_stages_of_a_frame_add_up_to_its_way_through_the_node():
    rig = Rig()
    rig.meanwhile(lambda: time.sleep(0.03))    # in the monitor
    rig.arrive()
    time.sleep(0.02)                           # in the mailbox
    rig.work()
    ms = {kind: found["p50"] for kind, found in rig.pipeline.durations.percentiles().items()}
    assert ms["wait"] >= 20 and ms["alerts"] >= 30 and min(ms.values()) >= 0
    parts = sum(ms[kind] for kind in ("wait", "decode", "inference", "alerts", "publish"))
    assert parts <= ms["end_to_end"] < parts + 20
    assert abs(ms["overhead"] - (ms["end_to_end"] - ms["inference"])) < 1e-3
    assert abs(ms["service"] - (ms["end_to_end"] - ms["wait"] + ms["outputs"])) < 1e-3
    rig.pipeline.durations.clear()
    assert rig.pipeline.durations.percentiles() == {}
