# SPDX-License-Identifier: MIT
"""make_bag: image folders and videos come back as they went in; bad input is named."""

from __future__ import annotations

import cv2
import make_bag
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

SIZE = (48, 32)


def _picture(seed: int, size=SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)


def _folder(path, count=3, size=SIZE):
    path.mkdir()
    for i in range(count):
        cv2.imwrite(str(path / f"frame_{i}.png"), _picture(i, size))
    return path


def _read(bag) -> dict[str, list]:
    found: dict[str, list] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    return found


def _fails(capsys, *argv) -> str:
    assert make_bag.main([str(a) for a in argv]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_raw_frames_come_back_pixel_for_pixel(tmp_path, storage):
    frames = _folder(tmp_path / "in", 12)
    out = tmp_path / "bag"
    assert (
        make_bag.main([str(frames), str(out), "--encoding", "raw", "--storage", storage, "--fps", "20"]) == 0
    )
    messages = _read(out)["/camera/front/image_raw"]
    for i, m in enumerate(messages):  # natural order: frame_2 comes before frame_10
        assert (m.encoding, m.step, m.header.stamp.nanosec) == ("rgb8", 3 * SIZE[0], i * 50_000_000)
        np.testing.assert_array_equal(m.data.reshape(SIZE[1], SIZE[0], 3)[..., ::-1], _picture(i))
    assert len(messages) == 12


def test_jpeg_frames_camera_info_and_static_transform(tmp_path):
    out = tmp_path / "deep" / "bag"
    make_bag.main(
        [
            str(_folder(tmp_path / "in")),
            str(out),
            "--topic",
            "/left/image",
            "--fov-deg",
            "90",
            "--height-m",
            "1.5",
            "--frame-id",
            "cam",
        ]
    )
    found = _read(out)
    assert set(found) == {"/left/image/compressed", "/left/camera_info", "/tf_static"}
    image = cv2.imdecode(found["/left/image/compressed"][1].data, cv2.IMREAD_COLOR)
    assert np.abs(image.astype(int) - _picture(1)).mean() < 6
    assert found["/left/camera_info"][0].k[0] == pytest.approx(SIZE[0] / 2)
    assert found["/tf_static"][0].transforms[0].child_frame_id == "cam"


def test_video_keeps_its_rate_and_number_of_frames(tmp_path):
    video = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, SIZE)
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write MJPG videos")
    for i in range(10):
        writer.write(_picture(i))
    writer.release()
    make_bag.main([str(video), str(tmp_path / "bag"), "--every", "2"])
    messages = _read(tmp_path / "bag")["/camera/front/image_raw/compressed"]
    assert [m.header.stamp.nanosec for m in messages] == [i * 80_000_000 for i in range(5)]
    for i, m in enumerate(messages):
        image = cv2.imdecode(m.data, cv2.IMREAD_COLOR)
        assert np.abs(image.astype(int) - _picture(2 * i)).mean() < 12


def test_ground_truth_is_matched_by_name_and_mapped(tmp_path):
    frames, truth = _folder(tmp_path / "in"), tmp_path / "truth"
    truth.mkdir()
    cv2.imwrite(str(truth / "frame_1.png"), np.full(SIZE[::-1], 11, np.uint8))
    make_bag.main([str(frames), str(tmp_path / "bag"), "--ground-truth", str(truth), "--map", "11:255"])
    found = _read(tmp_path / "bag")
    (label,) = found["/camera/front/ground_truth"]
    assert label.header.stamp == found["/camera/front/image_raw/compressed"][1].header.stamp
    assert (cv2.imdecode(label.data, cv2.IMREAD_UNCHANGED) == 255).all()


def test_calibration_file_becomes_camera_info(tmp_path):
    file = tmp_path / "cam.yaml"
    K = [50.0, 0, 24, 0, 51, 16, 0, 0, 1]
    file.write_text(
        yaml.safe_dump(
            {
                "image_width": SIZE[0],
                "image_height": SIZE[1],
                "distortion_model": "plumb_bob",
                "camera_matrix": {"rows": 3, "cols": 3, "data": K},
                "distortion_coefficients": {"rows": 1, "cols": 5, "data": [-0.1, 0.01, 0, 0, 0]},
            }
        )
    )
    make_bag.main([str(_folder(tmp_path / "in")), str(tmp_path / "bag"), "--calibration", str(file)])
    info = _read(tmp_path / "bag")["/camera/front/camera_info"][0]
    assert info.k.tolist() == K and info.d[0] == -0.1 and info.distortion_model == "plumb_bob"


@pytest.mark.parametrize(
    "case, words",
    [
        ("missing", "no such file"),
        ("empty", "no images"),
        ("broken", "frame_1.png: not a readable image"),
        ("sizes", "one camera, one size"),
        ("text", "not a video"),
        ("exists", "exists already"),
        ("truth_names", "none of its files"),
        ("truth_size", "but its frame is"),
        ("truth_colour", "one 8-bit channel"),
        ("calibration", "needs image_width"),
    ],
)
def test_bad_input_is_named_and_leaves_no_half_bag(tmp_path, capsys, case, words):
    frames, out, extra = _folder(tmp_path / "in"), tmp_path / "bag", []
    truth = tmp_path / "truth"
    if case == "missing":
        frames = tmp_path / "nowhere"
    elif case == "empty":
        frames = tmp_path / "void"
        frames.mkdir()
    elif case == "broken":
        (frames / "frame_1.png").write_bytes(b"not an image")
    elif case == "sizes":
        cv2.imwrite(str(frames / "frame_1.png"), _picture(1, (50, 32)))
    elif case == "text":
        frames = tmp_path / "notes.txt"
        frames.write_text("hello")
    elif case == "exists":
        out.mkdir()
    elif case == "calibration":
        (tmp_path / "c.yaml").write_text("a: 1")
        extra = ["--calibration", tmp_path / "c.yaml"]
    else:
        shape = {"truth_names": (32, 48), "truth_size": (30, 48), "truth_colour": (32, 48, 3)}[case]
        truth.mkdir()
        cv2.imwrite(
            str(truth / ("other.png" if case == "truth_names" else "frame_0.png")), np.zeros(shape, np.uint8)
        )
        extra = ["--ground-truth", truth]
    assert words in _fails(capsys, frames, out, *extra)
    assert not (out / "metadata.yaml").exists()


def test_overwrite_replaces_a_bag_but_nothing_else(tmp_path, capsys):
    frames, out = _folder(tmp_path / "in"), tmp_path / "bag"
    for _ in range(2):
        assert make_bag.main([str(frames), str(out), "--overwrite"]) == 0
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("do not delete")
    assert "no bag" in _fails(capsys, frames, precious, "--overwrite")
    assert (precious / "thesis.txt").exists()


@pytest.mark.parametrize(
    "option",
    [("--fps", "0"), ("--fov-deg", "200"), ("--topic", "no slash"), ("--map", "1-2"), ("--every", "0")],
)
def test_bad_options_are_refused(tmp_path, option):
    with pytest.raises(SystemExit):
        make_bag.parser().parse_args(["in", "out", *option])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12, unique=True))
@settings(max_examples=20, deadline=None)
def test_images_are_sorted_by_number(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("order")
    for n in numbers:
        (folder / f"img{n}.png").touch()
    assert [int(f.stem[3:]) for f in make_bag.image_files(folder)] == sorted(numbers)
