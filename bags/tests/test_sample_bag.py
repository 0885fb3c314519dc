# SPDX-License-Identifier: MIT
"""The committed sample bag is what bags/README.md says it is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

BAG = Path(__file__).resolve().parents[1] / "sample_drive"
IMAGE, INFO, TRUTH = (
    "/camera/front/image_raw/compressed",
    "/camera/front/camera_info",
    "/camera/front/ground_truth",
)
ROAD, OUTLIER, VOID = 3, 254, 255


@pytest.fixture(scope="module")
def messages() -> dict[str, list]:
    found: dict[str, list] = {}
    with AnyReader([BAG]) as reader:
        for connection, stamp, raw in reader.messages():
            found.setdefault(connection.topic, []).append(
                (stamp, reader.deserialize(raw, connection.msgtype))
            )
    return found


@pytest.fixture(scope="module")
def truth(messages) -> np.ndarray:
    return np.stack([cv2.imdecode(m.data, cv2.IMREAD_UNCHANGED) for _, m in messages[TRUTH]])


def _ns(header) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def test_has_the_promised_topics_and_counts(messages):
    assert {t: len(m) for t, m in messages.items()} == {IMAGE: 100, INFO: 100, TRUTH: 100, "/tf_static": 1}


def test_is_small_and_its_metadata_is_for_rosbag2():
    assert sum(f.stat().st_size for f in BAG.iterdir()) < 10 * 2**20
    info = yaml.safe_load((BAG / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["storage_identifier"] == "mcap" and info["message_count"] == 301
    for topic in info["topics_with_message_count"]:
        assert topic["topic_metadata"]["type_description_hash"].startswith("RIHS01_")
        assert topic["topic_metadata"]["offered_qos_profiles"]


def test_stamps_are_ten_hertz_and_equal_on_all_camera_topics(messages):
    stamps = [_ns(m.header) for _, m in messages[IMAGE]]
    assert np.all(np.diff(stamps) == 10**8)
    for topic in (INFO, TRUTH):
        assert [_ns(m.header) for _, m in messages[topic]] == stamps
        assert {m.header.frame_id for _, m in messages[topic]} == {"camera_front_optical"}
    assert [t for t, _ in messages[IMAGE]] == stamps


def test_images_decode_to_the_size_of_the_camera_info(messages, truth):
    for (_, image), (_, info) in zip(messages[IMAGE], messages[INFO], strict=True):
        assert (
            cv2.imdecode(image.data, cv2.IMREAD_COLOR).shape == (info.height, info.width, 3) == (360, 640, 3)
        )
    assert truth.shape == (100, 360, 640)


def test_camera_matrix_is_that_of_a_66_degree_camera(messages):
    info = messages[INFO][0][1]
    K = info.k.reshape(3, 3)
    assert 2 * np.degrees(np.arctan(320 / K[0, 0])) == pytest.approx(66.0)
    assert K[0, 0] == K[1, 1] and (K[0, 2], K[1, 2]) == (319.5, 179.5)
    assert np.array_equal(info.p.reshape(3, 4)[:, :3], K) and not info.d.any()


def test_static_transform_puts_the_camera_up_and_looks_forward_and_down(messages):
    ((_, tf),) = messages["/tf_static"]
    (moved,) = tf.transforms
    assert (moved.header.frame_id, moved.child_frame_id) == ("base_link", "camera_front_optical")
    assert moved.transform.translation.z == pytest.approx(1.45)
    q = moved.transform.rotation
    x, y, z, w = q.x, q.y, q.z, q.w
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    np.testing.assert_allclose(R[:, 0], (0, -1, 0), atol=1e-9)  # optical x = right
    np.testing.assert_allclose(
        R[:, 2], (np.cos(0.06), 0, -np.sin(0.06)), atol=1e-9
    )  # optical z = forward, down


def test_labels_are_the_agreed_ones_and_the_road_is_ahead(truth):
    assert set(np.unique(truth)) <= {*range(11), OUTLIER, VOID}
    assert np.mean(truth[:, 300:, 200:440] == ROAD) > 0.9


def test_starts_clean_then_obstacles_come(truth):
    pixels = (truth == OUTLIER).reshape(100, -1).sum(axis=1)
    assert not pixels[:20].any()
    assert np.count_nonzero(pixels > 300) >= 30
    assert pixels.max() > 2000


def test_ground_truth_outliers_look_different_from_the_road_around_them(messages, truth):
    index = int((truth == OUTLIER).reshape(100, -1).sum(axis=1).argmax())
    rgb = cv2.imdecode(messages[IMAGE][index][1].data, cv2.IMREAD_COLOR).astype(float)
    mask = (truth[index] == OUTLIER).astype(np.uint8)
    ring = cv2.dilate(mask, np.ones((9, 9))) - mask
    assert np.abs(rgb[mask > 0].mean(axis=0) - rgb[ring > 0].mean(axis=0)).max() > 10


def test_licence_names_the_track_and_its_authors():
    text = (BAG.parent / "LICENSE.md").read_text()
    for word in ("ruudskogen", "Free Art License", "Tor Arne Hustvedt", "Andrew Sumner", "torcs-data"):
        assert word in text


@pytest.fixture
def maker():
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    import make_sample_bag

    return make_sample_bag


def test_the_bag_s_labels_are_those_of_the_drive_without_names_and_specks(maker):
    labels = np.full((40, 60), ROAD, np.uint8)
    labels[5:15, 5:15], labels[5:15, 15:20], labels[30:32, 30:40], labels[0] = 200, 203, 201, VOID
    truth = maker.ground_truth(labels)
    assert np.all(truth[5:15, 5:20] == OUTLIER), "obstacles that touch are one"
    assert np.all(truth[30:32, 30:40] == VOID), "20 pixels are a speck"
    assert np.array_equal(truth == ROAD, labels == ROAD) and np.all(truth[0] == VOID)


def test_the_drive_of_the_bag_can_be_measured(maker, tmp_path):
    from eomt_training.data.sequences import Sequence

    labels = np.full((360, 640), ROAD, np.uint8)
    labels[100:110, 50:70] = 200 + maker.OBSTACLES.index("log")
    folder = maker.SequenceFolder(tmp_path)
    for metres in (12.0, 10.7):
        folder.add(np.zeros((360, 640, 3), np.uint8), labels, {1: 30.0, 2: metres})
    with pytest.raises(FileNotFoundError, match="sequence.json is missing"):
        Sequence(tmp_path)
    folder.finish(np.eye(3))
    drive = Sequence(tmp_path)
    assert len(drive) == 2 and not drive.clean and drive.image(1).shape == (360, 640, 3)
    [log] = drive.visible(1)
    assert (log.obstacle, log.distance_m, log.box) == (2, 10.7, (50, 100, 20, 10))
    assert drive.about["obstacles"][2] == {"id": 2, "kind": "log", "on_road": True}
