# SPDX-License-Identifier: MIT
"""JPEG and PNG → arrays: every kind that cameras send; damage, bombs and other formats are refused."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg", reason="ROS 2 message packages are not installed")

from bounded import bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from eomt_anomaly.ros.compressed import MAX_PIXELS
from eomt_anomaly.ros.conversions import InvalidInput, check, to_rgb

HEADER = Header(frame_id="camera")
SAMPLE = Path(__file__).resolve().parents[4] / "bags" / "sample_drive"
EXIF_ROTATED = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
FLAGS = {
    "4:2:0": (), "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:2:2": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "restart markers": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "own Huffman tables": (cv2.IMWRITE_JPEG_OPTIMIZE, 1), "quality 30": (cv2.IMWRITE_JPEG_QUALITY, 30),
}


def message(data, fmt="jpeg"):
    return CompressedImage(header=HEADER, format=fmt, data=bytes(data))


def compressed(extension=".jpg", size=(40, 60), fmt=None):
    picture = np.zeros((*size, 3), np.uint8)
    picture[:] = (200, 60, 20)   # b, g, r
    return message(cv2.imencode(extension, picture)[1], fmt or extension[1:])


def scene():
    """A picture with coarse and fine structure, uint8 [160,240,3]."""
    random = np.random.default_rng(0)
    coarse = cv2.resize(random.integers(0, 256, (10, 15, 3), np.uint8), (240, 160),
                        interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + random.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def with_segment(jpeg, code, body):
    return jpeg[:2] + bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def entropy_coded(jpeg):
    """(first, last + 1) of the bytes from behind the first scan's header to the end mark."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        at += 2 + int.from_bytes(jpeg[at + 2:at + 4], "big")
    return at + 2 + int.from_bytes(jpeg[at + 2:at + 4], "big"), len(jpeg) - 2


KINDS = {name: cv2.imencode(".jpg", scene(), flags)[1].tobytes() for name, flags in FLAGS.items()}
KINDS["grey"] = cv2.imencode(".jpg", scene()[..., 0])[1].tobytes()
WHOLE = {**KINDS, "EXIF": with_segment(KINDS["4:2:0"], 0xE1, EXIF_ROTATED),
         "zeros after the end mark": KINDS["4:2:0"] + bytes(5000)}


# ---- what comes back ----


@pytest.mark.parametrize("kind", WHOLE)
def test_every_kind_of_jpeg_gives_the_pixels_that_opencv_reads(kind):
    unrotated = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    want = cv2.imdecode(np.frombuffer(WHOLE[kind], np.uint8), unrotated)[..., ::-1]
    got = to_rgb(message(WHOLE[kind]))
    assert got.dtype == np.uint8 and got.flags.c_contiguous and got.shape == (160, 240, 3)
    assert np.abs(got.astype(int) - want).max() <= 1    # an apt OpenCV may bring another libjpeg


def test_the_pictures_of_the_sample_bag_are_whole():
    from eomt_anomaly.ros.bag_io import Bag
    with Bag(SAMPLE) as bag:
        topic = bag.choose_image_topic().name
        jpegs = [bag.deserialize(record) for record in bag.records([topic])]
    assert len(jpegs) >= 50
    assert {to_rgb(message(jpeg.data, jpeg.format)).shape for jpeg in jpegs} == {(360, 640, 3)}


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_pictures_come_back(extension):
    rgb = to_rgb(compressed(extension))
    assert rgb.shape == (40, 60, 3)
    assert (abs(rgb.astype(int) - (20, 60, 200)) <= 6).all()


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_channels_swapped_before_compression_are_swapped_back(extension):
    rgb = to_rgb(compressed(extension, fmt="rgb8; jpeg compressed rgb8"))
    assert (abs(rgb.astype(int) - (200, 60, 20)) <= 6).all()


@pytest.mark.parametrize("extension, fmt, asked", [
    (".jpg", "jpeg", [False]), (".jpg", "rgb8; jpeg compressed bgr8", [False]),
    (".jpg", "rgb8; jpeg compressed rgb8", [True]), (".png", "png", [])])
@pytest.mark.parametrize("answer", ["on the GPU", None])
def test_a_gpu_is_asked_for_jpeg_alone_and_what_it_leaves_is_decoded_here(extension, fmt, asked, answer):
    calls, msg = [], compressed(extension, fmt=fmt)

    def decode_jpeg(data, swapped):
        assert bytes(data) == bytes(msg.data)
        calls.append(swapped)
        return answer
    got = to_rgb(msg, decode_jpeg)
    assert calls == asked
    if asked and answer:
        assert got == answer
    else:
        np.testing.assert_array_equal(got, to_rgb(msg))


def mosaic(pattern):
    """An orange picture as a camera with this Bayer pattern sees it, uint8 [32,48]; and its colour."""
    color = {"r": 200, "g": 90, "b": 30}
    return np.tile(np.array([color[c] for c in pattern], np.uint8).reshape(2, 2), (16, 24)), (200, 90, 30)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("extension, bits", [(".png", 8), (".png", 16), (".jpg", 8)])
def test_a_compressed_mosaic_keeps_its_colours_and_is_not_judged_as_grey(pattern, extension, bits):
    """image_transport compresses Bayer pictures as they are, unless it is told to convert them."""
    pixels, color = mosaic(pattern)
    stored = pixels if bits == 8 else pixels.astype(np.uint16) << 8
    fmt = f"bayer_{pattern}{bits}; {'png' if extension == '.png' else 'jpeg'} compressed "
    never = None if extension == ".png" else pytest.fail      # nvJPEG knows nothing of mosaics
    rgb = to_rgb(message(cv2.imencode(extension, stored)[1], fmt), never)
    assert rgb.shape == (32, 48, 3) and rgb.dtype == np.uint8
    assert (abs(rgb[2:-2, 2:-2].astype(int) - color) <= (1 if extension == ".png" else 8)).all()


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_bayer_cameras_picture_that_was_converted_before_compression_is_taken_as_it_is(extension):
    grey = mosaic("rggb")[0]
    for target in ("mono8", "bgr8"):
        msg = message(cv2.imencode(extension, grey)[1], f"bayer_rggb8; {extension[1:]} compressed {target}")
        np.testing.assert_array_equal(to_rgb(msg), to_rgb(message(msg.data)))
    colored = compressed(extension)    # of three channels: no mosaic, whatever its format says
    named = message(colored.data, "bayer_rggb8; png compressed ")
    np.testing.assert_array_equal(to_rgb(named), to_rgb(colored))


# ---- what is refused ----


@pytest.mark.parametrize("fmt, size, words", [
    ("bayer_rggb12; png compressed ", (4, 6), "unknown pattern; supported: bayer_bggr16"),
    ("bayer_rggb8; png compressed ", (5, 6), "bayer_rggb8 needs even sides; the image is 6 x 5")])
def test_a_mosaic_that_cannot_be_converted_is_refused_by_name(fmt, size, words):
    with pytest.raises(InvalidInput, match=words):
        to_rgb(message(cv2.imencode(".png", np.zeros(size, np.uint8))[1], fmt))


@pytest.mark.parametrize("kind", KINDS)
@given(length=st.floats(1 / 8, 1 / 2), place=st.floats(0, 1), how=st.sampled_from(["cut", "zeros", "noise"]),
       seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_a_jpeg_with_an_eighth_missing_or_spoilt_in_the_middle_is_refused(kind, length, place, how, seed):
    data = KINDS[kind]
    first, last = entropy_coded(data)
    size = int(length * (last - first))
    start = first + int(place * (last - first - size))
    noise = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    middle = {"cut": b"", "zeros": bytes(size), "noise": noise}[how]
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        to_rgb(message(data[:start] + middle + data[start + size:]))


@pytest.mark.parametrize("share", [1 / 3, 0.9, 0.99])
def test_a_jpeg_that_is_cut_off_and_closed_with_an_end_mark_is_refused(share):
    data = KINDS["4:2:0"]
    with pytest.raises(InvalidInput, match="premature end"):
        to_rgb(message(data[:int(share * len(data))] + b"\xff\xd9"))


@given(length=st.floats(0.001, 1 / 2), place=st.floats(0, 1), zeros=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_png_with_a_part_missing_or_spoilt_is_refused(length, place, zeros):
    data = cv2.imencode(".png", scene())[1].tobytes()
    size = int(length * len(data))
    start = 41 + int(place * (len(data) - 53 - size))   # behind IHDR and the head of IDAT, before IEND
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        to_rgb(message(data[:start] + bytes(size * zeros) + data[start + size:], "png"))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("bayer", [False, True])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1,
                        max_size=6))
@settings(max_examples=40, deadline=None)
def test_altered_compressed_pictures_are_a_picture_or_refused(extension, bayer, changes):
    msg = compressed(extension)
    if bayer:
        msg = message(cv2.imencode(extension, mosaic("rggb")[0])[1], "bayer_rggb8; png compressed ")
    data = bytearray(msg.data)
    for place, value in changes:
        data[int(place * len(data))] = value
    msg.data = bytes(data)
    try:
        rgb = bounded(to_rgb, msg)
    except InvalidInput as error:
        assert len(str(error)) > 20
    else:
        assert rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@given(share=st.floats(0.0, 0.99))
@settings(max_examples=15, deadline=None)
def test_a_truncated_picture_is_refused_though_decoders_accept_it(extension, share):
    msg = compressed(extension)
    msg.data = bytes(msg.data[:int(share * len(msg.data))])
    with pytest.raises(InvalidInput):
        check(msg)


def bomb(kind, width, height):
    """A file of a few hundred bytes whose header claims this size."""
    data = bytearray(compressed(kind).data)
    if kind == ".png":
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        at = data.index(b"\xff\xc0")
        data[at + 5:at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return message(data, kind[1:])


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded(kind):
    assert len(bomb(kind, 30000, 30000).data) < 1000
    with pytest.raises(InvalidInput, match=f"30000 x 30000 pixels, more than {MAX_PIXELS}"):
        bounded(to_rgb, bomb(kind, 30000, 30000))
    check(bomb(kind, 8192, 8192))
    with pytest.raises(InvalidInput, match="8192 x 8193"):
        check(bomb(kind, 8192, 8193))


@pytest.mark.parametrize("extension", [".webp", ".bmp", ".tiff"])
def test_formats_whose_damage_goes_unnoticed_are_refused(extension):
    with pytest.raises(InvalidInput, match=rf"format '{extension[1:]}'.*neither JPEG nor PNG"):
        check(compressed(extension))


def test_cmyk_is_refused_by_name():
    picture = pytest.importorskip("PIL.Image").fromarray(scene()).convert("CMYK")
    file = io.BytesIO()
    picture.save(file, "JPEG")
    with pytest.raises(InvalidInput, match="colours CMYK: publish grey, YCbCr or RGB"):
        check(message(file.getvalue()))


@given(data=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_garbage_is_refused(data):
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InvalidInput):
            to_rgb(message(start + data))
        with pytest.raises(InvalidInput):
            to_rgb(message(start + data + (b"IEND\xaeB`\x82" if start[:1] == b"\x89" else b"\xff\xd9")))


@pytest.mark.parametrize("fmt", ["16UC1; compressedDepth png", "16UC1; png compressed "])
def test_a_depth_format_is_refused(fmt):
    with pytest.raises(InvalidInput, match="depth"):
        check(compressed(".png", fmt=fmt))
