# SPDX-License-Identifier: MIT
"""The Monitor on hand-made drives: what it says, and what it must never say."""
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from alerts_scenes import BUILDING, CAR, HEIGHT, PAVEMENT, ROAD, UNLABELED, WIDTH, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eomt_anomaly.alerts import CameraModel, Corridor, Level, Monitor, MonitorParams, Reason

IN_THE_WAY, BESIDE = (70, 70, 20, 12), (25, 60, 10, 8)
PARAMS = MonitorParams(drivable_ids=(ROAD,), threshold=0.5, min_area_px=9, caution_area_fraction=0.03)
N = PARAMS.clear_frames


class Drive:
    """A Monitor and its clock."""

    def __init__(self, params=PARAMS, **inputs):
        self.monitor, self.now, self.inputs = Monitor(params), 0.0, inputs

    def __call__(self, class_map, anomaly, times=1, step_s=0.1):
        for _ in range(times):
            self.now += step_s
            result = self.monitor.update(class_map, anomaly, self.now, **self.inputs)
        return result


def night():
    """Everything fires."""
    return scene()[0], np.full((HEIGHT, WIDTH), 0.8, np.float32)


def no_road():
    return np.full((HEIGHT, WIDTH), BUILDING, np.uint8), scene()[1]


def broken(value):
    class_map, anomaly = scene()
    anomaly[3, 5] = value
    return class_map, anomaly


def test_unknown_then_clear():
    drive = Drive()
    assert drive.monitor.level == Level.UNKNOWN
    early = drive(*scene(), times=N - 1)
    assert (early.level, early.reasons) == (Level.UNKNOWN, Reason.WARMING_UP)
    result = drive(*scene())
    assert (result.level, result.reasons, result.alerts, result.detail) == (Level.CLEAR, Reason.NONE, [], "")


def test_an_obstacle_in_the_corridor_is_caution_then_stop():
    drive = Drive()
    drive(*scene(), times=N)
    results = [drive(*scene(IN_THE_WAY)) for _ in range(3)]
    assert [r.level for r in results] == [Level.CAUTION, Level.CAUTION, Level.STOP]
    (track,) = results[-1].alerts
    assert track.track_id == 1 and track.box == IN_THE_WAY and track.in_corridor and track.confirmed
    assert track.level == Level.STOP and track.frames_seen == 3 and track.age_s == pytest.approx(0.2)
    assert track.confidence == pytest.approx(3 * 0.9 / 5)
    assert track.position is None and track.position_source == "none" and math.isnan(track.distance_m)
    assert results[-1].reasons == Reason.OBSTACLE | Reason.OBSTACLE_IN_CORRIDOR


def test_an_obstacle_beside_the_corridor_is_caution_once_confirmed():
    drive = Drive()
    drive(*scene(), times=N)
    results = [drive(*scene(BESIDE)) for _ in range(4)]
    assert [r.level for r in results] == [Level.CLEAR, Level.CLEAR, Level.CAUTION, Level.CAUTION]
    assert results[-1].reasons == Reason.OBSTACLE and not results[-1].alerts[0].in_corridor


def test_a_single_flicker_never_stops():
    drive = Drive()
    drive(*scene(), times=N)
    assert drive(*scene(BESIDE)).level == Level.CLEAR
    assert drive(*scene(IN_THE_WAY)).level == Level.CAUTION
    assert {drive(*scene()).level for _ in range(3 * N)} == {Level.CAUTION, Level.CLEAR}
    hesitant = Drive(replace(PARAMS, caution_hits=2))
    hesitant(*scene(), times=N)
    assert hesitant(*scene(IN_THE_WAY)).level == Level.CLEAR
    assert hesitant(*scene(IN_THE_WAY)).level == Level.CAUTION


def test_a_large_one_beside_the_corridor_is_caution_at_first_sight_and_no_stop():
    drive = Drive(replace(PARAMS, caution_area_fraction=0.005))
    drive(*scene(), times=N)
    assert drive(*scene((25, 60, 10, 7))).level == Level.CLEAR, "70 of 15360 pixels"
    assert drive(*scene(BESIDE)).level == Level.CAUTION, "80 of 15360"
    assert {drive(*scene(BESIDE)).level for _ in range(N)} == {Level.CAUTION}


def with_blobs(frame, blobs, score=0.45):
    """The frame with more anomaly (below the threshold) in boxes (x, y, width, height) px."""
    class_map, anomaly = frame
    for x, y, width, height in blobs:
        anomaly[y:y + height, x:x + width] = np.maximum(anomaly[y:y + height, x:x + width], score)
    return class_map, anomaly


@pytest.mark.parametrize(("obstacle", "level"), [((313, 300, 14, 12), Level.STOP),
                                                 ((84, 300, 14, 12), Level.CAUTION)])
def test_many_weak_regions_hide_no_obstacle(obstacle, level):
    columns = (*range(100, 210, 28), *range(420, 530, 28))
    blobs = [(x, y, 20, 20) for x in columns for y in range(160, 330, 22)]
    assert len(blobs) == 64
    drive = Drive(MonitorParams(drivable_ids=(ROAD,), threshold=0.5))
    frame = with_blobs(scene(obstacle, score=0.95, shape=(360, 640)), blobs)
    levels = [drive(*frame).level for _ in range(45)]
    assert Level.CLEAR not in levels and set(levels[2:]) == {level}


def test_more_regions_than_are_followed_is_not_clear_and_says_why():
    drive = Drive(replace(PARAMS, max_regions=3))
    blobs = [(x, 60, 4, 4) for x in (25, 35, 110, 120)]
    drive(*scene(), times=N)
    assert drive(*with_blobs(scene(), blobs[:3])).level == Level.CLEAR
    result = drive(*with_blobs(scene(), blobs))
    assert (result.level, result.reasons) == (Level.UNKNOWN, Reason.INVALID_OUTPUT)
    assert "max_regions = 3" in result.detail
    result = drive(*scene(*blobs, IN_THE_WAY), times=3)
    assert result.level == Level.STOP and Reason.INVALID_OUTPUT in result.reasons


cells = st.lists(st.tuples(st.integers(0, 12), st.integers(4, 7)), max_size=12, unique=True)  # of 12 px


@settings(max_examples=100, deadline=None)
@given(obstacle=st.sampled_from([IN_THE_WAY, BESIDE]), size=st.integers(3, 11), max_regions=st.integers(1, 8),
       crowds=st.lists(cells, min_size=1, max_size=3),
       frames=st.lists(st.tuples(st.sampled_from([0.45, 0.9]), st.integers(0, 2)), min_size=3, max_size=40))
def test_weak_regions_never_turn_an_alert_into_clear(obstacle, size, max_regions, crowds, frames):
    x, y, width, height = obstacle
    params = replace(PARAMS, max_regions=max_regions, clear_frames=3)
    plain, crowded = Drive(params), Drive(params)
    for score, crowd in frames:
        blobs = crowds[crowd % len(crowds)]
        apart = [box for box in ((12 * u, 12 * v, size, size) for u, v in blobs)
                 if not (x - 12 < box[0] <= x + width and y - 12 < box[1] <= y + height)]
        alone = plain(*scene(obstacle, score=score)).level
        amid = crowded(*with_blobs(scene(obstacle, score=score), apart)).level
        assert alone < Level.CAUTION or amid != Level.CLEAR


def test_a_track_is_not_missed_while_there_are_more_regions_than_are_followed():
    drive = Drive(replace(PARAMS, max_regions=1))
    drive(*scene(IN_THE_WAY), times=3)
    weak = scene(IN_THE_WAY, score=0.45)
    beside_it = scene((22, 50, 20, 24))[1]  # stronger and larger
    drive(weak[0], np.maximum(weak[1], beside_it), times=2 * N)
    assert drive(*weak, times=2 * N).level == Level.STOP


def test_anomalies_off_the_road_say_nothing():
    drive = Drive()
    assert drive(*scene((60, 5, 40, 20), (0, 60, 8, 8)), times=N).level == Level.CLEAR


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_an_invalid_anomaly_map_is_never_clear(value):
    drive = Drive()
    drive(*scene(), times=N)
    result = drive(*broken(value))
    assert (result.level, result.reasons) == (Level.UNKNOWN, Reason.INVALID_OUTPUT)
    assert "not finite or outside" in result.detail
    assert drive(*scene(), times=N - 1).level == Level.UNKNOWN
    assert drive(*scene()).level == Level.CLEAR


def test_the_ends_of_the_scale_are_valid():
    drive = Drive()
    class_map, anomaly = scene(IN_THE_WAY, score=1.0)
    anomaly[anomaly < 1] = 0.0
    assert drive(class_map, anomaly, times=3).level == Level.STOP


@pytest.mark.parametrize(("class_map", "anomaly", "named"), [
    (scene()[0].astype(np.int64), scene()[1], "class_map must be a uint8"),
    (scene()[0], scene()[1].astype(np.float64), "anomaly must be a float32"),
    (scene()[0][None], scene()[1], "class_map"),
    (scene()[0], scene()[1][:-1], "same shape"),
    (scene()[0].tolist(), scene()[1], "list"),
    (np.zeros((0, 5), np.uint8), np.zeros((0, 5), np.float32), "class_map"),
])
def test_arrays_of_a_wrong_kind_raise_and_end_clear(class_map, anomaly, named):
    drive = Drive()
    drive(*scene(), times=N)
    with pytest.raises(ValueError, match=named):
        drive(class_map, anomaly)
    assert drive.monitor.level == Level.UNKNOWN


def test_a_wrong_ignore_mask_raises():
    for mask in (np.zeros((2, 2), np.uint8), np.zeros((HEIGHT, WIDTH)), [[0]]):
        with pytest.raises(ValueError, match="ignore_mask"):
            Drive(ignore_mask=mask)(*scene())


def test_time_must_advance():
    drive = Drive()
    drive(*scene(), times=N)
    for stamp in (drive.now, drive.now - 1, math.nan):
        with pytest.raises(ValueError, match="stamp_s"):
            drive.monitor.update(*scene(), stamp)
    assert drive.monitor.level == Level.UNKNOWN
    drive.monitor.reset()
    assert drive.monitor.update(*scene(), 0.0).level == Level.UNKNOWN


def test_a_gap_forgets_the_past():
    drive = Drive()
    drive(*scene(), times=N)
    result = drive(*scene(), step_s=PARAMS.max_gap_s + 0.1)
    assert (result.level, result.reasons) == (Level.UNKNOWN, Reason.TIME_JUMP)
    assert "since the last frame" in result.detail
    assert drive(*scene(), times=N - 1).level == Level.UNKNOWN
    assert drive(*scene()).level == Level.CLEAR
    drive(*scene(IN_THE_WAY), times=3)
    result = drive(*scene(), step_s=PARAMS.max_gap_s + 0.1)
    assert (result.level, result.alerts) == (Level.UNKNOWN, []), "what stood there may be anywhere by now"


def test_no_drivable_surface_is_unknown_and_keeps_a_known_obstacle():
    drive = Drive()
    drive(*scene(), times=N)
    result = drive(*no_road())
    assert (result.level, result.reasons) == (Level.UNKNOWN, Reason.NO_DRIVABLE_SURFACE)
    assert "drivable" in result.detail
    drive(*scene(IN_THE_WAY), times=3)
    held = [drive(*no_road()).level for _ in range(PARAMS.coast_frames + N)]
    assert held == [Level.STOP] * (PARAMS.coast_frames + N - 1) + [Level.UNKNOWN]


def test_a_visible_obstacle_raises_even_where_little_road_is_left():
    drive = Drive(replace(PARAMS, min_drivable_fraction=0.3))
    drive(*scene(IN_THE_WAY), times=3)
    class_map, anomaly = scene(IN_THE_WAY)
    class_map[:, :60] = class_map[:, 100:] = BUILDING
    result = drive(class_map, anomaly, times=5)
    assert result.level == Level.STOP and Reason.NO_DRIVABLE_SURFACE in result.reasons


def filled_corridor(own_class, score):
    class_map, anomaly = scene()
    corridor = PARAMS.corridor.mask(class_map.shape, None)
    class_map[corridor], anomaly[corridor] = own_class, score
    assert (class_map == ROAD).mean() > 0.1, "there is road elsewhere"
    return class_map, anomaly


@pytest.mark.parametrize("own_class", [BUILDING, CAR, UNLABELED])
def test_a_corridor_that_something_known_fills_is_not_clear(own_class):
    drive = Drive()
    drive(*scene(), times=N)
    result = drive(*filled_corridor(own_class, 0.05))
    assert (result.level, result.reasons) == (Level.UNKNOWN, Reason.NO_DRIVABLE_SURFACE)
    assert "0.0% of the visible corridor" in result.detail
    assert drive(*filled_corridor(own_class, 0.05), times=3 * N).level == Level.UNKNOWN


@pytest.mark.parametrize("own_class", [BUILDING, CAR, ROAD, UNLABELED])
def test_a_corridor_that_something_unknown_fills_is_a_stop(own_class):
    assert Drive(replace(PARAMS, max_anomalous_fraction=1.0))(
        *filled_corridor(own_class, 0.99), times=3).level == Level.STOP


def test_an_obstacle_on_ground_of_another_class_stops_where_it_is_in_the_corridor():
    class_map, anomaly = scene((74, 75, 12, 10))
    class_map[70:] = np.where(class_map[70:] == ROAD, PAVEMENT, class_map[70:])
    assert Drive()(class_map, anomaly, times=3).level == Level.STOP


def test_a_corridor_outside_the_picture_is_everywhere_and_says_why():
    skyward = replace(CAMERA, pitch_rad=math.radians(-60))
    result = Drive(camera=skyward)(*scene(BESIDE), times=3)
    assert result.level == Level.STOP and "pitch (-60 degrees" in result.detail


def test_night_is_unknown_with_its_reason():
    drive = Drive()
    drive(*scene(), times=N)
    for _ in range(3 * N):
        result = drive(*night())
        assert (result.level, result.reasons, result.alerts) == (Level.UNKNOWN, Reason.INVALID_OUTPUT, [])
    assert "unlike the training data" in result.detail
    assert Drive()(*night()).level == Level.UNKNOWN


def test_night_does_not_release_an_obstacle_at_once():
    drive = Drive()
    drive(*scene(IN_THE_WAY), times=5)
    assert drive(*night()).level == Level.STOP


def test_an_obstacle_that_grows_over_the_whole_road_stays_a_stop():
    drive = Drive()
    levels = []
    for half in range(4, 60):
        top = max(30, 75 - half)
        levels.append(drive(*scene((80 - half, top, 2 * half, min(90, 80 + half // 2) - top))).level)
    assert set(levels[3:]) == {Level.STOP}
    assert drive.monitor.update(*night(), drive.now + 0.1).level == Level.STOP


CAMERA = CameraModel(width=WIDTH, height=HEIGHT, K=[100, 0, 80, 0, 100, 40, 0, 0, 1], height_m=1.5)


def test_position_and_distance():
    drive = Drive(camera=CAMERA)
    result = drive(*scene((74, 60, 12, 11)), times=3)  # it stands on row 70.5: 30.5 below the horizon
    (track,) = result.alerts
    assert track.position == pytest.approx((1.5 * 100 / 30.5, 0, 0), abs=0.05)
    assert track.position_source == "ground_plane"
    assert track.distance_m == pytest.approx(4.92, abs=0.05)
    assert result.level == Level.STOP and result.detail == ""


def test_a_known_distance_beyond_stop_distance_is_caution():
    params = replace(PARAMS, stop_distance_m=4.0)
    result = Drive(params, camera=CAMERA)(*scene((74, 60, 12, 11)), times=5)
    assert result.level == Level.CAUTION and result.alerts[0].in_corridor
    assert Drive(params)(*scene((74, 60, 12, 11)), times=5).level == Level.STOP, "unknown counts as near"


def test_what_the_lower_edge_cuts_stops_whatever_its_distance():
    """A camera of a long focal length sees the ground from 60 m on: what is cut there may be much nearer."""
    far = replace(CAMERA, K=np.array([[2000, 0, 80], [0, 2000, 48], [0, 0, 1.0]]), height_m=1.5)
    x, y, z = far.ground_point(80, HEIGHT - 0.5)
    assert x > PARAMS.stop_distance_m
    assert Drive(camera=far)(*scene((70, HEIGHT - 12, 20, 12)), times=3).level == Level.STOP
    assert Drive(camera=far)(*scene((70, HEIGHT - 14, 20, 12)), times=3).level == Level.CAUTION


def test_positions_too_far_to_mean_anything_are_left_out():
    params = replace(PARAMS, max_position_m=4.0)
    (track,) = Drive(params, camera=CAMERA)(*scene((74, 60, 12, 11)), times=3).alerts
    assert track.position is None


@pytest.mark.parametrize(("camera", "named"), [
    (CameraModel(width=WIDTH, height=HEIGHT, K=np.zeros(9), height_m=1.5), "not calibrated"),
    (CameraModel(width=320, height=192, K=[200, 0, 160, 0, 200, 80, 0, 0, 1], height_m=1.5), "320x192"),
    (CameraModel(width=WIDTH, height=120, K=[100, 0, 80, 0, 100, 60, 0, 0, 1], height_m=1.5), f"{WIDTH}x120"),
])
def test_an_unusable_camera_gives_no_position_and_says_why(camera, named):
    result = Drive(camera=camera)(*scene(IN_THE_WAY), times=3)
    assert result.level == Level.STOP and result.alerts[0].position is None
    assert "no positions" in result.detail and named in result.detail


def test_a_ground_corridor_without_a_camera_is_everywhere():
    params = replace(PARAMS, corridor=Corridor(mode="ground"))
    result = Drive(params)(*scene(BESIDE), times=3)
    assert result.level == Level.STOP and "corridor" in result.detail


def test_a_result_shows_the_corridor_it_was_judged_with():
    result = Drive(replace(PARAMS, process_width=WIDTH // 2))(*scene())
    assert np.array_equal(result.corridor, PARAMS.corridor.mask((HEIGHT // 2, WIDTH // 2), None))
    assert result.corridor.any() and not result.corridor.all()


def test_the_corridor_follows_a_camera_that_is_mounted_or_calibrated_anew():
    drive, wider = Drive(camera=CAMERA), np.array([[60, 0, 80], [0, 60, 40], [0, 0, 1]])
    for changed in ({"pitch_rad": 0.2}, {"height_m": 3.0}, {"K": wider}):
        for camera in (CAMERA, replace(CAMERA, **changed)):
            drive.inputs["camera"] = camera
            expected = PARAMS.corridor.mask((HEIGHT, WIDTH), camera)
            assert np.array_equal(drive(*scene()).corridor, expected)
        assert not np.array_equal(expected, PARAMS.corridor.mask((HEIGHT, WIDTH), CAMERA))


@pytest.mark.parametrize("masked", [False, True])
def test_a_corridor_that_is_the_whole_picture_need_not_be_full_of_road(masked):
    params = replace(PARAMS, corridor=Corridor(mode="ground"))
    class_map, anomaly = scene()
    class_map[:HEIGHT - 12] = BUILDING   # the road is 9 % of the picture, less than min_corridor_fraction
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[-3:, :20] = masked
    assert Drive(params, ignore_mask=ignore)(class_map, anomaly, times=N).level == Level.CLEAR


def test_the_vehicle_itself_raises_nothing():
    hood = (40, 80, 80, HEIGHT - 80)
    ignore = np.zeros((HEIGHT, WIDTH), np.uint8)
    ignore[80:] = 255
    assert Drive()(*scene(hood), times=N).level == Level.STOP
    assert Drive(ignore_mask=ignore)(*scene(hood), times=N).level == Level.CLEAR
    assert Drive(ignore_mask=np.ones_like(ignore))(*scene(), times=N).reasons == Reason.NO_DRIVABLE_SURFACE


def test_a_corridor_of_which_the_vehicle_hides_most_is_judged_by_the_rest():
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[HEIGHT // 2 + 8:] = True
    corridor = PARAMS.corridor.mask((HEIGHT, WIDTH), None)
    assert (corridor & ~ignore).sum() < PARAMS.min_corridor_fraction * corridor.sum()
    assert Drive(ignore_mask=ignore)(*scene(), times=N).level == Level.CLEAR


@pytest.mark.parametrize("edge", [640, 641])
def test_an_arm_before_the_camera_raises_nothing_where_pictures_are_reduced(edge):
    """A reduced pixel on the mask's edge is in part the vehicle; 0.9 and 0.05 are 0.475 in the mean."""
    class_map, anomaly = scene((edge - 80, 400, 80, 368), shape=(768, 1280))
    ignore = np.zeros((768, 1280), np.uint8)
    ignore[400:, edge - 80:edge] = 255
    drive = Drive(replace(PARAMS, threshold=0.4), ignore_mask=ignore)
    assert drive(class_map, anomaly, times=N).level == Level.CLEAR


def test_large_images_give_the_same_answer_in_their_own_pixels():
    box = (560, 560, 160, 96)
    result = Drive()(*scene(box, shape=(768, 1280)), times=3)
    assert result.level == Level.STOP
    (track,) = result.alerts
    assert np.allclose(track.box, box, atol=2) and track.area_px == pytest.approx(160 * 96, rel=0.03)
    assert track.contact == pytest.approx((640, 655.5), abs=2)


@pytest.mark.parametrize(("side", "level"), [(26, Level.STOP), (22, Level.UNKNOWN)])
def test_the_smallest_region_is_in_pixels_of_the_large_image(side, level):
    """0.0006 of 1280x768 are 590 px: 24.3 squared, of which the copy of half the size has a quarter."""
    assert Drive()(*scene((640, 640, side, side), shape=(768, 1280)), times=3).level == level


def test_the_most_urgent_comes_first():
    result = Drive(camera=CAMERA)(*scene(BESIDE, (76, 50, 8, 6), IN_THE_WAY), times=3)
    assert [t.level for t in result.alerts] == [Level.STOP, Level.STOP, Level.CAUTION]
    assert result.alerts[0].distance_m < result.alerts[1].distance_m


def test_inputs_are_left_as_they_were():
    class_map, anomaly = scene(IN_THE_WAY)
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[90:] = True
    for array in (class_map, anomaly, ignore):
        array.setflags(write=False)
    Drive(ignore_mask=ignore)(class_map, anomaly, times=2)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 90), columns=st.integers(1, 160),
       grain=st.integers(1, 12), process_width=st.sampled_from([64, 100, 640]), masked=st.booleans(),
       flipped=st.booleans())
def test_any_well_formed_maps_of_any_size(seed, rows, columns, grain, process_width, masked, flipped):
    random = np.random.default_rng(seed)

    def blocks(values):  # [rows, columns], constant over blocks of grain x grain
        return values.repeat(grain, axis=0).repeat(grain, axis=1)[:rows, :columns]

    classes = np.array([ROAD, ROAD, ROAD, BUILDING, 255], np.uint8)
    class_map = blocks(random.choice(classes, (rows, columns)))
    anomaly = blocks(random.random((rows, columns), np.float32) ** 4)
    if flipped:
        class_map, anomaly = class_map[::-1], anomaly[:, ::-1]
    ignore = blocks(random.random((rows, columns)) < 0.2) if masked else None
    params = replace(PARAMS, process_width=process_width, min_area_px=1, min_area_fraction=0)
    drive = Drive(params, ignore_mask=ignore)
    for _ in range(4):
        result = drive(class_map, anomaly)
        assert result.level != Level.CLEAR
        for track in result.alerts:
            x, y, width, height = track.box
            assert 0 <= x < x + width <= columns and 0 <= y < y + height <= rows
            assert 1 <= track.area_px <= width * height + 1
            assert -0.5 <= track.contact[0] <= columns - 0.5 and y <= track.contact[1] <= rows - 0.5
            assert PARAMS.leave_threshold - 1e-6 <= track.mean_score <= track.peak_score + 1e-6 <= 1 + 1e-6
            assert 0 <= track.confidence <= 1 and 0 <= track.on_drivable <= 1


def test_what_is_smaller_than_the_network_resolves_is_not_believed():
    """320x240 px seen with 12 patches of 20 px along the short side: 15x15 px are less than 0.75 of 400."""
    scene = np.full((240, 320), ROAD, np.uint8)
    for grid, size, levels in ((12, 15, {Level.CLEAR}), (12, 20, {Level.STOP}), (24, 15, {Level.STOP})):
        anomaly = np.zeros((240, 320), np.float32)
        anomaly[180:180 + size, 150:150 + size] = 0.9
        drive = Drive(replace(PARAMS, grid=grid, min_area_patches=0.75))
        assert {drive(scene, anomaly).level for _ in range(12)} - {Level.UNKNOWN, Level.CAUTION} == levels


def test_needs_neither_torch_nor_ros():
    code = "import sys, eomt_anomaly.alerts; assert not {'torch', 'rclpy'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


class MonitorStates(RuleBasedStateMachine):
    """Any drive: frames of every kind in any order, and the promises that hold for all of them."""

    def __init__(self):
        super().__init__()
        self.drive = Drive(PARAMS)
        self.past = []  # what each frame since the last reset was

    def show(self, kind, frame, times=1):
        for _ in range(times):
            result = self.drive(*frame)
            self.past.append(kind)
            assert (result.reasons == Reason.NONE) == (result.level == Level.CLEAR)
            assert result.level >= max((t.level for t in result.alerts), default=Level.UNKNOWN)
            confirmed_ahead = any(t.confirmed and t.in_corridor for t in result.alerts)
            assert not confirmed_ahead or result.level == Level.STOP
            self.promises()

    @rule(times=st.integers(1, 12))
    def clean(self, times):
        self.show("clean", scene(), times)

    @rule(times=st.integers(1, 4))
    def in_the_way(self, times):
        self.show("ahead", scene(IN_THE_WAY), times)

    @rule(times=st.integers(1, 4))
    def beside(self, times):
        self.show("beside", scene(BESIDE), times)

    @rule(x=st.integers(20, 130))
    def flicker(self, x):
        self.show("flicker", scene((x, 60, 8, 6)))

    @rule(kind=st.sampled_from([no_road, night, lambda: broken(np.nan), lambda: broken(2.0)]))
    def unjudged(self, kind):
        self.show("unjudged", kind())

    @rule()
    def wrong_type(self):
        with pytest.raises(ValueError, match="float32"):
            self.drive(scene()[0], scene()[1].astype(np.float64))
        self.past.append("unjudged")

    @rule()
    def gap(self):
        self.drive.now += PARAMS.max_gap_s
        self.past = []
        self.show("clean", scene())

    @rule()
    def reset(self):
        self.drive.monitor.reset()
        self.past = []
        assert self.drive.monitor.level == Level.UNKNOWN

    @invariant()
    def promises(self):
        level, past = self.drive.monitor.level, self.past
        if level == Level.CLEAR:
            assert len(past) >= N and not {"ahead", "unjudged"} & set(past[-N:])
        if past[-3:] == ["ahead"] * 3:
            assert level == Level.STOP
        if past[-3:] == ["beside"] * 3:
            assert level >= Level.CAUTION
        if past[-1:] == ["ahead"]:
            assert level >= Level.CAUTION
        quiet = PARAMS.reaction_frames().clear
        if len(past) >= quiet and set(past[-quiet:]) == {"clean"}:
            assert level == Level.CLEAR, "it does clear in the time promised"


MonitorStates.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMonitorStates = MonitorStates.TestCase


class Asked:
    """A second look that gives the map it is made with, and remembers what it was asked."""

    def __init__(self, anomaly):
        self.anomaly, self.boxes = anomaly, []

    def __call__(self, boxes):
        self.boxes.append(list(boxes))
        if isinstance(self.anomaly, Exception):
            raise self.anomaly
        return self.anomaly


def test_what_the_second_look_does_not_see_raises_nothing():
    class_map, anomaly = scene(IN_THE_WAY, BESIDE)
    again = Asked(scene(BESIDE)[1])
    drive = Drive(look_again=again)
    drive(*scene(), times=N)
    result = drive(class_map, anomaly)
    assert again.boxes == [[IN_THE_WAY, BESIDE]], "once, the one in the corridor first"
    assert (result.level, result.alerts) == (Level.CLEAR, [])
    assert [a.box for a in drive(class_map, anomaly, times=2).alerts] == [BESIDE]


def test_a_second_look_that_sees_it_too_changes_nothing_and_is_not_asked_about_what_is_confirmed():
    maps = scene(IN_THE_WAY)
    again = Asked(maps[1])
    drive, plain = Drive(look_again=again), Drive()
    for _ in range(6):
        assert drive(*maps) == plain(*maps)
    assert len(again.boxes) == PARAMS.confirm_hits


def test_a_second_look_at_something_new_takes_nothing_from_what_is_confirmed():
    again = Asked(scene(IN_THE_WAY)[1])
    drive = Drive(look_again=again)
    drive(*scene(IN_THE_WAY), times=PARAMS.confirm_hits)
    again.anomaly = scene()[1]
    result = drive(*scene(IN_THE_WAY, BESIDE), times=2 * PARAMS.coast_frames)
    assert again.boxes[-1] == [BESIDE] and np.array_equal(again.anomaly, scene()[1])
    (track,) = result.alerts
    assert (result.level, track.box, track.frames_missed) == (Level.STOP, IN_THE_WAY, 0)


def test_no_second_look_at_clean_or_weak_or_doubtful_frames():
    again = Asked(None)
    drive = Drive(look_again=again)
    weak = scene(IN_THE_WAY, score=(PARAMS.threshold + PARAMS.leave_threshold) / 2)
    for maps in (scene(), weak, night(), no_road(), broken(np.nan)):
        drive(*maps)
    assert not again.boxes


@pytest.mark.parametrize("answer", [RuntimeError("CUDA error"), np.full((HEIGHT, WIDTH), np.nan, np.float32)])
def test_a_second_look_that_fails_is_never_clear(answer):
    drive = Drive(look_again=Asked(answer))
    drive(*scene(), times=N)
    assert drive.monitor.level == Level.CLEAR
    if isinstance(answer, Exception):
        with pytest.raises(RuntimeError, match="CUDA error"):
            drive(*scene(IN_THE_WAY))
    else:
        drive(*scene(IN_THE_WAY))
    assert drive.monitor.level == Level.UNKNOWN
