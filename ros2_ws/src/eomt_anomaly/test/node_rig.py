# SPDX-License-Identifier: MIT
"""For the live tests: the detector in a process of its own over real DDS, and a client that talks to it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from eomt_anomaly.ros import processes
from eomt_anomaly.ros.conversions import image_message
from eomt_anomaly_msgs.msg import ObstacleAlertArray

HERE = Path(__file__).parent
SIZE = (60, 80)                                  # H, W
_detectors: set[int] = set()                     # domains where a detector runs, perhaps for a whole file


def next_domain() -> int:
    """A ROS domain that no other test uses now: of this process, or of another one of this user."""
    return next(domain for domain in _own_domains() if domain not in _detectors)


@functools.cache
def _own_domains():
    numbers = (1 + (10 * os.getpid() + k) % processes.DOMAINS for k in range(processes.DOMAINS))
    return itertools.cycle(list(itertools.islice(filter(processes._lock, numbers), 10)))


class FakeEngine:
    """The engine's interface over pictures that carry the answer, so that a test decides what is seen.

    Green pixels are road, blue ones sky; red ones are road with anomaly 0.9. A picture whose first pixel is
    (n, n, n) misbehaves: 1 raises, 2 hangs, 3 gives NaN (as the runtime reports it), 4 runs out of memory,
    5 takes 0.3 s, 6 hangs with Python's lock held, 7 ends the thread; 8 looks clean at the second look, and 9
    raises there. A checkpoint `missing` cannot be found,
    `slow` never gets ready, `rebuild` does so only the first time, `exits` ends the thread that builds it,
    and a path with a slash must exist.
    """

    labels = (SimpleNamespace(id=0, name="sky", color=(70, 130, 180), drivable=False),
              SimpleNamespace(id=1, name="road", color=(128, 64, 128), drivable=True))
    score, threshold, drivable_ids = "eomt_ext", 0.5, (1,)
    calibration = {"dataset": "fake val", "false_positive_rate": 0.003, "short_side": 320,
                   "date": "2026-01-02", "method": "quantile"}
    checkpoint_sha256, model_id, device = "0" * 64, "fake", "cpu"
    jpeg = choice = None
    batched, zoom = True, 2.0
    backend = "torch"

    def __init__(self, settings):
        self.short_side = settings.short_side or 320
        self.grid = self.short_side // 14
        self.precision = f"fp32 at {self.short_side} px"
        if settings.checkpoint == "missing":
            raise FileNotFoundError("checkpoint 'missing' is not a folder")
        if settings.checkpoint == "exits":
            raise SystemExit("told to exit")
        if settings.checkpoint == "slow" or settings.checkpoint == "rebuild" and self.short_side < 320:
            time.sleep(3600)
        if "/" in settings.checkpoint and not Path(settings.checkpoint).exists():
            raise FileNotFoundError(f"checkpoint {settings.checkpoint!r} is not there yet")

    def warmup(self, shapes, batch=1):
        pass

    def decode_jpeg(self, data, swapped):
        return None

    def look_again(self, image, anomaly, boxes):
        trick = set(image[0, 0].tolist())
        if trick == {9}:
            raise RuntimeError("the engine was told to fail at the second look")
        return np.full_like(anomaly, 0.01) if trick == {8} else anomaly

    def infer(self, images):
        return [self._one(image) for image in images]

    def gpu_memory(self):
        return {"reserved_mb": 512.0}

    def close(self):
        pass

    def _one(self, image):
        trick = set(image[0, 0].tolist())
        if trick == {1}:
            raise RuntimeError("the engine was told to fail")
        if trick == {2}:
            time.sleep(3600)
        if trick == {3}:
            raise type("NonFiniteOutput", (RuntimeError,), {})("NaN in the anomaly map")
        if trick == {4}:
            raise MemoryError("told to run out of memory")
        if trick == {5}:
            time.sleep(0.3)
        if trick == {6}:
            ctypes.PyDLL(None).sleep(3600)
        if trick == {7}:
            raise SystemExit
        red, _, blue = (image[..., channel] > 128 for channel in range(3))
        return SimpleNamespace(class_map=np.where(blue, 0, 1).astype(np.uint8),
                               anomaly=np.where(red & ~blue, 0.9, 0.01).astype(np.float32), timings_ms={})


def picture(obstacle=False, trick=None):
    """uint8 [H,W,3]: sky above, road below, and perhaps an obstacle in the middle of the road."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:20], image[20:] = (0, 0, 255), (0, 255, 0)
    if obstacle:
        image[40:52, 34:46] = (255, 0, 0)
    if trick:
        image[0, 0] = trick
    return image


class Client:
    """A node in the test's process, on the detector's domain: feeds pictures and collects what comes back."""

    def __init__(self, domain: int):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("client", context=self.context, enable_rosout=False)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.messages: dict[str, list] = {}
        self._publishers = {}

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def listen(self, topic, kind=ObstacleAlertArray, qos=10):
        """Collect messages of a topic; returns the list they end up in."""
        box = self.messages.setdefault(topic, [])
        self.node.create_subscription(kind, topic, box.append, qos)
        return box

    def publisher(self, kind, topic):
        if topic not in self._publishers:
            qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
            self.until(lambda: self._publishers[topic].get_subscription_count() > 0)
        return self._publishers[topic]

    def until(self, condition, seconds=60.0, meanwhile=None, every=0.05):
        """Spin until `condition()` holds, calling `meanwhile()` every so often; returns what it gave."""
        end, next_call = time.monotonic() + seconds, 0.0
        while not (result := condition()):
            assert time.monotonic() < end, f"waited {seconds} s in vain"
            if meanwhile and time.monotonic() >= next_call:
                next_call = time.monotonic() + every
                meanwhile()
            self.executor.spin_once(timeout_sec=0.02)
        return result

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def stamp(self, seconds_back=0.0):
        now = self.node.get_clock().now().nanoseconds - int(seconds_back * 1e9)
        header = Header(frame_id="optical")
        header.stamp.sec, header.stamp.nanosec = divmod(now, 1_000_000_000)
        return header

    def send(self, image, topic="/front/image_raw", **fields):
        """Publish one picture, with fields of the message replaced; returns its header."""
        msg = image_message(image, "rgb8", fields.pop("header", None) or self.stamp())
        for name, value in fields.items():
            setattr(msg, name, value)
        self.publisher(Image, topic).publish(msg)
        return msg.header

    def send_jpeg(self, image, topic="/front/image_raw/compressed", damage=bytes):
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        msg = CompressedImage(header=self.stamp(), format="jpeg", data=damage(data))
        self.publisher(CompressedImage, topic).publish(msg)
        return msg.header

    def send_info(self, topic="/front/camera_info"):
        height, width = SIZE
        info = CameraInfo(header=self.stamp(), width=width, height=height, distortion_model="plumb_bob")
        info.k = [80.0, 0.0, width / 2, 0.0, 80.0, height / 2, 0.0, 0.0, 1.0]
        info.p = [80.0, 0.0, width / 2, 0.0, 0.0, 80.0, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        self.publisher(CameraInfo, topic).publish(info)

    def call(self, kind, name, **fields):
        """Call a service; returns its response."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def level(self, level, seconds=60.0, topic="/detector/front/alerts", reasons=0, **kwargs):
        """Wait for a new alert with this level and (at least) these reason bits."""
        box = self.messages[topic] if topic in self.messages else self.listen(topic)
        self.spin(0.1)   # what is on its way was not caused by what follows
        seen = len(box)
        return self.until(lambda: next((m for m in box[seen:] if m.level == level
                                        and m.reasons & reasons == reasons), None),
                          seconds, **kwargs)


@contextlib.contextmanager
def detector(*args, fake=True, namespace="", environment=None, **parameters):
    """Run a detector; yields (process, client, log file). The process is always ended, by its id."""
    parameters = {"frozen_timeout": 0.0} | parameters      # most tests send one picture again and again
    domain = next_domain()
    program = [str(HERE / "node_rig.py")] if fake else ["-m", "eomt_anomaly.ros.detector"]
    command = [sys.executable, *program]
    command += ["--ros-args", *args]
    if namespace:
        command += ["-r", f"__ns:={namespace}"]
    for name, value in parameters.items():
        command += ["-p", f"{name.replace('__', '.')}:={value}"]
    env = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                        "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    with contextlib.ExitStack() as stack:
        _detectors.add(domain)
        stack.callback(_detectors.discard, domain)
        log = stack.enter_context(tempfile.NamedTemporaryFile("w+", suffix=".log"))
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(_end, process)
        client = Client(domain)
        stack.callback(client.close)
        try:
            yield process, client, Path(log.name)
        except BaseException:
            print(Path(log.name).read_text()[-4000:])
            raise


def _end(process):
    """SIGTERM first: a killed process leaves its shared memory behind."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    from eomt_anomaly.ros.detector import main

    sys.exit(main(make_engine=FakeEngine))
