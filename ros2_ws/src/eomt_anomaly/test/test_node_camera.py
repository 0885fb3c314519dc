# SPDX-License-Identifier: MIT
"""One camera without DDS: what comes while a frame is being judged, and outputs that fail after its alert."""

import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("eomt_anomaly_msgs", reason="build ros2_ws and source its install/setup.bash first")

from builtin_interfaces.msg import Time
from node_rig import SIZE, FakeEngine, picture
from rclpy.clock import Clock
from rclpy.duration import Duration
from sensor_msgs.msg import CameraInfo, CompressedImage
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

PARAMETERS = {"heartbeat_rate": 10.0, "stale_timeout": 10.0, "max_age": 10.0, "second_look": True,
              "frozen_timeout": 0.0,
              "front.image_topic": "front/image_raw", "front.transport": "auto",
              "front.camera_info_topic": "", "front.ignore_mask": "",
              "front.height_m": 0.0, "front.pitch_deg": 10.0, "front.rectified": False}
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

    def resolve_topic_name(self, topic):
        return topic

    def get_publishers_info_by_topic(self, topic):
        return []

    def get_clock(self):
        return self.clock

    def get_logger(self):
        log = SimpleNamespace(warning=lambda text, **_: self.warnings.append(text))
        log.get_child = lambda name: log
        return log


class OnGpu:
    """What a tensor on a GPU is to the node: a shape, and pixels that have to be fetched."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.fetched = pixels, pixels.shape, 0

    def numpy(self, force):
        self.fetched += 1
        return self.pixels


class GpuEngine(FakeEngine):
    """Decodes every JPEG that OpenCV can decode, as an engine with nvJPEG would, and remembers them."""

    def __init__(self, settings):
        super().__init__(settings)
        self.decoded = []

    def decode_jpeg(self, data, swapped):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)      # BGR
        if pixels is None:
            return None
        self.decoded.append(OnGpu(pixels if swapped else pixels[..., ::-1].copy()))
        return self.decoded[-1]

    def infer(self, images):
        return super().infer([image.pixels if isinstance(image, OnGpu) else image for image in images])

    def look_again(self, image, anomaly, boxes):
        return super().look_again(image.pixels if isinstance(image, OnGpu) else image, anomaly, boxes)


class Rig:
    """A camera with a real Monitor behind the real mailbox and worker."""

    def __init__(self, engine=FakeEngine):
        self.node, self.mailbox, self.gate = Node(), Mailbox(["front"]), Gate()
        self.gate.active = True
        self.camera = Camera(self.node, "front", PARAMETERS, self.mailbox, self.gate)
        self.camera.restart(MonitorParams(drivable_ids=(1,), threshold=0.5, clear_frames=1))
        self.camera.open("fake")
        self.pipeline = Pipeline({"front": self.camera})
        self.pipeline.look = LOOK
        self.worker = Worker(FakeEngine, None, [], self.mailbox, self.pipeline, lambda: Batching(1, 0.0))
        self.worker.engine = engine(EngineSettings(checkpoint=""))
        self.alerts = self.node.published["alerts"]

    def receive(self, message):
        """The callback of the subscription."""
        self.camera._on_image(message, {"publication_sequence_number": None})

    def arrive(self, pixels=None, **fields):
        """A picture (by default without an obstacle) comes, with fields of its message replaced."""
        header = Header(frame_id="optical", stamp=self.node.clock.now().to_msg())
        message = image_message(picture() if pixels is None else pixels, "rgb8", header)
        for name, value in fields.items():
            setattr(message, name, value)
        self.receive(message)

    def arrive_compressed(self, fmt="jpeg", extension=".jpg", damage=lambda data: data):
        """A compressed picture comes."""
        header = Header(frame_id="optical", stamp=self.node.clock.now().to_msg())
        data = damage(cv2.imencode(extension, picture(obstacle=True)[..., ::-1])[1].tobytes())
        self.receive(CompressedImage(header=header, format=fmt, data=data))

    def work(self):
        """The worker's turn."""
        self.worker._serve(self.mailbox.take(1, 0.0, 1.0))
        return self.alerts[-1]

    def meanwhile(self, do):
        """Let `do()` happen while the next frame is being judged."""
        monitor, update = self.camera._monitor, self.camera._monitor.update

        def interrupted(*args, **kwargs):
            monitor.update = update
            result = update(*args, **kwargs)
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


def test_only_a_finished_judgement_is_told_as_judged():
    rig = Rig()
    judged = rig.node.published["judged"]
    rig.arrive(step=3)                             # refused at once
    rig.camera.announce()                          # a heartbeat
    assert judged == []
    rig.arrive()
    assert judged == []
    header = rig.work().header
    assert judged == [header]
    rig.arrive()
    rig.worker.engine.infer = lambda images: []    # it fails
    assert rig.work().level == Level.UNKNOWN and judged == [header]


def test_a_fault_before_the_judgement_is_forgiven_by_it():
    rig = Rig()
    rig.arrive(step=3)
    assert rig.alerts[-1].reasons == Reason.INVALID_INPUT
    rig.arrive()
    assert rig.work().level == Level.CLEAR


def test_a_fault_that_comes_while_a_frame_waits_outlasts_its_judgement_but_not_the_next():
    rig = Rig()
    rig.arrive()
    rig.arrive(step=3)                             # after the picture that waits
    alert = rig.work()
    assert (alert.level, alert.reasons) == (Level.UNKNOWN, Reason.INVALID_INPUT)
    rig.arrive()
    assert rig.work().level == Level.CLEAR


def test_a_frame_that_fails_after_a_newer_one_came_is_forgiven_by_that_one():
    rig, infer = Rig(), FakeEngine.infer

    def fails(images):
        rig.worker.engine.infer = lambda images: infer(rig.worker.engine, images)
        rig.arrive()                               # while the first is with the engine
        return []
    rig.worker.engine.infer = fails
    rig.arrive()
    assert rig.work().reasons == Reason.INFERENCE_ERROR
    assert rig.work().level == Level.CLEAR


@pytest.mark.parametrize("height, width", [(31, 400), (400, 31), (1, 1)])
def test_a_picture_too_small_to_show_an_obstacle_is_never_clear(height, width):
    rig = Rig()
    rig.arrive(cv2.resize(picture(), (width, height)))
    alert = rig.work()
    assert (alert.level, alert.reasons) == (Level.UNKNOWN, Reason.INVALID_INPUT)
    assert f"{width} x {height} pixels" in rig.camera.health.text
    rig.arrive(cv2.resize(picture(), (32, 32)))
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
    for seconds in (1.0, 2.0, 3.0, 9.0):
        rig.pipeline.durations.add("wait", seconds)
    assert rig.pipeline.durations.percentiles()["wait"] == {"p50": 2e3, "p95": 9e3, "p99": 9e3}
    rig.pipeline.durations.clear()
    assert rig.pipeline.durations.percentiles() == {}


@pytest.mark.parametrize("fmt, extension, there", [
    ("jpeg", ".jpg", 1), ("rgb8; jpeg compressed bgr8", ".jpg", 1), ("rgb8; jpeg compressed rgb8", ".jpg", 1),
    ("png", ".png", 0)])
def test_a_jpeg_decoded_on_the_gpu_gives_the_outputs_of_one_decoded_on_the_cpu(fmt, extension, there):
    rigs = Rig(), Rig(GpuEngine)
    for rig in rigs:
        for _ in range(3):
            rig.arrive_compressed(fmt, extension)
            alert = rig.work()
        assert alert.level == rigs[0].alerts[-1].level and alert.level != Level.UNKNOWN
        assert rig.mailbox.counts("front").judged == 3 and not rig.node.warnings
    assert len(rigs[1].worker.engine.decoded) == 3 * there
    for name in ("overlay", "mask", "heatmap"):
        here, gpu = (rig.node.published[name] for rig in rigs)
        assert [message.data for message in here] == [message.data for message in gpu] and len(gpu) == 3
        assert (gpu[-1].height, gpu[-1].width) == picture().shape[:2]


def test_a_picture_on_the_gpu_is_fetched_only_for_an_output_with_a_reader():
    rig = Rig(GpuEngine)
    overlay = rig.camera.outputs._dense["overlay"]
    for readers, fetched in ((0, 0), (1, 1)):
        overlay.get_subscription_count = lambda readers=readers: readers
        rig.arrive_compressed()
        assert rig.work().level != Level.UNKNOWN
        assert rig.worker.engine.decoded[-1].fetched == fetched


@pytest.mark.parametrize("damage, words", [
    (lambda data: data[:-40], "no end mark"), (lambda data: data[2:], "cannot be decoded"),
    (lambda data: b"\xff\xd8" + bytes(200) + b"\xff\xd9", "cannot be decoded")])
@pytest.mark.parametrize("engine", [FakeEngine, GpuEngine])
def test_a_corrupt_jpeg_is_unknown_with_the_same_words_wherever_it_is_decoded(engine, damage, words):
    rig = Rig(engine)
    rig.arrive_compressed(damage=damage)
    if rig.mailbox.counts("front").pending:
        rig.work()
    assert (rig.alerts[-1].level, rig.alerts[-1].reasons) == (Level.UNKNOWN, Reason.INVALID_INPUT)
    assert words in rig.camera.health.text
    rig.arrive_compressed()
    assert rig.work().level != Level.UNKNOWN


def calibrated(monkeypatch, pitch_deg, frame_id="optical"):
    """A rig whose camera is 1.5 m up and looks down by `pitch_deg`; its CameraInfo is of `frame_id`."""
    monkeypatch.setitem(PARAMETERS, "front.height_m", 1.5)
    monkeypatch.setitem(PARAMETERS, "front.pitch_deg", pitch_deg)
    rig, (height, width) = Rig(), SIZE
    rig.camera.calibration.hear(CameraInfo(
        header=Header(frame_id=frame_id), width=width, height=height,
        k=[80.0, 0.0, width / 2, 0.0, 80.0, height / 2, 0.0, 0.0, 1.0]))
    return rig


def test_an_obstacle_without_a_position_sends_no_cloud(monkeypatch):
    """Its foot lies above the horizon of a camera whose pitch is wrong."""
    for pitch_deg, sizes in ((10.0, [0, 12, 12, 12]), (-60.0, [0])):
        rig = calibrated(monkeypatch, pitch_deg)
        for obstacle in (False, True, True, True):
            rig.arrive(picture(obstacle))
            alert = rig.work()
        assert alert.level == Level.STOP and alert.alerts[0].position_valid == (pitch_deg > 0)
        assert [cloud.width for cloud in rig.node.published["obstacles"]] == sizes


def test_a_frame_that_could_not_be_judged_sends_no_cloud_though_the_level_is_held(monkeypatch):
    rig, only_sky = calibrated(monkeypatch, 10.0), np.full_like(picture(), (0, 0, 255))
    for pixels in (*[picture(obstacle=True)] * 3, *[only_sky] * 3):
        rig.arrive(pixels)
        alert = rig.work()
    assert alert.level == Level.STOP and alert.reasons & Reason.NO_DRIVABLE_SURFACE
    assert len(rig.node.published["obstacles"]) == 3


@pytest.mark.parametrize("theirs", ["optical", "/optical", ""])   # as in tf1; a driver that leaves it empty
def test_a_calibration_of_the_pictures_frame_gives_positions(monkeypatch, theirs):
    rig = calibrated(monkeypatch, 10.0, theirs)
    for _ in range(3):
        rig.arrive(picture(obstacle=True))
        alert = rig.work()
    assert alert.level == Level.STOP and alert.alerts[0].position_valid
    assert len(rig.node.published["obstacles"]) == 3 and not rig.camera.detail and not rig.node.warnings


def test_a_calibration_of_another_frame_gives_none_and_says_why(monkeypatch):
    rig = calibrated(monkeypatch, 10.0, "left_optical")
    for _ in range(3):
        rig.arrive(picture(obstacle=True))
        alert = rig.work()
    words = "CameraInfo is of frame 'left_optical' and the pictures are of 'optical'"
    assert alert.level == Level.STOP and not alert.alerts[0].position_valid
    assert words in rig.camera.detail and words in rig.node.warnings[0]
    assert not rig.node.published["obstacles"]


def test_a_calibration_of_another_size_sends_no_cloud_that_says_free(monkeypatch):
    rig, (height, width) = calibrated(monkeypatch, 10.0), SIZE
    rig.camera.calibration.hear(CameraInfo(
        header=Header(frame_id="optical"), width=2 * width, height=2 * height,
        k=[160.0, 0.0, width, 0.0, 160.0, height, 0.0, 0.0, 1.0]))
    rig.arrive()
    assert rig.work().level == Level.CLEAR and rig.node.published["obstacles"] == []
    assert f"calibration is for {2 * width}x{2 * height}" in rig.camera.detail


def test_a_new_calibration_counts_whatever_messages_say_of_their_equality(monkeypatch):
    """Messages of Jazzy are equal where a single number of K is: the zeros always are."""
    rig = calibrated(monkeypatch, 10.0)
    monkeypatch.setattr(CameraInfo, "__eq__", lambda self, other: True)
    before, _ = rig.camera.calibration.of("optical")
    height, width = SIZE
    rig.camera.calibration.hear(CameraInfo(
        header=Header(frame_id="optical"), width=width, height=height,
        k=[60.0, 0.0, width / 2, 0.0, 60.0, height / 2, 0.0, 0.0, 1.0]))
    after, _ = rig.camera.calibration.of("optical")
    assert (before.K[0, 0], after.K[0, 0]) == (80.0, 60.0)
    monkeypatch.setitem(PARAMETERS, "front.height_m", 2.0)
    rig.camera.calibration.renew()
    assert rig.camera.calibration.of("optical")[0].height_m == 2.0


def test_a_camera_whose_height_is_known_misses_its_calibration(monkeypatch):
    rig = calibrated(monkeypatch, 10.0)
    rig.camera.calibration.forget()
    rig.arrive()
    rig.work()
    assert rig.camera.detail == "no positions: no CameraInfo has come on front/camera_info"


def test_a_restart_right_after_a_judgement_does_not_change_what_its_alert_speaks_of():
    rig = Rig()
    announce = rig.camera.announce

    def interrupted(received=None):
        rig.camera.announce = announce
        reset = threading.Thread(target=rig.camera.restart)      # as the executor may call it
        reset.start()
        reset.join(0.2)
        return announce(received)

    rig.arrive()
    rig.camera.announce = interrupted
    alert = rig.work()
    assert not alert.heartbeat and alert.level == Level.CLEAR
    assert alert.header == rig.node.published["judged"][-1]


def test_a_reset_during_a_judgement_makes_it_worthless():
    rig = Rig()
    rig.arrive()
    rig.meanwhile(lambda: (rig.camera.restart(), rig.camera.announce()))
    assert rig.work().reasons == Reason.NO_INPUT
    assert rig.mailbox.counts("front").dropped == {"stale": 1} and rig.node.published["judged"] == []


def test_a_judgement_is_as_old_as_its_picture_however_long_it_took(monkeypatch):
    monkeypatch.setitem(PARAMETERS, "stale_timeout", 0.1)
    rig = Rig()
    infer = rig.worker.engine.infer
    rig.worker.engine.infer = lambda images: time.sleep(0.15) or infer(images)
    rig.arrive()
    alert = rig.work()
    assert (alert.level, alert.reasons, alert.heartbeat) == (Level.UNKNOWN, Reason.STALE_INPUT, False)
    assert alert.input_age.nanosec > 0.15e9


def test_a_picture_older_than_max_age_is_not_judged(monkeypatch):
    monkeypatch.setitem(PARAMETERS, "max_age", 0.5)
    rig = Rig()
    for back, dropped in ((0.1, {}), (0.6, {"stale": 1})):
        rig.camera.restart()
        stamp = rig.node.clock.now() - Duration(seconds=back)
        rig.arrive(header=Header(frame_id="optical", stamp=stamp.to_msg()))
        alert = rig.work()
        assert rig.mailbox.counts("front").dropped == dropped
    assert alert.reasons == Reason.STALE_INPUT and "more than max_age 0.5 s" in rig.camera.health.text


def test_obstacles_are_not_repeated_where_a_fault_ends_the_level():
    rig = Rig()
    for _ in range(3):
        rig.arrive(picture(obstacle=True))
        alert = rig.work()
    rig.camera.announce()
    assert [(m.level, len(m.alerts)) for m in (alert, rig.alerts[-1])] == [(Level.STOP, 1)] * 2
    rig.arrive(step=3)
    assert (rig.alerts[-1].level, rig.alerts[-1].alerts) == (Level.UNKNOWN, [])


def test_a_picture_that_comes_twice_is_refused_and_after_a_restart_an_earlier_one_is_not():
    rig = Rig()
    earlier, stamp = (rig.node.clock.now() - Duration(seconds=back) for back in (0.5, 0.0))
    for restart, when, reasons in ((False, stamp, Reason.NONE), (False, stamp, Reason.INVALID_INPUT),
                                   (False, earlier, Reason.INVALID_INPUT), (True, earlier, Reason.NONE)):
        if restart:
            rig.camera.restart()
        rig.arrive(header=Header(frame_id="optical", stamp=when.to_msg()))
        alert = rig.work() if rig.mailbox.counts("front").pending else rig.alerts[-1]
        assert alert.reasons == reasons


@pytest.mark.parametrize("seconds, words", [(0, "the driver does not stamp its pictures"),
                                            (1000, "its stamps are of another clock: set use_sim_time")])
def test_pictures_without_a_stamp_and_of_another_clock_are_told_apart(seconds, words):
    rig = Rig()
    rig.arrive(header=Header(frame_id="optical", stamp=Time(sec=seconds)))
    assert rig.work().reasons == Reason.STALE_INPUT
    assert rig.camera.health.text.endswith(words)


@pytest.mark.parametrize("ahead_s, reasons", [(9.5, Reason.NONE), (10.5, Reason.INVALID_INPUT)])
def test_a_stamp_may_be_as_far_in_the_future_as_a_judgement_may_be_old(ahead_s, reasons):
    rig = Rig()                                                             # stale_timeout is 10 s
    stamp = rig.node.clock.now() + Duration(seconds=ahead_s)
    rig.arrive(header=Header(frame_id="optical", stamp=stamp.to_msg()))
    assert (rig.alerts[-1] if reasons else rig.work()).reasons == reasons


def test_a_driver_that_never_stamps_is_told_as_such_with_every_picture():
    rig = Rig()
    for came in range(3):
        rig.arrive(header=Header(frame_id="optical", stamp=Time()))
        alert = rig.work() if came == 0 else rig.alerts[-1]      # the first is too old, the others come twice
        assert alert.level == Level.UNKNOWN
        assert rig.camera.health.text.endswith("the driver does not stamp its pictures")


def test_an_ignore_mask_of_another_size_is_told_with_both_sizes_before_inference(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((30, 40), np.uint8))
    monkeypatch.setitem(PARAMETERS, "front.ignore_mask", str(tmp_path / "mask.png"))
    rig = Rig()
    rig.worker.engine.infer = None   # nobody may call it
    rig.arrive()
    told = rig.work()
    height, width = SIZE
    assert f"ignore_mask is 40x30 px, but the picture is {width}x{height}" in rig.node.warnings[-1]
    assert told.level == Level.UNKNOWN and told.reasons & Reason.INVALID_INPUT


def test_what_the_ignore_mask_covers_raises_nothing(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "mask.png"), (picture(obstacle=True)[..., :1] > 0) * np.uint8(255))
    monkeypatch.setitem(PARAMETERS, "front.ignore_mask", str(tmp_path / "mask.png"))
    rig = Rig()
    rig.arrive(picture(obstacle=True))
    assert rig.work().level == Level.CLEAR


def test_a_picture_that_comes_again_after_frozen_timeout_is_refused(monkeypatch):
    monkeypatch.setitem(PARAMETERS, "frozen_timeout", 0.1)
    rig = Rig()
    rig.arrive()
    assert rig.work().level == Level.CLEAR
    time.sleep(0.12)
    rig.arrive()
    assert (rig.alerts[-1].level, rig.alerts[-1].reasons) == (Level.UNKNOWN, Reason.STALE_INPUT)
    assert rig.mailbox.counts("front").dropped == {"frozen": 1}


def test_only_who_lets_pictures_in_says_that_none_has_come():
    rig = Rig()
    assert rig.camera.remark == "no Image has come on front/image_raw"
    rig.gate.active = False
    rig.arrive()
    assert rig.camera.remark == "" and rig.mailbox.counts("front").dropped == {"inactive": 1}
