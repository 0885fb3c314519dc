# SPDX-License-Identifier: MIT
"""One camera: what comes in, what is known of it, and what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from eomt_anomaly_msgs.msg import ObstacleAlert, ObstacleAlertArray

from ..alerts import Monitor, MonitorParams, Reason
from . import qos
from .alert_messages import alert, alert_array
from .calibration import Calibration
from .conversions import InvalidInput, check, to_rgb
from .frozen import Unchanged
from .gaps import Gaps
from .gate import Gate
from .health import Health, Verdict
from .ignore_mask import check_mask, read_mask
from .mailbox import Drop, Frame, Mailbox
from .parameters import Parameters
from .publishers import Look, Outputs
from .refusals import Refused

JUMP_S = 1.0   # stamps that go back by less are old or repeated frames; by more, time itself has jumped
MIN_SIDE = 32  # px; no obstacle could be made out in less, so nothing may be called CLEAR
UNSTAMPED = "the driver does not stamp its pictures"


class Camera:
    """Callbacks run in the executor's thread, `admit` and `judge` in the worker's, `announce` in any."""

    def __init__(self, node: LifecycleNode, name: str, parameters: Parameters, mailbox: Mailbox, gate: Gate,
                 told: Callable[[ObstacleAlertArray], Any] = lambda _: None):
        """`told` hears every alert that was published, perhaps with this camera's lock held."""
        self.name, self.health = name, Health()
        self.outputs = Outputs(node, name, 1.0 / parameters["heartbeat_rate"])
        self._judged = node.create_publisher(Header, f"~/{name}/judged",
                                             qos.judged(parameters["stale_timeout"]))
        self._node, self._parameters, self._mailbox, self._gate = node, parameters, mailbox, gate
        self._told = told
        self._log = node.get_logger().get_child(name)   # each throttled for itself
        self._lock = threading.RLock()
        self._subscriptions: list[Any] = []
        self._monitor: Monitor | None = None
        self._ignore: np.ndarray | None = None
        self._epoch = 0
        self._missed = Reason.NONE              # why frames since the last judged one were not
        self._missed_came = 0.0                 # when the newest of them came
        self._last_stamp: int | None = None     # ns, of the newest good message
        self.calibration = Calibration(name, parameters, self._log)
        self._model_id = ""
        self._header = Header()                     # of the last judged frame, as its alerts
        self._alerts: list[ObstacleAlert] = []
        self.detail = ""                            # the Monitor's remark on the last judged frame
        self._awaited = ""                          # topic and type of the pictures

    # ---- life ----

    def open(self, model_id: str) -> None:
        """Create the topics. Raises ValueError for an ignore mask that cannot be read."""
        own = {key: self._parameters[f"{self.name}.{key}"]
               for key in ("image_topic", "transport", "camera_info_topic", "ignore_mask")}
        self._ignore = read_mask(self.name, own["ignore_mask"])
        self._model_id = model_id
        topic = own["image_topic"].rstrip("/")
        kind = own["transport"]
        compressed = kind == "compressed" or kind == "auto" and topic.endswith("/compressed")
        if compressed and not topic.endswith("/compressed"):
            topic += "/compressed"
        self.calibration.topic = own["camera_info_topic"].rstrip("/") or camera_info_topic(topic)
        self.outputs.open()
        self._unchanged = Unchanged()
        resolved = self._node.resolve_topic_name(topic)
        self._awaited = f"no {'CompressedImage' if compressed else 'Image'} has come on {resolved}"
        self._gaps = Gaps(lambda: {tuple(publisher.endpoint_gid) for publisher
                                   in self._node.get_publishers_info_by_topic(resolved)})
        override = QoSOverridingOptions.with_default_policies()
        for kind, name, callback in ((CompressedImage if compressed else Image, topic, self._on_image),
                                     (CameraInfo, self.calibration.topic, self.calibration.hear)):
            self._subscriptions.append(self._node.create_subscription(
                kind, name, callback, qos.camera_input(), qos_overriding_options=override))

    def close(self) -> None:
        """Remove the topics; alerts go on."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        self.outputs.close()
        self.calibration.forget()
        self._ignore = None
        self._model_id = self._awaited = ""

    def restart(self, params: MonitorParams | None = None, fault: Reason = Reason.NONE,
                text: str = "") -> None:
        """Forget input, tracks and level (new rules, an activation, a reset, a time jump)."""
        with self._lock:
            if params is None and self._monitor is not None:
                params = self._monitor.params
            self._monitor = None if params is None else Monitor(params)   # the worker may use the old one
            self._epoch += 1
            self._last_stamp, self._missed = None, fault
            self.health.reset(fault, text)
            self._header, self._alerts, self.detail = Header(), [], ""

    # ---- messages in ----

    def _on_image(self, msg: Image | CompressedImage, info: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if lost := self._gaps.before(info.get("publication_sequence_number")):
            self._mailbox.refuse(self.name, Drop.TRANSPORT, lost)
        if (shut := self._gate.drop()) is not None:
            self._mailbox.refuse(self.name, shut)
            return
        with self._lock:
            self.health.arrival(now)
            try:
                check(msg)
                age = self._check_stamp(msg.header, now)
            except InvalidInput as error:
                self._mailbox.refuse(self.name, Drop.INVALID)
                self._fault(Reason.INVALID_INPUT, str(error), now)
                return
            limit = self._parameters["frozen_timeout"]
            if limit and (still := self._unchanged.seconds(msg.data, now)) > limit:
                self._mailbox.refuse(self.name, Drop.FROZEN)
                self._fault(Reason.STALE_INPUT, "pictures have not changed in a single byte for "
                            f"{still:.1f} s: the camera hangs; where it has no noise (a simulator), set "
                            "frozen_timeout to 0.0", now)
                return
            self._mailbox.put(Frame(self.name, msg, now, age, self._epoch))

    def _check_stamp(self, header: Header, now: float) -> float:
        """The stamp's age in seconds at `now`; restarts the camera where time has jumped back."""
        stamp = stamp_ns(header)
        age = (self._node.get_clock().now().nanoseconds - stamp) / 1e9
        if age < -self._parameters["stale_timeout"]:
            raise InvalidInput(f"the stamp is {-age:.3f} s in the future: synchronise the clocks, or set "
                               "use_sim_time as the source of the pictures does")
        if self._last_stamp is not None and stamp <= self._last_stamp:
            back = (self._last_stamp - stamp) / 1e9
            if back < JUMP_S:
                why = "frames come twice or out of order" if stamp else UNSTAMPED
                raise InvalidInput(f"the stamp is {back:.3f} s before or at the last one: {why}")
            self.restart(fault=Reason.TIME_JUMP, text=f"stamps went back by {back:.1f} s")
            self.health.arrival(now)
            self.announce()
        self._last_stamp = stamp
        return age

    # ---- frames through the worker ----

    def admit(self, frame: Frame, engine: Any) -> Any:
        """See `worker.Handler`."""
        self._refuse_outdated(frame)
        age = frame.age(time.monotonic())
        if age > self._parameters["max_age"]:
            hint = "" if age < 3600 else "; its stamps are of another clock: set use_sim_time" \
                if stamp_ns(frame.message.header) else f"; {UNSTAMPED}"
            raise Refused(Drop.STALE, Reason.STALE_INPUT, f"a frame was {age:.2f} s old before inference, "
                          f"more than max_age {self._parameters['max_age']:g} s{hint}")
        try:
            rgb = to_rgb(frame.message, engine.decode_jpeg)
            if min(rgb.shape[:2]) < MIN_SIDE:
                raise InvalidInput(f"the picture is {rgb.shape[1]} x {rgb.shape[0]} pixels: sides under "
                                   f"{MIN_SIDE} show no obstacle, have the driver publish larger ones")
            check_mask(self._ignore, rgb)
        except InvalidInput as error:
            raise Refused(Drop.INVALID, Reason.INVALID_INPUT, str(error)) from error
        return rgb

    def judge(self, frame: Frame, rgb: Any, prediction: Any, look: Look, engine: Any) -> float:
        """Draw the conclusions and publish them; return the seconds from stamp to publication."""
        def again(boxes: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
            started = time.monotonic()
            prediction.anomaly = engine.look_again(rgb, prediction.anomaly, boxes)   # pictures show it too
            frame.stages["second_look"] = time.monotonic() - started
            return prediction.anomaly

        header, begun = frame.message.header, time.monotonic()
        with self._lock:
            self._refuse_outdated(frame)
            monitor = self._monitor
            assert monitor is not None   # no frame comes before the first `restart`
            missed, self._missed = self._missed, Reason.NONE
            newer = missed if self._missed_came > frame.received else Reason.NONE   # while this one waited
        if missed:
            monitor.unjudged(missed)
        model, uncalibrated = self.calibration.of(header.frame_id)
        twice = self._parameters["second_look"] and engine.zoom != 1
        usable = model if model is not None and model.problem is None and \
            (model.height, model.width) == rgb.shape[:2] else None
        result = monitor.update(prediction.class_map, prediction.anomaly, stamp_ns(header) / 1e9, model,
                                self._ignore, again if twice else None)
        with self._lock:   # not held meanwhile: the heartbeat must never wait for the worker
            self._refuse_outdated(frame)
            now = time.monotonic()
            self.health.judgement(now, frame.age(now), result.level, result.reasons, newer | self._missed)
            self._header = header
            self.detail = "; ".join(filter(None, (result.detail, uncalibrated)))
            self._alerts = [alert(track, usable, header.frame_id) for track in result.alerts]
            decided = time.monotonic()
            verdict = self.announce(received=frame.received)   # a reset may come only after it
        announced = time.monotonic()
        self._judged.publish(header)   # only here: it asserts that the worker lives
        self.outputs.publish(header, rgb, prediction, result, verdict, usable, look)
        done = time.monotonic()
        alerts = decided - begun - frame.stages.get("second_look", 0.0)
        frame.stages.update(alerts=alerts, publish=announced - decided, outputs=done - announced,
                            end_to_end=announced - frame.received)
        return frame.age(done)

    def refused(self, frame: Frame, why: Refused) -> None:
        """A frame was not judged; say so at once."""
        if why.reason:
            with self._lock:
                self._fault(why.reason, str(why), frame.received)

    def _refuse_outdated(self, frame: Frame) -> None:
        if (shut := self._gate.drop()) is not None:
            raise Refused(shut, Reason.NONE, "")
        if frame.epoch != self._epoch:
            raise Refused(Drop.STALE, Reason.NONE, "")

    # ---- alerts out ----

    def announce(self, received: float | None = None) -> Verdict:
        """Publish the alerts as they stand: of the frame that came at `received`, or as a heartbeat."""
        def message(sequence: int) -> ObstacleAlertArray:
            header = self._header
            if self.health.judged is None:
                header = Header(stamp=self._node.get_clock().now().to_msg())
            return alert_array(
                header, self.name, verdict, self._alerts if verdict.level or received else [],
                sequence=sequence, model_id=self._model_id, heartbeat=received is None,
                input_age=self.health.input_age(now), latency=None if received is None else now - received,
                inference_age=None if self.health.judged is None else now - self.health.judged)

        with self._lock:
            now = time.monotonic()
            verdict = self.verdict(now)
            self._told(self.outputs.alerts.publish(message))
        return verdict

    @property
    def remark(self) -> str:
        """What there is to say of the level: the fault, the Monitor's remark, or what it waits for."""
        waits = self.health.arrived is None and self._gate.drop() is None   # shut out, they come to nobody
        return self.health.text or self.detail or (self._awaited if waits else "")

    def verdict(self, now: float) -> Verdict:
        """The level now."""
        with self._lock:
            return self.health.verdict(now, self._parameters["stale_timeout"], self._gate.reasons())

    def _fault(self, reason: Reason, text: str, came: float) -> None:
        self.health.failed(reason, text)
        self._missed, self._missed_came = self._missed | reason, max(self._missed_came, came)
        self._log.warning(f"{self.name}: {text}", throttle_duration_sec=5.0)
        self.announce()


def stamp_ns(header: Header) -> int:
    """The stamp in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def camera_info_topic(image_topic: str) -> str:
    """`camera_info` beside the pictures: a/image_raw and a/image_raw/compressed → a/camera_info."""
    base = image_topic.removesuffix("/compressed")
    return base.rpartition("/")[0] + "/camera_info" if "/" in base else "camera_info"
