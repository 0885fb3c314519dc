# SPDX-License-Identifier: MIT
"""Compressed pictures as RGB arrays: JPEG and PNG, the formats whose decoders notice missing parts.

libjpeg fills what is missing with grey and only warns. OpenCV keeps these warnings to itself; simplejpeg,
with the same libjpeg-turbo and the same pixels, turns each into an error. What stays unnoticed is in
docs/safety.md. The header is read before anything is decoded: a file of a hundred bytes can claim
65535 x 65535 pixels. A Bayer camera's picture may be its raw mosaic as a grey picture: see `mosaic_encoding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import simplejpeg
from sensor_msgs.msg import CompressedImage

MAX_PIXELS = 1 << 26  # 200 MB as RGB
DEPTH = ("16UC1", "32FC1")

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_END = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82"}


class InvalidInput(ValueError):
    """The message cannot be read as a picture; the text says which field is wrong and what to do."""


def check_compressed(msg: CompressedImage) -> None:
    """Check all that can be checked without decoding: format, size in the header, end mark.

    Raises:
        InvalidInput: a depth format, no data, neither JPEG nor PNG, CMYK, too large, or truncated.
    """
    if "compressedDepth" in msg.format or msg.format.startswith(DEPTH):
        raise InvalidInput(f"format '{msg.format}' is a depth image: choose the camera's colour topic")
    data = bytes(msg.data)
    if not data:
        raise InvalidInput("the compressed image holds no data")
    kind = next((start for start in _END if data.startswith(start)), None)
    if kind is None:
        raise InvalidInput(f"the compressed image of {len(data)} bytes (format '{msg.format}') cannot be "
                           "decoded: it is neither JPEG nor PNG, or its start is corrupt; publish either")
    if not data.rstrip(b"\0").endswith(_END[kind]):     # some cameras pad with zeros after it
        raise InvalidInput(f"the compressed image of {len(data)} bytes has no end mark: it is truncated")
    height, width = _jpeg_size(data) if kind == _JPEG else _png_size(data)
    if height * width > MAX_PIXELS:
        raise InvalidInput(f"the compressed image is {width} x {height} pixels, more than {MAX_PIXELS}: "
                           "publish smaller pictures")


def decode(msg: CompressedImage, decode_jpeg: Callable[[Any, bool], Any] | None = None) -> Any:
    """The picture of a message that `check_compressed` let through: uint8 [H,W,3] RGB, not rotated by EXIF.

    `decode_jpeg` (`Engine.decode_jpeg`) is asked first what it makes of a JPEG: a tensor, or None.

    Raises:
        InvalidInput: the decoder found the data damaged or incomplete.
    """
    # image_transport's "...; jpeg compressed rgb8" means that red and blue were swapped before compression.
    swapped = "compressed rgb" in msg.format
    if bytes(msg.data[:2]) != _JPEG:
        return _decode_png(msg, swapped)
    if decode_jpeg is not None and (picture := decode_jpeg(msg.data, swapped)) is not None:
        return picture
    try:
        return simplejpeg.decode_jpeg(msg.data, "BGR" if swapped else "RGB")
    except ValueError as error:
        raise _undecodable(error) from error


def mosaic_encoding(msg: CompressedImage) -> str:
    """The Bayer encoding of a message that holds a raw mosaic, or "".

    image_transport's "bayer_rggb8; png compressed " names no encoding behind "compressed": nothing was
    converted before compression. A file of several channels is no mosaic, whatever it came from.
    """
    source, _, how = msg.format.partition(";")
    if not source.startswith("bayer_") or how.partition("compressed")[2].strip():
        return ""
    data = bytes(msg.data)
    jpeg = data[:2] == _JPEG
    grey = _jpeg_header(data)[2] == "Gray" if jpeg else data[25:26] == b"\0"     # PNG: the colour type
    return source.strip() if grey else ""


def decode_mosaic(msg: CompressedImage) -> np.ndarray:
    """The one channel of a message that `mosaic_encoding` named: uint8 [H,W]; of 16 bits the high byte.

    Raises:
        InvalidInput: the decoder found the data damaged or incomplete.
    """
    if bytes(msg.data[:2]) != _JPEG:
        pixels = _read_png(msg, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)    # [H,W]
        return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    try:
        return simplejpeg.decode_jpeg(msg.data, "GRAY")[..., 0]
    except ValueError as error:
        raise _undecodable(error) from error


def _jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise _undecodable(error) from error


def _jpeg_size(data: bytes) -> tuple[int, int]:
    height, width, colours, _ = _jpeg_header(data)
    if colours not in ("Gray", "YCbCr", "RGB"):
        raise InvalidInput(f"the JPEG has the colours {colours}: publish grey, YCbCr or RGB")
    return int(height), int(width)


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":      # signature 8, length 4, type 4, width 4, height 4
        raise InvalidInput("the compressed image cannot be decoded: a PNG that does not begin with IHDR")
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _decode_png(msg: CompressedImage, swapped: bool) -> np.ndarray:
    pixels = _read_png(msg, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)   # [H,W,3] BGR
    return pixels if swapped else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _read_png(msg: CompressedImage, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(msg.data, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(error.err) from error
    if pixels is None:
        raise _undecodable("the PNG is corrupt")
    return pixels


def _undecodable(why: object) -> InvalidInput:
    return InvalidInput(f"the compressed image cannot be decoded: {why}; "
                        "look at the camera's driver and connection")
