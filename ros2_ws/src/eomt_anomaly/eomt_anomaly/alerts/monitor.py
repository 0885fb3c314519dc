# SPDX-License-Identifier: MIT
"""The Monitor: one camera's maps in, a level with its reasons and its obstacles out."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from .ground_plane import CameraModel
from .levels import Level, LevelMachine, Reason
from .maps import at_least, check_maps, reduced
from .params import MonitorParams
from .regions import Region, find_regions, scaled
from .surface import Surface, drivable_surface
from .tracks import Hypothesis, Track, Tracker

# Boxes (x, y, width, height, px), the most important first -> the anomaly map after a second look at them.
LookAgain = Callable[[Sequence[tuple[int, int, int, int]]], np.ndarray]


@dataclass(frozen=True)
class Sight:
    """One frame's regions in pixels of the image, most important first, `complete` unless there are more;
    the reasons not to judge the frame, and these in words; the corridor, see `MonitorResult`."""

    regions: list[Region]
    complete: bool
    doubts: Reason
    why: list[str]
    corridor: np.ndarray | None = None


@dataclass(frozen=True)
class MonitorResult:
    """What one frame, and those before it, say.

    level, reasons: reasons is NONE exactly when level is CLEAR.
    alerts: the confirmed tracks and the unconfirmed ones that raise CAUTION, most urgent first (level, then
        nearest).
    detail: for people and diagnostics: why the frame was not judged, why there are no positions; "" when all
        is well.
    corridor: bool [h, w], where an obstacle means STOP, of the picture reduced to `process_width`; None where
        the anomaly map was malformed.
    """

    level: Level
    reasons: Reason
    alerts: list[Track]
    detail: str = ""
    corridor: np.ndarray | None = field(default=None, compare=False, repr=False)


class Monitor:
    """Turns each frame of one camera into a level and its obstacles. One Monitor a camera; not thread-safe.

    The rules are in docs/alerts.md. In short: STOP for a confirmed track in the corridor (not known to be
    farther than `stop_distance_m`); CAUTION for any other confirmed track on the surface or its rim, and for
    an unconfirmed one in the corridor or of `caution_area_fraction` of the picture; CLEAR after
    `clear_frames` judged frames without any of these; UNKNOWN otherwise. A frame is not judged when its
    anomaly map is not finite or outside [0, 1], when too little of it is drivable, when something known that
    is no road fills its corridor, or when so much of the surface is anomalous that the network, not the road,
    is the likelier cause. Such a frame confirms nothing new, ends CLEAR at once, and keeps an obstacle that
    was already confirmed. Nor is a frame CLEAR that has more regions than are followed, or that comes more
    than `max_gap_s` after the last one.
    """

    def __init__(self, params: MonitorParams):
        self.params = params
        self._tracker = Tracker(
            confirm_hits=params.confirm_hits, confirm_window=params.confirm_window,
            coast_frames=params.coast_frames, min_iou=params.min_iou, max_shift=params.max_shift)
        self._machine = LevelMachine(params.clear_frames)
        self._corridor: tuple[tuple[int, int], CameraModel | None, np.ndarray] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all frames and tracks: UNKNOWN until `clear_frames` frames have been judged clean."""
        self._tracker.reset()
        self._machine.reset()
        self._last_stamp_s: float | None = None

    @property
    def level(self) -> Level:
        """The level after the newest frame."""
        return self._machine.level

    def update(self, class_map: np.ndarray, anomaly: np.ndarray, stamp_s: float,
               camera: CameraModel | None = None, ignore_mask: np.ndarray | None = None,
               look_again: LookAgain | None = None) -> MonitorResult:
        """Judge one frame.

        class_map: uint8 [H, W], class ids. anomaly: float32 [H, W] in [0, 1].
        stamp_s: seconds, later than the last frame's. Where stamps go back, call `reset` first.
        camera: calibration for the positions and the corridor, or None.
        ignore_mask: bool or uint8 [H, W], True or nonzero where the vehicle itself is seen, or None.
        look_again: asked once, if there are strong regions that no confirmed track accounts for, about these;
        the frame is then judged by the map that it returns, float32 [H, W] in [0, 1], but where a confirmed
        track's region is, by the higher of the two maps. What it raises passes through, and the frame counts
        as one that could not be judged.
        Raises ValueError for arrays of a wrong type or shape and for a stamp that does not advance; the frame
        then counts as one that could not be judged, so `level` is never CLEAR after it.
        """
        try:
            ignore = self._checked(class_map, anomaly, stamp_s, ignore_mask)
        except ValueError:
            self._machine.update(Level.UNKNOWN, Reason.INVALID_OUTPUT)
            raise
        reasons, details = Reason.NONE, []
        gap_s = 0.0 if self._last_stamp_s is None else stamp_s - self._last_stamp_s
        if gap_s > self.params.max_gap_s:
            details.append(f"{gap_s:.2f} s since the last frame; the past is forgotten")
            reasons |= Reason.TIME_JUMP
            self.reset()
        self._last_stamp_s = stamp_s

        camera, problem = self._usable(camera, class_map.shape)
        if camera is None and self.params.corridor.mode == "ground":
            details.append("no calibrated camera for the ground corridor: the whole picture counts as it")
        details += [problem] if problem else []
        seen = self._look(class_map, anomaly, camera, ignore)
        new = self._tracker.unaccounted(seen.regions) if look_again and not seen.doubts else []
        if look_again and (unsure := [region.box for region in new if region.strong]):
            known = [region.box for region in seen.regions if region not in new]
            try:
                anomaly = at_least(look_again(unsure), anomaly, known)
            except Exception:
                self._machine.update(Level.UNKNOWN, Reason.INFERENCE_ERROR)
                raise
            seen = self._look(class_map, anomaly, camera, ignore)
        details += seen.why
        if not seen.complete:
            details.append(f"more than max_regions = {len(seen.regions)} anomalous regions, the rest is not "
                           f"followed: the scene is unlike the training data, or threshold is too low")
            reasons |= Reason.INVALID_OUTPUT
        reasons |= seen.doubts
        hypotheses = self._tracker.update(seen.regions, stamp_s, trusted=not seen.doubts,
                                          complete=seen.complete)
        tracks = [self._track(h, stamp_s, camera, class_map.shape[0]) for h in hypotheses]
        large_px = self.params.caution_area_fraction * class_map.size
        alerts = sorted((t for t in tracks if self._raises(t, large_px)), key=_urgency)

        observed = max((t.level for t in alerts), default=Level.UNKNOWN if reasons else Level.CLEAR)
        if alerts:
            reasons |= Reason.OBSTACLE
        if any(t.in_corridor for t in alerts):
            reasons |= Reason.OBSTACLE_IN_CORRIDOR
        level = self._machine.update(observed, reasons)
        return MonitorResult(level, self._machine.reasons, alerts, "; ".join(details), seen.corridor)

    def unjudged(self, reason: Reason) -> None:
        """Count a frame whose maps never came (a bad message, a failed inference): CLEAR ends with it."""
        self._machine.update(Level.UNKNOWN, reason)

    def corridor_mask(self, shape: tuple[int, int], camera: CameraModel | None = None) -> np.ndarray:
        """The corridor, bool [rows, columns], for a picture of `shape`; kept until shape or camera change."""
        kept = self._corridor
        if not (kept and kept[0] == shape and (camera is kept[1] or (camera and camera.same_as(kept[1])))):
            self._corridor = kept = (shape, camera, self.params.corridor.mask(shape, camera))
        return kept[2]

    def _look(self, class_map: np.ndarray, anomaly: np.ndarray, camera: CameraModel | None,
              ignore: np.ndarray | None) -> Sight:
        """What a frame's maps show, before anything is known of the frames before it."""
        if not (anomaly.min() >= 0 and anomaly.max() <= 1):  # NaN compares as False
            why = ["anomaly has values that are not finite or outside [0, 1]"]
            return Sight([], True, Reason.INVALID_OUTPUT, why)
        p = self.params
        height, width = class_map.shape
        class_map, anomaly, ignore = reduced(class_map, anomaly, ignore, p.process_width)
        rows, columns = class_map.shape
        sx, sy = width / columns, height / rows
        surface = drivable_surface(class_map, p.drivable_ids, round(p.rim_fraction * columns), ignore)
        corridor = self.corridor_mask((rows, columns), camera)
        regions = find_regions(
            anomaly, surface, corridor, threshold=p.threshold,
            leave_threshold=p.leave_threshold, ignore=ignore,
            min_area_px=max(1.0, p.smallest_region_px(height, width) / (sx * sy)))
        doubts, why = self._doubts(surface, anomaly, corridor, ignore)
        if camera and p.corridor.mode != "image" and corridor.all():
            why.append(f"the corridor fills the picture: check the camera's height ({camera.height_m:g} m) "
                       f"and pitch ({math.degrees(camera.pitch_rad):g} degrees, positive looks down)")
        followed = [scaled(region, sx, sy) for region in islice(regions, p.max_regions)]
        return Sight(followed, next(regions, None) is None, doubts, why, corridor)

    def _doubts(self, surface: Surface, anomaly: np.ndarray, corridor: np.ndarray,
                ignore: np.ndarray | None) -> tuple[Reason, list[str]]:
        """Reasons not to judge a well-formed frame. `corridor`, `ignore`: bool [h, w]."""
        p = self.params
        if surface.fraction < p.min_drivable_fraction:
            return Reason.NO_DRIVABLE_SURFACE, [
                f"{surface.fraction:.1%} of the picture is drivable, less than {p.min_drivable_fraction:.1%}"]
        fires = anomaly >= p.threshold  # bool [h, w]
        visible = corridor if ignore is None else corridor & ~ignore  # bool [h, w]
        told = (surface.labelled | fires)[visible].mean() if visible.any() else 0.0
        if told < p.min_corridor_fraction and not corridor.all():
            return Reason.NO_DRIVABLE_SURFACE, [
                f"{told:.1%} of the visible corridor is drivable or anomalous, less than "
                f"{p.min_corridor_fraction:.1%}: something known fills it, or nothing known is below it"]
        anomalous = float(fires[surface.inner].mean()) if surface.inner.any() else 0.0
        if anomalous > p.max_anomalous_fraction:
            return Reason.INVALID_OUTPUT, [
                f"{anomalous:.0%} of the drivable surface is anomalous, more than "
                f"{p.max_anomalous_fraction:.0%}: the scene is unlike the training data, or threshold "
                f"{p.threshold:g} is too low"]
        return Reason.NONE, []

    def _track(self, h: Hypothesis, stamp_s: float, camera: CameraModel | None, height: int) -> Track:
        """`height`: of the picture, px."""
        region = h.region
        position = camera.ground_point(*region.contact) if camera else None
        distance = math.hypot(*position[:2]) if position else 0.0  # unknown counts as near
        near = distance <= self.params.stop_distance_m or region.box[1] + region.box[3] >= height  # or cut
        stops = h.confirmed and region.in_corridor and near
        if distance > self.params.max_position_m:
            position = None
        return Track(
            track_id=h.track_id, level=Level.STOP if stops else Level.CAUTION, confidence=h.confidence,
            confirmed=h.confirmed, in_corridor=region.in_corridor, box=region.box, area_px=region.area_px,
            mean_score=region.mean_score, peak_score=region.peak_score, centroid=region.centroid,
            contact=region.contact, on_drivable=region.on_drivable, position=position,
            position_source="none" if position is None else "ground_plane", age_s=stamp_s - h.born_s,
            frames_seen=h.frames_seen, frames_missed=h.frames_missed)

    def _raises(self, track: Track, large_px: float) -> bool:
        return (track.confirmed or track.area_px >= large_px
                or (track.in_corridor and track.frames_seen >= self.params.caution_hits))

    def _checked(self, class_map: np.ndarray, anomaly: np.ndarray, stamp_s: float,
                 ignore_mask: np.ndarray | None) -> np.ndarray | None:
        """Check `update`'s arguments; return the ignore mask as bool."""
        ignore = check_maps(class_map, anomaly, ignore_mask)
        if not math.isfinite(stamp_s):
            raise ValueError(f"stamp_s is {stamp_s}; give finite seconds")
        if self._last_stamp_s is not None and stamp_s <= self._last_stamp_s:
            raise ValueError(f"stamp_s is {stamp_s:.6f}, not later than the last frame's "
                             f"{self._last_stamp_s:.6f}; drop the frame, or reset() when time jumped back")
        return ignore

    def _usable(self, camera: CameraModel | None, shape: tuple[int, int]) -> tuple[CameraModel | None, str]:
        """The camera if positions can come from it, and otherwise why not."""
        if camera is None:
            return None, ""
        if camera.problem:
            return None, f"no positions: {camera.problem}"
        if (camera.height, camera.width) != shape:
            return None, (f"no positions: calibration is for {camera.width}x{camera.height} and the image is "
                          f"{shape[1]}x{shape[0]}; give the image its own CameraInfo")
        return camera, ""


def _urgency(track: Track) -> tuple[int, float, float]:
    """Sort key: STOP first, then the nearest, then the largest."""
    distance = track.distance_m
    return -int(track.level), math.inf if math.isnan(distance) else distance, -track.area_px
