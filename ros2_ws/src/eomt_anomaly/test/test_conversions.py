# SPDX-License-Identifier: MIT
"""Image messages ↔ arrays: every encoding of the table, padding, byte order, and what must be refused."""

import array

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 message packages are not installed")

from bounded import bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from eomt_anomaly.ros.conversions import ENCODINGS, InvalidInput, image_message, to_rgb

HEADER = Header(frame_id="camera")
COLOR = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0]}   # where r, g, b lie


def raw(encoding, rows, width, height, bigendian=False, step=None):
    """A message from rows uint8 [R, row bytes]."""
    msg = Image(header=HEADER, encoding=encoding, width=width, height=height, is_bigendian=bigendian)
    msg.step = step or rows.shape[1]
    msg.data = array.array("B", np.ascontiguousarray(rows).tobytes())
    return msg


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 17), height=st.integers(1, 9), padding=st.integers(0, 13),
       encoding=st.sampled_from([*COLOR, "mono8", "rgb16", "bgr16", "rgba16", "bgra16", "mono16"]),
       bigendian=st.booleans(), seed=st.integers(0, 2**16))
def test_packed_encodings_give_the_pixels_that_went_in(width, height, padding, encoding, bigendian, seed):
    random = np.random.default_rng(seed)
    channels = ENCODINGS[encoding].channels
    deep = encoding.endswith("16")
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    rows = pixels.reshape(height, -1)
    if deep:   # the low byte must not matter
        samples = rows.astype(np.uint16) << 8 | random.integers(0, 256, rows.shape, dtype=np.uint16)
        rows = samples.astype(">u2" if bigendian else "<u2").view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    rgb = to_rgb(raw(encoding, rows, width, height, bigendian))
    order = COLOR.get(encoding.replace("16", "8"), [0, 0, 0])
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, pixels[..., order])


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_keep_red_red(pattern, bits):
    color = {"r": 200, "g": 90, "b": 30}
    tile = np.array([color[letter] for letter in pattern], np.uint8).reshape(2, 2)
    rows = np.tile(tile, (4, 6))
    if bits == 16:
        rows = (rows.astype("<u2") << 8).view(np.uint8).reshape(8, 24)
    rgb = to_rgb(raw(f"bayer_{pattern}{bits}", rows, 12, 8))
    assert (abs(rgb[2:-2, 2:-2].astype(int) - (200, 90, 30)) <= 1).all()


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21"])
def test_yuv_keeps_the_colour(encoding):
    y, u, v = 82, 90, 240   # red, in BT.601's limited range
    if encoding in ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"):
        pair = [u, y, v, y] if encoding in ("uyvy", "yuv422") else [y, u, y, v]
        rows = np.tile(np.array(pair, np.uint8), (6, 4))
    else:
        chroma = [u, v] if encoding == "nv12" else [v, u]
        rows = np.vstack([np.full((6, 8), y, np.uint8), np.tile(np.array(chroma, np.uint8), (3, 4))])
    rgb = to_rgb(raw(encoding, rows, 8, 6))
    assert rgb.shape == (6, 8, 3)
    assert (rgb[..., 0] > 240).all() and (rgb[..., 1:] < 20).all()


def test_plain_rgb_is_a_view_and_not_a_copy():
    msg = raw("rgb8", np.zeros((4, 15), np.uint8), 5, 4)
    rgb = to_rgb(msg)
    msg.data[0] = 9
    assert rgb[0, 0, 0] == 9


REFUSED = {
    "zero width": (dict(width=0), "no area"),
    "zero height": (dict(height=0), "no area"),
    "short data": (dict(data=array.array("B", bytes(10))), "truncated"),
    "long data": (dict(data=array.array("B", bytes(1000))), "step is wrong"),
    "step below a row": (dict(step=14), "takes 15"),
    "unknown encoding": (dict(encoding="jpeg2000"), "not supported"),
    "depth in metres": (dict(encoding="32FC1", step=20, data=array.array("B", bytes(80))), "'32FC1' .*depth"),
    "depth in millimetres": (dict(encoding="16UC1", step=10, data=array.array("B", bytes(40))),
                             "'16UC1' .* depth images: choose the camera's colour topic, .* mono16"),
    "channel order unknown": (dict(encoding="8UC3"), "order of its channels"),
    "odd sides": (dict(encoding="uyvy", step=10, data=array.array("B", bytes(40))), "even"),
    "no frame": (dict(header=Header()), "frame_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named(name):
    fields, words = REFUSED[name]
    msg = raw("rgb8", np.zeros((4, 15), np.uint8), 5, 4)
    for key, value in fields.items():
        setattr(msg, key, value)
    with pytest.raises(InvalidInput, match=words):
        to_rgb(msg)


@settings(max_examples=60, deadline=None)
@given(encoding=st.sampled_from([*ENCODINGS, "", "8UC3", "64FC1"]), width=st.integers(0, 2**32 - 1),
       height=st.integers(0, 2**32 - 1), step=st.integers(0, 2**32 - 1), size=st.integers(0, 200))
def test_no_combination_of_fields_does_worse_than_be_refused(encoding, width, height, step, size):
    msg = Image(header=HEADER, encoding=encoding, width=width, height=height, step=step)
    msg.data = array.array("B", bytes(size))
    try:
        assert bounded(to_rgb, msg).shape == (height, width, 3)
    except InvalidInput:
        pass


@settings(max_examples=150, deadline=None)
@given(encoding=st.one_of(st.sampled_from([*ENCODINGS]), st.text(max_size=12)), width=st.integers(0, 9),
       height=st.integers(0, 9), padding=st.integers(-2, 5), rows=st.integers(-1, 1),
       extra=st.integers(-1, 1), bigendian=st.booleans())
def test_small_messages_that_nearly_fit_are_a_picture_or_refused(
        encoding, width, height, padding, rows, extra, bigendian):
    layout = ENCODINGS.get(encoding, ENCODINGS["rgb8"])
    step = max(0, width * layout.channels * layout.sample + padding)
    size = max(0, step * (height + layout.planar * (height // 2) + rows) + extra)
    msg = Image(header=HEADER, encoding=encoding, width=width, height=height, step=step)
    msg.is_bigendian, msg.data = bigendian, array.array("B", bytes(size))
    try:
        rgb = bounded(to_rgb, msg)
    except InvalidInput as error:
        assert len(str(error)) > 20
    else:
        assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8 and min(height, width) > 0
        assert encoding in ENCODINGS and padding >= 0 and rows == extra == 0 or step * rows + extra == 0


@pytest.mark.parametrize("pixels, encoding", [
    (np.arange(24, dtype=np.uint8).reshape(4, 6), "mono8"),
    (np.arange(72, dtype=np.uint8).reshape(4, 6, 3), "rgb8"),
    (np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6), "32FC1"),
    (np.arange(48, dtype=np.uint8).reshape(4, 12)[:, ::2], "mono8"),
])
def test_messages_hold_the_array(pixels, encoding):
    msg = image_message(pixels, encoding, HEADER)
    assert (msg.height, msg.width, msg.encoding) == (4, 6, encoding)
    assert len(msg.data) == msg.step * msg.height
    np.testing.assert_array_equal(np.frombuffer(msg.data, pixels.dtype).reshape(pixels.shape), pixels)
