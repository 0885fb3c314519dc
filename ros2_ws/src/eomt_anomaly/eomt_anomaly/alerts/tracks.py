# SPDX-License-Identifier: MIT
"""Tracks: the same region from frame to frame, confirmed by persistence, kept through short gaps."""
from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .levels import Level
from .regions import Region

Box = tuple[float, float, float, float]  # x, y, width, height, px
MAX_SIZE_RATIO = 8.0  # boxes whose areas differ more than this are matched by overlap only


@dataclass(frozen=True)
class Track:
    """One obstacle as the newest frame leaves it; pixels are those of the camera's image.

    track_id: ≥ 1, never used again until `Monitor.reset`.
    level: CAUTION or STOP.
    confidence: in [0, 1]: the sum of the peak scores over the last `confirm_window` frames, divided by
        `confirm_window`; frames in which it was not seen (or that came before it) count as zero.
    confirmed: seen in `confirm_hits` of `confirm_window` frames at some time.
    in_corridor: where it was last seen.
    box, area_px, mean_score, peak_score, centroid, contact, on_drivable: as in `Region`, when last seen.
    position: (x, y, z) metres of the contact point in the base frame, or None. Where the picture's edge cuts
        the obstacle, it may be nearer than this.
    position_source: "ground_plane", or "none" with position None.
    age_s: seconds since it was first seen. frames_seen: frames it was seen in. frames_missed: frames since.
    """

    track_id: int
    level: Level
    confidence: float
    confirmed: bool
    in_corridor: bool
    box: tuple[int, int, int, int]
    area_px: int
    mean_score: float
    peak_score: float
    centroid: tuple[float, float]
    contact: tuple[float, float]
    on_drivable: float
    position: tuple[float, float, float] | None
    position_source: str
    age_s: float
    frames_seen: int
    frames_missed: int

    @property
    def distance_m(self) -> float:
        """Distance on the ground from below the camera, metres; NaN where the position is not known."""
        return math.nan if self.position is None else math.hypot(*self.position[:2])


@dataclass
class Hypothesis:
    """A track in the making: the tracker's own memory of one region."""

    track_id: int
    born_s: float
    region: Region
    peaks: deque[float] = field(repr=False)  # peak scores of the last confirm_window frames, 0 where missed
    confirmed: bool = False
    frames_seen: int = 1
    frames_missed: int = 0
    velocity: tuple[float, float] = (0.0, 0.0)  # of the centroid, px a frame, from its last two sights

    @property
    def hits(self) -> int:
        """Frames of the window in which it was seen."""
        return sum(peak > 0 for peak in self.peaks)

    @property
    def confidence(self) -> float:
        """See `Track.confidence`."""
        assert self.peaks.maxlen is not None  # `Tracker` makes it confirm_window long
        return min(1.0, sum(self.peaks) / self.peaks.maxlen)


class Tracker:
    """Greedy association of regions with hypotheses, N-of-M confirmation, and coasting.

    A region is compared with where a hypothesis was last seen, and with where it is by now if it kept its
    velocity; the better one counts. Pairs are taken best first, each region and each hypothesis once: by
    overlap (IoU ≥ `min_iou`), and after those, for regions that moved by more than their size, by the
    distance of their centroids (at most `max_shift` times the mean diagonal of the two boxes, areas within
    `MAX_SIZE_RATIO`). Greedy is enough: anomalies are few and apart.

    A region that matches nothing starts a hypothesis if it is strong. It is confirmed once it was seen in
    `confirm_hits` of the last `confirm_window` frames; a weak region (hysteresis: leave threshold) keeps it
    going. An unconfirmed one is dropped when the window can no longer confirm it, a confirmed one after more
    than `coast_frames` frames missed in a row.
    """

    def __init__(self, *, confirm_hits: int, confirm_window: int, coast_frames: int, min_iou: float,
                 max_shift: float):
        self.confirm_hits, self.confirm_window, self.coast_frames = confirm_hits, confirm_window, coast_frames
        self.min_iou, self.max_shift = min_iou, max_shift
        self.reset()

    def reset(self) -> None:
        """Forget everything; ids start from 1 again."""
        self.hypotheses: list[Hypothesis] = []
        self._next_id = 1

    def update(self, regions: list[Region], stamp_s: float, trusted: bool = True,
               complete: bool = True) -> list[Hypothesis]:
        """Take one frame's regions; return the living hypotheses, oldest first.

        With `trusted` False (a frame that cannot be judged) regions keep confirmed tracks going, and start or
        confirm nothing. With `complete` False (there are more regions than these) no hypothesis counts as
        missed.
        """
        known = [h for h in self.hypotheses if trusted or h.confirmed]
        pairs = self._pairs(known, regions)
        seen = {id(hypothesis): region for hypothesis, region in pairs}
        for hypothesis in self.hypotheses:
            if complete or id(hypothesis) in seen:
                self._advance(hypothesis, seen.get(id(hypothesis)))
        self.hypotheses = [h for h in self.hypotheses if self._alive(h)]
        if trusted:
            taken = {id(region) for _, region in pairs}
            for region in regions:
                if region.strong and id(region) not in taken:
                    self._start(region, stamp_s)
        return list(self.hypotheses)

    def unaccounted(self, regions: list[Region]) -> list[Region]:
        """Those of the next frame's regions that continue no confirmed hypothesis; nothing is changed."""
        pairs = self._pairs([h for h in self.hypotheses if h.confirmed], regions)
        taken = {id(region) for _, region in pairs}
        return [region for region in regions if id(region) not in taken]

    def _pairs(self, known: list[Hypothesis], regions: list[Region]) -> list[tuple[Hypothesis, Region]]:
        scored = [(max(self._affinity(box, centroid, r) for box, centroid in _expected(h)), i, j)
                  for i, h in enumerate(known) for j, r in enumerate(regions)]
        scored = sorted((s for s in scored if s[0] > 0), key=lambda s: (-s[0], s[1], s[2]))
        pairs, used_known, used_regions = [], set(), set()
        for _, i, j in scored:
            if i not in used_known and j not in used_regions:
                used_known.add(i)
                used_regions.add(j)
                pairs.append((known[i], regions[j]))
        return pairs

    def _affinity(self, box: Box, centroid: tuple[float, float], new: Region) -> float:
        """1 + IoU where the boxes overlap enough; (0, 1] where the centroids are near; else 0."""
        overlap = iou(box, new.box)
        if overlap >= self.min_iou and overlap > 0:    # also where min_iou is 0
            return 1 + overlap
        sizes = sorted((box[2] * box[3], new.box[2] * new.box[3]))
        reach = self.max_shift * (math.hypot(*box[2:]) + math.hypot(*new.box[2:])) / 2
        if sizes[1] > MAX_SIZE_RATIO * sizes[0] or reach <= 0:
            return 0.0
        return max(0.0, 1 - math.dist(centroid, new.centroid) / reach)

    def _advance(self, hypothesis: Hypothesis, region: Region | None) -> None:
        hypothesis.peaks.append(region.peak_score if region else 0.0)
        if region is None:
            hypothesis.frames_missed += 1
            return
        frames, old = hypothesis.frames_missed + 1, hypothesis.region.centroid
        hypothesis.velocity = (region.centroid[0] - old[0]) / frames, (region.centroid[1] - old[1]) / frames
        hypothesis.region = region
        hypothesis.frames_seen += 1
        hypothesis.frames_missed = 0
        hypothesis.confirmed |= hypothesis.hits >= self.confirm_hits

    def _alive(self, hypothesis: Hypothesis) -> bool:
        allowed = self.coast_frames if hypothesis.confirmed else self.confirm_window - self.confirm_hits
        return hypothesis.frames_missed <= allowed

    def _start(self, region: Region, stamp_s: float) -> None:
        peaks = deque([region.peak_score], maxlen=self.confirm_window)
        confirmed = self.confirm_hits == 1
        self.hypotheses.append(Hypothesis(self._next_id, stamp_s, region, peaks, confirmed))
        self._next_id += 1


def _expected(h: Hypothesis) -> list[tuple[Box, tuple[float, float]]]:
    """Box and centroid where it was last seen, and where its velocity has taken it by this frame."""
    x, y, width, height = h.region.box
    du, dv = (speed * (h.frames_missed + 1) for speed in h.velocity)
    moved = (x + du, y + dv, width, height), (h.region.centroid[0] + du, h.region.centroid[1] + dv)
    return [(h.region.box, h.region.centroid), moved]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x, y, width, height), in [0, 1]."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
