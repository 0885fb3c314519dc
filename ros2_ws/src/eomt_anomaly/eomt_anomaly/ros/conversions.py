# SPDX-License-Identifier: MIT
"""Image messages to RGB arrays and arrays to image messages, with every field of the message checked.

`check` reads only metadata and is cheap enough for a subscription's callback; `to_rgb` decodes and belongs in
the worker. Both raise `InvalidInput`, whose text names the value and the remedy. 16-bit encodings are taken
as full range and keep their high byte. Encodings outside the table go to `cv_bridge` where that is installed.
Compressed pictures are in `compressed.py`.
"""

from __future__ import annotations

import array
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from .compressed import DEPTH, InvalidInput, check_compressed, decode, decode_mosaic, mosaic_encoding


@dataclass(frozen=True)
class Encoding:
    """How a raw encoding lies in memory: `channels` samples a pixel, each of `sample` bytes.

    `code` is the OpenCV conversion to RGB (None: already RGB); `planar` marks 4:2:0 images, which carry half
    as many rows again of chroma below the picture; `even` is the number the width must be a multiple of.
    """

    channels: int
    code: int | None
    sample: int = 1
    planar: bool = False
    even: int = 1


_COLOR = {
    "rgb8": Encoding(3, None),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB),
    # OpenCV names a Bayer pattern by its second row and column, ROS by its first: RGGB is OpenCV's "BG".
    "bayer_rggb8": Encoding(1, cv2.COLOR_BayerBG2RGB, even=2),
    "bayer_bggr8": Encoding(1, cv2.COLOR_BayerRG2RGB, even=2),
    "bayer_gbrg8": Encoding(1, cv2.COLOR_BayerGR2RGB, even=2),
    "bayer_grbg8": Encoding(1, cv2.COLOR_BayerGB2RGB, even=2),
}
_YUV = {
    "yuv422": Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=2),
    "uyvy": Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even=2),
    "yuv422_yuy2": Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=2),
    "yuyv": Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even=2),
    "nv12": Encoding(1, cv2.COLOR_YUV2RGB_NV12, planar=True, even=2),
    "nv21": Encoding(1, cv2.COLOR_YUV2RGB_NV21, planar=True, even=2),
}
_DEEP = {name[:-1] + "16": Encoding(e.channels, e.code, 2, e.planar, e.even) for name, e in _COLOR.items()}
ENCODINGS = {**_COLOR, **_DEEP, **_YUV, "8UC1": _COLOR["mono8"]}
_REFUSED = {   # also where cv_bridge could convert them
    **dict.fromkeys(("8UC3", "8UC4", "16UC3", "16UC4"),
                    "does not say the order of its channels: publish rgb8, bgr8, rgba8 or bgra8"),
    **dict.fromkeys(DEPTH, "is that of depth images: choose the camera's colour topic, or publish 16-bit "
                           "grey pictures as mono16"),
}


def check(msg: Image | CompressedImage) -> None:
    """Check everything about a message that can be checked without decoding it.

    Raises:
        InvalidInput: empty frame_id, zero size, unknown encoding, or data that does not fill the picture; for
            compressed pictures as `check_compressed`.
    """
    if not msg.header.frame_id:
        raise InvalidInput("header.frame_id is empty: the driver must name the camera's optical frame")
    if isinstance(msg, CompressedImage):
        check_compressed(msg)
        if (name := mosaic_encoding(msg)) and name not in ENCODINGS:
            raise InvalidInput(f"format '{msg.format}' is a mosaic of an unknown pattern; supported: "
                               f"{', '.join(known for known in sorted(ENCODINGS) if 'bayer' in known)}")
    else:
        _check_raw(msg)


def to_rgb(msg: Image | CompressedImage, decode_jpeg: Callable[[Any, bool], Any] | None = None) -> Any:
    """The picture as uint8 [H,W,3] RGB: a view of an unpadded `rgb8` message, otherwise a new array.

    `decode_jpeg` (`Engine.decode_jpeg`) is asked first what it makes of a JPEG: a tensor, or None.

    Raises:
        InvalidInput: as `check`, and when compressed data cannot be decoded completely.
    """
    check(msg)
    if isinstance(msg, CompressedImage):
        name = mosaic_encoding(msg)
        return _debayered(decode_mosaic(msg), name) if name else decode(msg, decode_jpeg)
    encoding = ENCODINGS.get(msg.encoding)
    return _with_cv_bridge(msg) if encoding is None else _convert(msg, encoding)


def on_host(picture: Any) -> np.ndarray:
    """What `to_rgb` gave, as an array; a picture that was decoded on the GPU is downloaded."""
    return picture if isinstance(picture, np.ndarray) else picture.numpy(force=True)


def image_message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """An `Image` with the array's bytes: [H,W] or [H,W,C], uint8 or float32, copied once.

    `data` is filled through the buffer protocol: assigning an array or a list would convert byte by byte.
    """
    pixels = np.ascontiguousarray(pixels)
    msg = Image(header=header, encoding=encoding, height=pixels.shape[0], width=pixels.shape[1])
    msg.is_bigendian = sys.byteorder == "big"
    msg.step = pixels.strides[0]
    msg.data = byte_array(pixels)
    return msg


def byte_array(values: np.ndarray) -> array.array:
    """The bytes of a C-contiguous array as a field of type uint8[] takes them without a check."""
    data = array.array("B")
    data.frombytes(values.reshape(-1).view(np.uint8).data)
    return data


def _check_raw(msg: Image) -> None:
    if msg.width == 0 or msg.height == 0:
        raise InvalidInput(f"the image is {msg.width} x {msg.height} pixels: it has no area")
    if msg.encoding in _REFUSED:
        raise InvalidInput(f"encoding '{msg.encoding}' {_REFUSED[msg.encoding]}")
    encoding, rows = ENCODINGS.get(msg.encoding), msg.height
    if encoding is None:
        if _cv_bridge() is None:
            raise InvalidInput(f"encoding '{msg.encoding}' is not supported without cv_bridge; "
                               f"supported: {', '.join(sorted(ENCODINGS))}")
    else:
        row = msg.width * encoding.channels * encoding.sample
        if msg.step < row:
            raise InvalidInput(f"step is {msg.step} bytes, but a row of {msg.width} {msg.encoding} pixels "
                               f"takes {row}")
        if msg.width % encoding.even or (encoding.even > 1 and encoding.channels == 1 and msg.height % 2):
            raise InvalidInput(f"{msg.encoding} needs even sides; the image is {msg.width} x {msg.height}")
        if encoding.planar:
            rows += msg.height // 2   # [H + H/2, step]: the chroma plane follows the picture
    if len(msg.data) != msg.step * rows:
        raise InvalidInput(f"data holds {len(msg.data)} bytes, but {rows} rows of {msg.step} bytes take "
                           f"{msg.step * rows}: the message is truncated or its step is wrong")


def _convert(msg: Image, encoding: Encoding) -> np.ndarray:
    row = msg.width * encoding.channels * encoding.sample
    pixels = np.frombuffer(msg.data, np.uint8).reshape(-1, msg.step)[:, :row]     # [rows, row bytes]
    if encoding.sample == 2:
        pixels = pixels[:, 0 if msg.is_bigendian else 1::2]                     # the high byte of each sample
    if encoding.channels > 1:
        pixels = pixels.reshape(msg.height, msg.width, encoding.channels)         # [H,W,C]
    return _colours(pixels, encoding)


def _colours(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """uint8 [rows,W] or [H,W,C] → [H,W,3] RGB."""
    pixels = np.ascontiguousarray(pixels)
    return pixels if encoding.code is None else cv2.cvtColor(pixels, encoding.code)


def _debayered(mosaic: np.ndarray, name: str) -> np.ndarray:
    """uint8 [H,W] → [H,W,3] RGB, as a raw message of this encoding."""
    height, width = mosaic.shape
    if height % 2 or width % 2:
        raise InvalidInput(f"{name} needs even sides; the image is {width} x {height}")
    return _colours(mosaic, ENCODINGS[name])


@functools.cache
def _cv_bridge():
    """A `CvBridge`, or None where the package is absent or does not work with this numpy."""
    try:
        from cv_bridge import CvBridge
        return CvBridge()
    except (ImportError, AttributeError):
        return None


def _with_cv_bridge(msg: Image) -> np.ndarray:
    try:
        return np.ascontiguousarray(_cv_bridge().imgmsg_to_cv2(msg, "rgb8"))
    except Exception as error:  # CvBridgeError, cv2.error, KeyError: whatever the bridge says of bad input
        raise InvalidInput(f"cv_bridge cannot convert encoding '{msg.encoding}' to rgb8: {error}") from error
