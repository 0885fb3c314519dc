# SPDX-License-Identifier: MIT
"""Ground positions against points projected by OpenCV, which knows nothing of our inversion."""
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_anomaly.alerts import CameraModel, Corridor

K = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])
LENSES = {
    "plumb_bob": [-0.30, 0.10, 0.001, -0.0008, -0.01],
    "rational_polynomial": [0.9, 0.2, 0.0005, -0.0003, 0.02, 1.2, 0.35, 0.03],
    "equidistant": [-0.01, 0.006, -0.004, 0.001],
}


def project(points, height_m, pitch_rad, K=K, D=(), model="plumb_bob", R=None):
    """Pixels [N, 2] of base-frame points [N, 3], the long way round: move, turn, project with OpenCV."""
    x, y, z = np.asarray(points, float).T
    level = np.stack([-y, height_m - z, x], axis=-1)  # optical axes of a camera that looks straight ahead
    turn = cv2.Rodrigues(np.array([pitch_rad, 0, 0.0]))[0]  # pitching down turns the scene up in the picture
    rays = level @ turn.T if R is None else level @ turn.T @ np.asarray(R).T
    D, zero = np.asarray(D, float), np.zeros(3)
    if model == "equidistant":
        return cv2.fisheye.projectPoints(rays[:, None], zero, zero, K, D)[0][:, 0]
    return cv2.projectPoints(rays, zero, zero, K, D if D.size else None)[0][:, 0]


def camera(**changes):
    values = {"width": 1280, "height": 720, "K": K, "height_m": 1.5, "pitch_rad": 0.0}
    return CameraModel(**{**values, **changes})


grounds = st.tuples(st.floats(5, 20), st.floats(-3, 3))
pitches = st.floats(math.radians(-5), math.radians(15))


@pytest.mark.parametrize("model", LENSES)
@settings(max_examples=40, deadline=None)
@given(ground=grounds, pitch=pitches, height_m=st.floats(0.3, 3))
def test_raw_images_with_distortion(model, ground, pitch, height_m):
    point = np.array([[*ground, 0.0]])
    u, v = project(point, height_m, pitch, D=LENSES[model], model=model)[0]
    lens = camera(D=LENSES[model], distortion_model=model, height_m=height_m, pitch_rad=pitch)
    assert lens.problem is None
    found = lens.ground_point(u, v)
    assert math.dist(found, point[0]) < 0.01 * math.hypot(*ground)


@settings(max_examples=40, deadline=None)
@given(ground=grounds, pitch=pitches)
def test_rectified_images_agree_with_raw_ones(ground, pitch):
    point = np.array([[*ground, 0.0]])
    raw = camera(D=LENSES["plumb_bob"], pitch_rad=pitch)
    rectified = camera(D=LENSES["plumb_bob"], rectified=True, pitch_rad=pitch)
    from_raw = raw.ground_point(*project(point, 1.5, pitch, D=LENSES["plumb_bob"])[0])
    from_rectified = rectified.ground_point(*project(point, 1.5, pitch)[0])
    assert math.dist(from_raw, from_rectified) < 0.01 * math.hypot(*ground)
    assert math.dist(from_rectified, point[0]) < 0.001 * math.hypot(*ground)


def test_axes_x_forward_y_left_z_up():
    x, y, z = camera().ground_point(340, 500)
    assert x > 0 and y > 0 and z == 0, "left of the picture's middle is y > 0"


def test_one_degree_of_pitch_matters_and_is_honoured():
    pixel = project([[15, 0, 0]], 1.5, math.radians(2))[0]
    assert camera(pitch_rad=math.radians(2)).ground_point(*pixel)[0] == pytest.approx(15, rel=1e-3)
    assert camera(pitch_rad=math.radians(1)).ground_point(*pixel)[0] == pytest.approx(18.2, rel=0.02)


@given(u=st.floats(0, 1279), v=st.floats(0, 719), pitch=pitches)
def test_nothing_at_or_above_the_horizon(u, v, pitch):
    horizon = 360 - 710 * math.tan(pitch)  # row of the horizon for a camera without roll
    point = camera(pitch_rad=pitch).ground_point(u, v)
    if v <= horizon:
        assert point is None
    elif v > horizon + 3:
        assert point is not None and point[0] > 0


def test_fisheye_beyond_a_right_angle():
    wide = camera(K=[[300, 0, 640], [0, 300, 360], [0, 0, 1]], D=[0, 0, 0, 0], distortion_model="equidistant",
                  pitch_rad=math.radians(20))
    x, y, _ = wide.ground_point(640, 360 + 300 * math.radians(95))  # 25 degrees behind straight down
    assert (x, y) == (pytest.approx(-1.5 * math.tan(math.radians(25)), rel=1e-6), pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize(("changes", "named"), [
    ({"K": np.zeros((3, 3))}, "not calibrated"),
    ({"K": np.zeros(9)}, "not calibrated"),
    ({"K": np.full(9, np.nan)}, "finite"),
    ({"K": [1.0, 2.0]}, "3x3"),
    ({"K": K / 10}, "not an intrinsic"),
    ({"K": np.array([[700.0, 0, 1900], [0, 700, 1000], [0, 0, 1]])}, "outside"),
    ({"width": 0}, "size"),
    ({"D": [0.1, 0.2, 0.3]}, "plumb_bob needs 4 or 5"),
    ({"D": [0.1, 0.2, np.nan, 0.0]}, "finite"),
    ({"D": [0.1], "distortion_model": "thin_prism"}, "thin_prism"),
    ({"distortion_model": "thin_prism"}, "thin_prism"),
    ({"height_m": 0.0}, "height"),
    ({"height_m": math.nan}, "height"),
    ({"pitch_rad": 10.0}, "pitch"),
    ({"R": np.zeros((3, 3)), "rectified": True}, "rotation"),
])
def test_an_unusable_calibration_says_why_and_gives_no_position(changes, named):
    broken = camera(**changes)
    assert named in broken.problem
    assert broken.ground_point(640, 700) is None
    assert np.isnan(broken.ground_points(np.array([[640, 700], [0, 0]]))).all()


def camera_info(**changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    values = {"width": 1280, "height": 720, "k": K.ravel(), "d": LENSES["plumb_bob"], "r": np.eye(3).ravel(),
              "p": np.c_[K, np.zeros(3)].ravel(), "distortion_model": "plumb_bob", "binning_x": 0,
              "binning_y": 0, "roi": roi}
    return SimpleNamespace(**{**values, **changes})


def test_camera_info_raw_and_rectified():
    point = [[10, 1, 0]]
    raw = CameraModel.from_camera_info(camera_info(), rectified=False, height_m=1.5)
    u, v = project(point, 1.5, 0, D=LENSES["plumb_bob"])[0]
    assert raw.ground_point(u, v) == pytest.approx((10, 1, 0), rel=1e-3)
    rectified = CameraModel.from_camera_info(camera_info(), rectified=True, height_m=1.5)
    assert rectified.ground_point(*project(point, 1.5, 0)[0]) == pytest.approx((10, 1, 0), rel=1e-6)


def test_camera_info_with_a_rectification_rotation():
    R = cv2.Rodrigues(np.array([0.02, -0.01, 0.005]))[0]
    model = CameraModel.from_camera_info(camera_info(r=R.ravel()), rectified=True, height_m=1.5)
    assert model.ground_point(*project([[10, 1, 0]], 1.5, 0, R=R)[0]) == pytest.approx((10, 1, 0), rel=1e-6)


def test_camera_info_with_binning_and_region_of_interest():
    roi = SimpleNamespace(x_offset=100, y_offset=300, width=1000, height=400)
    model = CameraModel.from_camera_info(camera_info(binning_x=2, binning_y=2, roi=roi, d=[]),
                                         rectified=False, height_m=1.5)
    assert (model.width, model.height) == (500, 200)
    u, v = (project([[10, 1, 0]], 1.5, 0)[0] - (100, 300)) / 2
    assert model.ground_point(u, v) == pytest.approx((10, 1, 0), rel=1e-6)


def test_a_region_of_interest_need_not_hold_the_optical_axis():
    """A camera that leaves the sky out sends rows from below the horizon on: its axis is above them."""
    roi = SimpleNamespace(x_offset=0, y_offset=400, width=1280, height=320)
    model = CameraModel.from_camera_info(camera_info(roi=roi, d=[]), rectified=False, height_m=1.5)
    u, v = project([[10, 1, 0]], 1.5, 0)[0] - (0, 400)
    assert model.problem is None and model.ground_point(u, v) == pytest.approx((10, 1, 0), rel=1e-6)
    wrong = camera_info(roi=roi, d=[], k=(K * [[1, 1, 3], [1, 1, 1], [1, 1, 1]]).ravel())  # a larger camera's
    assert "1280x720" in CameraModel.from_camera_info(wrong, rectified=False, height_m=1.5).problem


def test_an_uncalibrated_camera_info_is_a_problem_not_an_error():
    info = camera_info(width=0, height=0, k=np.zeros(9), d=[], p=np.zeros(12), r=np.zeros(9),
                       distortion_model="")
    for rectified in (False, True):
        assert CameraModel.from_camera_info(info, rectified=rectified, height_m=1.5).problem


@pytest.mark.parametrize("model, D", [
    ("plumb_bob", [-0.4, 0.2, 0, 0, -0.05]), ("plumb_bob", [-0.3, 0.08, 0.001, 0.001, -0.01]),
    ("rational_polynomial", [-0.25, 0, 0, 0, 0, 0, 0, 0]), ("equidistant", [-0.2, 0.015, 0, 0])])
def test_where_the_lens_model_folds_back_there_is_no_position(model, D):
    """A wide picture's corners may lie beyond what the polynomial was fitted to: there it puts rays of the
    picture's other side, or from behind."""
    wide = camera(K=[[450, 0, 640], [0, 450, 360], [0, 0, 1]], D=D, distortion_model=model, pitch_rad=0.2)
    v, u = np.mgrid[:720:6, :1280:6]
    found = wide.ground_points(np.stack([u, v], -1).reshape(-1, 2)).reshape(*v.shape, 3)
    assert np.isnan(found[v < 200]).all(), "the sky"
    there = ~np.isnan(found[..., 0])
    assert there[v > 400].mean() > 0.3 and (found[..., 1] * (640 - u) >= 0)[there].all(), "left stays left"
    assert found[there][:, 0].min() > -1, "nothing in this picture is far behind the camera"
    assert not Corridor(mode="ground", half_width_m=3).mask((720, 1280), wide)[:200].any()


def test_ground_corridor_is_the_rectangle_on_the_road():
    lens = camera(D=LENSES["plumb_bob"], pitch_rad=math.radians(3))
    mask = Corridor(mode="ground", half_width_m=1.5, length_m=20).mask((360, 640), lens)
    for x, y, inside in ((6, 1.3, True), (6, 1.7, False), (15, -1.3, True), (15, -1.8, False), (19, 0, True),
                         (22, 0, False)):
        u, v = project([[x, y, 0]], 1.5, math.radians(3), D=LENSES["plumb_bob"])[0]
        assert mask[round((v + 0.5) / 2 - 0.5), round((u + 0.5) / 2 - 0.5)] == inside, (x, y)
    assert not mask[:100].any(), "no corridor in the sky"


def test_the_corridor_does_not_reach_behind_the_camera():
    wide = camera(K=[[200, 0, 640], [0, 200, 360], [0, 0, 1]], D=[0, 0, 0, 0], distortion_model="equidistant",
                  pitch_rad=math.radians(60))
    mask = Corridor(mode="ground").mask((720, 1280), wide)
    below = round(360 + 200 * math.radians(30))  # the row straight below the camera
    assert mask[below - 10, 640] and not mask[below + 10:].any()


def test_corridor_modes_without_a_usable_camera():
    broken = camera(K=np.zeros((3, 3)))
    polygon = Corridor(mode="image").mask((90, 160), camera())
    assert np.array_equal(Corridor().mask((90, 160), broken), polygon)
    assert np.array_equal(Corridor().mask((90, 160), None), polygon)
    assert Corridor(mode="ground").mask((90, 160), broken).all(), "the cautious reading"
    assert polygon[85, 80] and not polygon[85, 2] and not polygon[5].any()


def test_a_ground_corridor_outside_the_picture_is_the_whole_picture():
    skyward = camera(pitch_rad=math.radians(-40))  # the wrong sign
    for mode in ("ground", "auto"):
        assert Corridor(mode=mode).mask((90, 160), skyward).all()


@pytest.mark.parametrize(("changes", "named"), [
    ({"mode": "metres"}, "metres"), ({"half_width_m": 0}, "half_width_m"), ({"length_m": -1}, "length_m"),
    ({"half_width_m": math.nan}, "half_width_m"), ({"polygon": ((0, 0), (1, 1))}, "three"),
    ({"polygon": ((0, 0), (1, 0), (1, 2))}, "relative"),
    ({"polygon": ((0, 0), (1, 1), (0.5, 0.5))}, "no area"),
    ({"polygon": (0.1, 0.2, 0.3)}, "corners"),
])
def test_a_wrong_corridor_is_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        Corridor(**changes)
