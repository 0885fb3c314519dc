# SPDX-License-Identifier: MIT
"""The node's services: switch it off and on, forget the past, set the threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from eomt_anomaly_msgs.srv import SetThreshold

if TYPE_CHECKING:
    from .node import Detector


class Services:
    """Creates `~/enable`, `~/reset` and `~/set_threshold` on the detector."""

    def __init__(self, detector: Detector):
        self._detector = detector
        detector.create_service(SetBool, "~/enable", self._enable)
        detector.create_service(Trigger, "~/reset", self._reset)
        detector.create_service(SetThreshold, "~/set_threshold", self._set_threshold)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._detector.enable(request.data)
        response.success = True
        response.message = "enabled" if request.data else "disabled: alerts say UNKNOWN"
        return response

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._detector.reset()
        response.success, response.message = True, "tracks, levels and durations forgotten"
        return response

    def _set_threshold(self, request: SetThreshold.Request,
                       response: SetThreshold.Response) -> SetThreshold.Response:
        wanted = -1.0 if math.isnan(request.threshold) else float(request.threshold)
        result = self._detector.set_parameters([Parameter("threshold", Parameter.Type.DOUBLE, wanted)])[0]
        response.success, response.message = result.successful, result.reason or "threshold set"
        response.threshold = self._detector.threshold_in_force()
        return response
