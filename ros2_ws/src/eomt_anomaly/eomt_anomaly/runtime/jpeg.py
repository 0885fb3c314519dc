# SPDX-License-Identifier: MIT
"""Baseline JPEG decoded on the GPU by nvJPEG, through torchvision. What it does not take, the caller decodes.

A file goes to nvJPEG only where its header says that libjpeg would read the same colours from it. The decoder
writes without waiting for what is queued on the caller's stream (pytorch/vision#9606, torchcodec#1634), so it
must only be given memory that nothing reads any more: pictures have a queue of their own, and `Streams.keep`
holds their memory until the queues that read them are through.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from .streams import Streams

Decode = Callable[[Tensor, torch.device], Tensor]    # a file, uint8 [n] -> uint8 [3,H,W] RGB on the device

MAX_PIXELS = 1 << 26     # 200 MB of the GPU; larger ones are left to the caller, which has a limit of its own
MAX_SEGMENTS = 64        # before the scan: a hostile file must not keep the worker busy
SOF0, SOFS = 0xC0, {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
APP14, SOS, EOI = 0xEE, 0xDA, 0xD9
TRIAL = (200, 120, 40)   # RGB
logger = logging.getLogger(__name__)


class GpuJpeg:
    """Decodes on one device, and keeps the account: pictures decoded there, and `left` to the CPU by reason.

    Every reason is logged when it first comes up. `problem`: why nvJPEG cannot be used at all, or "".

    Args:
        streams: of the engine's GPU; None: it has none.
        decode: what decodes; None: nvJPEG, where torchvision has it.
    """

    def __init__(self, streams: Streams | None, decode: Decode | None = None):
        self.on_gpu, self.left, self.problem = 0, Counter[str](), ""
        self._lock = threading.Lock()
        try:
            if streams is None:
                raise RuntimeError("the engine runs on the CPU")
            self._streams, self._decode = streams, decode or nvjpeg()
            self._try()
        except (ImportError, OSError, AttributeError, RuntimeError) as error:   # as many ways to lack it
            self.problem = f"no nvJPEG: {_line(error)}"
            logger.warning("gpu_jpeg: JPEG pictures are decoded on the CPU: %s", self.problem)

    def decode(self, data: Any, swapped: bool = False) -> Tensor | None:
        """The picture as uint8 [H,W,3] RGB on the device, complete; None where the caller has to decode it.

        data: the file, any buffer of bytes. swapped: red and blue were exchanged before it was compressed.
        """
        why = self.problem or refusal(memoryview(data))
        if not why:
            try:
                picture = self._run(data, swapped)
            except RuntimeError as error:   # if it is the GPU that fails or is full, the pass to come says so
                why = "nvJPEG failed"
                self._leave(why, f"{why}: {_line(error)}")
                return None
            with self._lock:
                self.on_gpu += 1
            return picture
        self._leave(why, why)
        return None

    def _leave(self, why: str, words: str) -> None:
        with self._lock:
            self.left[why] += 1
            first = self.left[why] == 1
        if first and not self.problem:
            logger.warning("gpu_jpeg: a picture is decoded on the CPU, and so are others like it: %s", words)

    def _run(self, data: Any, swapped: bool) -> Tensor:
        streams = self._streams
        with streams.on("decode"):
            planes = self._decode(torch.tensor(np.frombuffer(data, np.uint8)), streams.device)   # [3,H,W]
            picture = planes.flip(0) if swapped else planes
            streams.finish(streams.mark("decode"))          # before `planes` is freed, and for any reader
        return picture.permute(1, 2, 0)                                                          # [H,W,3]

    def _try(self) -> None:
        """Raise RuntimeError unless a picture of one colour comes back in that colour."""
        file = cv2.imencode(".jpg", np.full((64, 64, 3), TRIAL[::-1], np.uint8))[1]
        got = self._run(file, False).float().mean((0, 1)).tolist()
        if max(abs(a - b) for a, b in zip(got, TRIAL)) > 3:
            raise RuntimeError(f"a picture of the colour {TRIAL} comes back as {[round(x) for x in got]}")


def nvjpeg() -> Decode:
    """torchvision's decoder. Raises ImportError where torchvision is missing."""
    from torchvision.io import ImageReadMode, decode_jpeg

    return lambda file, device: decode_jpeg(file, ImageReadMode.RGB, device)


def refusal(data: memoryview) -> str:
    """Why nvJPEG must not have this file; "" for 8-bit baseline JPEG, grey or YCbCr, within `MAX_PIXELS`."""
    if data[:2] != b"\xff\xd8":
        return "not a JPEG"
    at, rgb = 2, False
    frames: list[str] = []
    for _ in range(MAX_SEGMENTS):      # to the scan: what counts may stand behind the frame header too
        mark, code, length = data[at:at + 1], data[at + 1:at + 2], int.from_bytes(data[at + 2:at + 4], "big")
        body = bytes(data[at + 4:at + 2 + length])
        if mark != b"\xff" or length < 2 or len(body) < length - 2 or code[0] == EOI:
            break
        if code[0] == SOS:
            if len(frames) != 1:       # of two sizes a decoder may take the one that was not looked at
                break
            return frames[0] or ("colours other than YCbCr" if rgb else "")
        rgb |= code[0] == APP14 and body[:5] == b"Adobe" and body[11:12] != b"\1"
        if code[0] in SOFS:
            frames.append(_frame(body) if code[0] == SOF0 else "not baseline")
        at += 2 + length
    return "no readable header"


def _frame(body: bytes) -> str:
    """Why not this frame header, or "": sample precision, height, width, components (id, sampling, table)."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return "no readable header"
    height, width, components = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[6::3]
    if body[0] != 8:
        return "not baseline"
    if not height or not width:
        return "no readable header"
    if len(components) not in (1, 3) or components == b"RGB":
        return "colours other than YCbCr"
    return "more pixels than the GPU is given" if height * width > MAX_PIXELS else ""


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
