# SPDX-License-Identifier: MIT
"""The Monitor's parameters, their ranges, and the reaction times that follow from them."""
from __future__ import annotations

from dataclasses import dataclass, field, fields

from .corridor import Corridor

# name: (lowest, highest, what it is); the node can declare its ROS parameters from this table.
RANGES: dict[str, tuple[float, float, str]] = {
    "threshold": (1e-6, 0.999999, "anomaly in (0, 1) at which a region may start a track"),
    "leave_ratio": (0.1, 1.0, "share of the threshold that keeps a region going (hysteresis)"),
    "rim_fraction": (0.0, 0.2, "width of the surface's rim, as a share of the image's width"),
    "min_area_px": (1, 10_000_000, "smallest region, pixels of the image"),
    "min_area_fraction": (0.0, 0.5, "smallest region, as a share of the image (the largest limit holds)"),
    "min_area_patches": (0.0, 100.0, "smallest region, in patches of the network (the largest limit holds)"),
    "min_drivable_fraction": (1e-6, 1.0, "least share of drivable pixels for a frame to be judged"),
    "min_corridor_fraction": (1e-6, 1.0, "least share of the corridor that is drivable or anomalous"),
    "max_anomalous_fraction": (0.01, 1.0, "largest anomalous share of the surface for a frame to be judged"),
    "stop_distance_m": (0.0, 1000.0, "an obstacle known to be farther is CAUTION, not STOP, metres"),
    "max_position_m": (1.0, 10_000.0, "positions farther than this are not reported, metres"),
    "confirm_hits": (1, 100, "frames in which a track must be seen to be confirmed ..."),
    "confirm_window": (1, 100, "... out of this many"),
    "caution_hits": (1, 100, "frames an unconfirmed track in the corridor must be seen in to raise CAUTION"),
    "caution_area_fraction": (0.0, 1.0, "share of the image at which a region raises CAUTION at first sight"),
    "coast_frames": (0, 1000, "missed frames in a row that a confirmed track outlives"),
    "clear_frames": (1, 1000, "judged, clean frames in a row before CLEAR"),
    "min_iou": (0.0, 1.0, "box overlap at which a region continues a track"),
    "max_shift": (0.0, 10.0, "centroid shift, in box diagonals, at which a region still continues a track"),
    "max_gap_s": (0.01, 3600.0, "seconds between frames after which the past is forgotten"),
    "process_width": (64, 8192, "images wider than this are reduced to it for finding regions, pixels"),
    "max_regions": (1, 1000, "most regions followed, strong ones first; a frame with more is not CLEAR"),
}
WHOLE = ("confirm_hits", "confirm_window", "caution_hits", "coast_frames", "clear_frames", "process_width",
         "max_regions")


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """Worst-case frames from a change in the scene to the level, the frame of the change counted as 1.

    caution: until CAUTION or STOP, for an obstacle in the corridor seen in every frame.
    caution_beside: until CAUTION, for one outside the corridor, smaller than `caution_area_fraction`, seen in
        every frame.
    stop: until STOP, for an obstacle in the corridor (and near enough) seen in every frame.
    stop_with_misses: the same, when it is missed as often as the confirmation allows.
    clear: until CLEAR, for an obstacle that is gone: the first frame without it counted as 1.
    """

    caution: int
    caution_beside: int
    stop: int
    stop_with_misses: int
    clear: int

    def seconds(self, rate_hz: float) -> dict[str, float]:
        """The same in seconds at `rate_hz` judged frames a second, the wait for the first included."""
        return {item.name: getattr(self, item.name) / rate_hz for item in fields(self)}


@dataclass(frozen=True, kw_only=True)
class MonitorParams:
    """Parameters of `Monitor`; ranges and meanings in `RANGES`. Frozen: use `dataclasses.replace` for others.

    drivable_ids: class ids (0..254) of the surface, from the checkpoint (`Engine.drivable_ids`).
    threshold: from the checkpoint's calibration (`Engine.threshold`) or chosen by the user.
    grid: patches of the network along the image's short side (`Engine.grid`); 0: not known, and
        `min_area_patches` then sets no limit.
    corridor: see `Corridor`.
    Raises ValueError naming the parameter, its value and the range it must have.
    """

    drivable_ids: tuple[int, ...]
    threshold: float
    grid: int = 0
    leave_ratio: float = 0.8
    rim_fraction: float = 0.02
    min_area_px: float = 40
    min_area_fraction: float = 0.0006
    min_area_patches: float = 0.75
    min_drivable_fraction: float = 0.02
    min_corridor_fraction: float = 0.15
    max_anomalous_fraction: float = 0.5
    corridor: Corridor = field(default_factory=Corridor)
    stop_distance_m: float = 40.0
    max_position_m: float = 100.0
    confirm_hits: int = 3
    confirm_window: int = 5
    caution_hits: int = 1
    caution_area_fraction: float = 0.004
    coast_frames: int = 4
    clear_frames: int = 10
    min_iou: float = 0.1
    max_shift: float = 1.5
    max_gap_s: float = 2.0
    process_width: int = 640
    max_regions: int = 32

    def __post_init__(self):
        for name, (lowest, highest, meaning) in RANGES.items():
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and lowest <= value <= highest):
                raise ValueError(f"{name} is {value!r} ({meaning}); give one in [{lowest:g}, {highest:g}]")
            if name in WHOLE and value != int(value):
                raise ValueError(f"{name} is {value!r} ({meaning}); give a whole number")
            if name in WHOLE:
                object.__setattr__(self, name, int(value))
        ids = tuple(int(i) for i in self.drivable_ids)
        if not ids or not all(0 <= i <= 254 for i in ids):
            raise ValueError(f"drivable_ids is {self.drivable_ids!r}; give class ids in 0..254")
        object.__setattr__(self, "drivable_ids", ids)
        if type(self.grid) is not int or self.grid < 0:
            raise ValueError(f"grid is {self.grid!r}; give the patches along the image's short side, "
                             "or 0 where that is not known")
        if self.confirm_hits > self.confirm_window:
            raise ValueError(f"confirm_hits is {self.confirm_hits} and confirm_window {self.confirm_window}: "
                             f"no track could ever be confirmed; give confirm_hits ≤ confirm_window")
        if self.caution_hits > self.confirm_hits:
            raise ValueError(f"caution_hits is {self.caution_hits}, above confirm_hits {self.confirm_hits}: "
                             f"STOP would come before CAUTION; give caution_hits ≤ confirm_hits")

    @property
    def leave_threshold(self) -> float:
        """The lower threshold of the hysteresis."""
        return self.threshold * self.leave_ratio

    def smallest_region_px(self, height: int, width: int) -> float:
        """The smallest region that counts in an image of this size, px: the largest of the three limits."""
        patch_px = min(height, width) / self.grid if self.grid else 0.0   # side of a patch
        return max(1.0, self.min_area_px, self.min_area_fraction * height * width,
                   self.min_area_patches * patch_px * patch_px)

    def reaction_frames(self) -> Reaction:
        """Worst-case reaction in judged frames; see `Reaction`."""
        held = max(self.coast_frames, self.confirm_window - self.confirm_hits)  # outliving its obstacle
        return Reaction(caution=self.caution_hits, caution_beside=self.confirm_hits, stop=self.confirm_hits,
                        stop_with_misses=self.confirm_window, clear=held + self.clear_frames)
