# SPDX-License-Identifier: MIT
"""Where the obstacle cloud puts a known box on flat ground, and what a wrong pitch does to it."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 message packages are not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_anomaly.alerts import CameraModel, Monitor, MonitorParams
from eomt_anomaly.ros.pointcloud import HEIGHTS_M, obstacle_points
from eomt_anomaly.ros.publishers import DENSE

WIDTH, HEIGHT, FOCAL = 1280, 720, 900.0
K = np.array([[FOCAL, 0, 639.5], [0, FOCAL, 359.5], [0, 0, 1]])
PARAMS = MonitorParams(drivable_ids=(3,), threshold=0.5, process_width=WIDTH)
NAV2 = Path(__file__).resolve().parents[4] / "docs" / "nav2.md"
needs_docs = pytest.mark.skipif(not NAV2.exists(), reason="the package stands alone, without docs/")


def camera_to_base(height_m, pitch_rad):
    """[3,3], [3]: a point of the optical frame in the base frame, by the mounting alone, as TF would say."""
    ahead = (math.cos(pitch_rad), 0.0, -math.sin(pitch_rad))  # the optical axes in the base frame
    down = (-math.sin(pitch_rad), 0.0, -math.cos(pitch_rad))
    return np.array([(0.0, -1.0, 0.0), down, ahead]).T, np.array([0.0, 0.0, height_m])


def range_with_pitch_error(distance_m, height_m, error_rad):
    """Where a point so far ahead is put, m, by a camera that is thought to look down `error_rad` too far."""
    below = math.atan2(height_m, distance_m) + error_rad
    return height_m / math.tan(below) if below > 0 else math.inf


def face(x, y, width, tall):
    """The corners [4,3] of a box's face towards the camera, base frame, m."""
    return np.array([(x, y + s * width / 2, z) for z in (0.0, tall) for s in (1, -1)])


def see(corners, height_m, pitch_rad):
    """Class map and anomaly of a camera that sees a face on a road, and nothing else."""
    turn, eye = camera_to_base(height_m, pitch_rad)
    seen = (corners - eye) @ turn  # optical frame
    pixels = seen[:, :2] / seen[:, 2:] * FOCAL + K[:2, 2]
    anomaly = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillConvexPoly(anomaly, cv2.convexHull(np.round(pixels).astype(np.int32)), 0.9)
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[max(0, math.ceil(K[1, 2] - FOCAL * math.tan(pitch_rad))):] = 3
    return classes, anomaly


def in_costmap(corners, height_m, pitch_rad, believed_pitch=None):
    """The cloud's points [N,3] in the base frame, as a costmap gets them through a correct TF tree."""
    believed = pitch_rad if believed_pitch is None else believed_pitch
    model = CameraModel(width=WIDTH, height=HEIGHT, K=K, height_m=height_m, pitch_rad=believed)
    monitor = Monitor(PARAMS)
    for n in range(PARAMS.confirm_hits):
        result = monitor.update(*see(corners, height_m, pitch_rad), n / 10, model)
    turn, eye = camera_to_base(height_m, believed)
    return obstacle_points(result.alerts, model)[:, :3] @ turn.T + eye


@settings(max_examples=60, deadline=None)
@given(distance=st.floats(5, 20), across=st.floats(-1.5, 1.5), height_m=st.floats(1.2, 2.0),
       pitch=st.floats(math.radians(2), math.radians(10)), width=st.floats(0.4, 1.5))
def test_a_box_at_5_to_20_m_is_placed_within_5_percent(distance, across, height_m, pitch, width):
    points = in_costmap(face(distance, across, width, 0.8), height_m, pitch)
    foot = points[: len(points) // len(HEIGHTS_M)]
    assert len(foot) > 1
    assert np.abs(foot[:, 0] - distance).max() < 0.05 * distance
    middle, wide = (foot[:, 1].min() + foot[:, 1].max()) / 2, np.ptp(foot[:, 1])
    assert math.dist((foot[:, 0].mean(), middle), (distance, across)) < 0.05 * math.hypot(distance, across)
    assert abs(wide - width) < 0.05 * distance
    assert np.allclose(sorted(set(np.round(points[:, 2], 3))), HEIGHTS_M, atol=2e-3), "posts on the ground"


@settings(max_examples=30, deadline=None)
@given(distance=st.floats(5, 20), error=st.floats(-0.5, 0.5))
def test_a_wrong_pitch_moves_the_cloud_as_the_formula_says(distance, error):
    height_m, pitch, wrong = 1.5, math.radians(5), math.radians(error)
    points = in_costmap(face(distance, 0.0, 0.8, 0.8), height_m, pitch, pitch + wrong)
    expected = range_with_pitch_error(distance, height_m, wrong)
    assert points[:, 0].mean() == pytest.approx(expected, rel=0.06)


def test_pitch_errors_by_hand():
    assert range_with_pitch_error(10, 1.5, 0) == pytest.approx(10)
    assert range_with_pitch_error(1.5, 1.5, math.radians(-15)) == pytest.approx(1.5 * math.sqrt(3))
    assert math.isinf(range_with_pitch_error(20, 1.0, math.radians(-3))), "the ray no longer meets the ground"


@needs_docs
def test_the_documented_table_is_the_formula():
    rows = re.findall(r"^\| ([+-][\d.]+)° \|(.*)\|$", NAV2.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 4
    for degrees, cells in rows:
        for distance, cell in zip((5, 10, 15, 20), cells.split("|"), strict=True):
            found = range_with_pitch_error(distance, 1.5, math.radians(float(degrees)))
            assert cell.strip() == f"{found:.1f} m ({100 * (found / distance - 1):+.0f} %)"


@needs_docs
def test_the_recipes_are_yaml_about_topics_that_exist():
    blocks = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", NAV2.read_text(), re.DOTALL)]
    sources = [found for block in blocks for found in _sources(block)]
    assert len(sources) >= 3
    for source in sources:
        node, camera, output = source["topic"].lstrip("/").split("/")
        assert (node, camera) == ("detector", "front") and output in DENSE
        low = source.get("min_obstacle_height", source.get("min_height"))
        high = source.get("max_obstacle_height", source.get("max_height"))
        assert any(low < height < high for height in HEIGHTS_M), "some point of each post must count"


def _sources(tree):
    if isinstance(tree, dict):
        if "topic" in tree:
            yield tree
        for value in tree.values():
            yield from _sources(value)
