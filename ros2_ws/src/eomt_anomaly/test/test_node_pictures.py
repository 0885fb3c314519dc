# SPDX-License-Identifier: MIT
"""Overlays, markers and clouds as pure functions of a frame's results."""

import numpy as np
import pytest

pytest.importorskip("visualization_msgs.msg", reason="ROS 2 message packages are not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from std_msgs.msg import Header

from eomt_anomaly.alerts import CameraModel, Level, Reason, Track
from eomt_anomaly.report.lettering import put_text
from eomt_anomaly.ros.pointcloud import cloud_message, ground_to_optical, obstacle_points
from eomt_anomaly.ros.visuals import CORRIDOR_COLOR, LEVEL_COLOR, colored, markers, overlay, palette

HEADER = Header(frame_id="optical")
K = np.array([[400.0, 0, 320], [0, 400.0, 180], [0, 0, 1]])


def camera(height=1.4, pitch=0.15):
    return CameraModel(width=640, height=360, K=K, height_m=height, pitch_rad=pitch)


def track(u=300, v=320, size=20, position=None, level=Level.STOP):
    return Track(track_id=7, level=level, confidence=0.8, confirmed=True, in_corridor=True,
                 box=(u, v - size, size, size), area_px=size * size, mean_score=0.7, peak_score=0.9,
                 centroid=(u + size / 2, v - size / 2), contact=(u + size / 2, float(v)), on_drivable=1.0,
                 position=position, position_source="none" if position is None else "ground_plane", age_s=1.0,
                 frames_seen=4, frames_missed=0)


@settings(max_examples=50, deadline=None)
@given(u=st.floats(0, 639), v=st.floats(200, 359), height=st.floats(0.3, 5), pitch=st.floats(0.0, 1.2))
def test_a_ground_point_in_the_optical_frame_projects_onto_its_pixel(u, v, height, pitch):
    model = camera(height, pitch)
    point = model.ground_point(u, v)
    if point is None:
        return
    x, y, z = ground_to_optical(np.array([point]), model)[0]
    assert z > 0
    assert K[0, 0] * x / z + K[0, 2] == pytest.approx(u, abs=1e-3)
    assert K[1, 1] * y / z + K[1, 2] == pytest.approx(v, abs=1e-3)


def test_the_cloud_stands_on_the_obstacles_lower_edge():
    model = camera()
    points = obstacle_points([track(position=model.ground_point(310, 320)), track()], model)
    assert points.dtype == np.float32 and (points[:, 3] == np.float32(0.9)).all()
    pixels = points[:, :2] / points[:, 2:3] * 400 + (320, 180)
    foot = points[: len(points) // 3]
    assert np.allclose((foot[:, 1] / foot[:, 2]) * 400 + 180, 320, atol=0.01)
    assert pixels[:, 0].min() > 295 and pixels[:, 0].max() < 325
    assert pixels[:, 1].min() < 300      # the posts rise above the ground


def test_the_readers_of_ros_understand_the_cloud():
    reader = pytest.importorskip(
        "sensor_msgs_py.point_cloud2", reason="sensor_msgs_py comes with a full ROS 2 only, not from PyPI")
    points = np.arange(20, dtype=np.float32).reshape(5, 4)
    read = reader.read_points_numpy(cloud_message(points, HEADER), ["x", "y", "z", "score"])
    np.testing.assert_array_equal(read, points)


def test_a_cloud_without_obstacles_is_well_formed():
    cloud = cloud_message(obstacle_points([], camera()), HEADER)
    assert (cloud.width, cloud.height, cloud.row_step, len(cloud.data)) == (0, 1, 0, 0)
    cloud = cloud_message(np.ones((5, 4), np.float32), HEADER)
    assert len(cloud.data) == cloud.row_step * cloud.height == cloud.point_step * cloud.width == 80
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "score"]


def test_markers_need_a_position():
    model = camera()
    array = markers([track(position=model.ground_point(310, 320)), track()], model, HEADER, 1.5).markers
    assert [(marker.ns, marker.id) for marker in array[1:]] == [("obstacle", 7), ("caption", 7)]
    assert array[1].lifetime.sec == 1 and array[1].lifetime.nanosec == 500_000_000
    assert len(markers([track()], None, HEADER, 1.0).markers) == 1


def test_the_overlay_shows_classes_glow_box_and_level():
    rgb = np.full((360, 640, 3), 100, np.uint8)
    classes = np.zeros((360, 640), np.uint8)
    anomaly = np.zeros((360, 640), np.float32)
    anomaly[300:320, 300:320] = 0.9
    table = palette([(0, 0, 200)])
    out = overlay(rgb, classes, anomaly, table, 0.5, 0.5, [track()], Level.STOP, Reason.OBSTACLE)
    assert out.shape == rgb.shape and out.dtype == np.uint8
    assert abs(out[200, 100].astype(int) - (50, 50, 150)).max() <= 1              # half picture, half class
    assert out[310, 310, 0] > 150 and out[310, 310, 2] < 150                      # glowing
    assert out[319, 305].tolist() == list(LEVEL_COLOR[Level.STOP])                # box
    assert out[2, 630].tolist() == list(LEVEL_COLOR[Level.STOP])                  # banner
    assert (rgb == 100).all() and (anomaly[0] == 0).all()                         # inputs untouched


def test_the_overlay_shows_the_corridor_unless_it_is_the_whole_picture():
    rgb, classes = np.full((360, 640, 3), 100, np.uint8), np.zeros((360, 640), np.uint8)
    anomaly, table = np.zeros((360, 640), np.float32), palette([(0, 0, 0)])
    corridor = np.zeros((180, 320), bool)
    corridor[100:150, 60:200] = True

    def shown(mask):
        return overlay(rgb, classes, anomaly, table, 0.0, 0.5, [], Level.CLEAR, Reason.NONE, mask)

    line = (shown(corridor) == CORRIDOR_COLOR).all(axis=2)
    rows, columns = np.nonzero(line)
    around = np.array([rows.min(), rows.max(), columns.min(), columns.max()])
    assert abs(around - (200, 299, 120, 399)).max() <= 1
    assert not line[220:280, 140:380].any()
    for nothing in (None, np.ones((180, 320), bool)):
        assert not (shown(nothing) == CORRIDOR_COLOR).all(axis=2).any()


def test_ids_without_a_class_are_black():
    assert colored(np.array([[0, 1, 255]], np.uint8), palette([(1, 2, 3), (4, 5, 6)])).tolist() == [
        [[1, 2, 3], [4, 5, 6], [0, 0, 0]]]


@pytest.mark.parametrize("scale", [0.6, 1.1, 2.5])
def test_words_have_an_edge_and_read_on_any_ground(scale):
    for ground in (0, 255):
        picture = np.full((120, 600, 3), ground, np.uint8)
        put_text(picture, "STOP 7 m", (10, 90), scale, np.array([255, 255, 255]))
        rows, columns = np.nonzero((picture < 30).all(2) if ground else (picture > 140).all(2))
        assert len(rows) > 40 * scale, "white words on white, or on black"
        assert 90 - 35 * scale < rows.min() < rows.max() < 90 + 5 * scale + 2
        assert columns.min() < 10 + 10 * scale
