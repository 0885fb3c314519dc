# SPDX-License-Identifier: MIT
"""The overlay video: what an operator would have seen, moment by moment, as H.264 that browsers play."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .lettering import put_text
from .pictures import LEVEL_COLORS, colored_heatmap, fitted, with_boxes
from .recording import LEVELS, UNKNOWN, Frame, Recording, reason_text
from .statistics import level_runs

PANEL = 640, 360  # px, one of four
_WITHOUT_REASON = "no alert message has come yet", "nothing unfamiliar on the road", "", ""  # by level
INK, GREY, GROUND = (235, 237, 240), (150, 156, 164), (24, 27, 32)


class VideoError(RuntimeError):
    """The video cannot be written; the text says why and what to do."""


def find_ffmpeg() -> str:
    """The ffmpeg of the package imageio-ffmpeg, or the one on PATH. Raises VideoError if there is neither."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        if path := shutil.which("ffmpeg"):
            return path
    raise VideoError(
        "there is no ffmpeg for the video: `pip install imageio-ffmpeg`, or `apt install ffmpeg`"
    )


def write_video(path: Path, pictures: Iterable[np.ndarray], fps: float) -> int:
    """Encode RGB uint8 pictures of one size with even sides; return how many. Raises VideoError."""
    process, count = None, 0
    try:
        for picture in pictures:
            if process is None:
                process = _encoder(path, picture.shape[1], picture.shape[0], fps)
            assert process.stdin is not None  # a pipe
            process.stdin.write(np.ascontiguousarray(picture).data)
            count += 1
    except BrokenPipeError:
        pass  # ffmpeg ended; its own words follow below
    finally:
        if process is not None:
            errors = process.communicate()[1].decode(errors="replace").strip()
    if process is None:
        raise VideoError(f"{path} was not written: there is no picture to show")
    if process.returncode:
        raise VideoError(f"ffmpeg could not write {path}: {errors[-500:]}")
    return count


def _encoder(path: Path, width: int, height: int, fps: float) -> subprocess.Popen:
    command = [
        find_ffmpeg(),
        "-y",
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{width}x{height}",
        "-r",
        f"{fps:.4f}",
        "-i",
        "-",
        "-an",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-crf",
        "23",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
        str(path),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def frame_rate(recording: Recording) -> float:
    """Pictures a second of the video: those of the replay, between 1 and 60."""
    times = np.array([frame.sent_s for frame in recording.frames])
    return float(np.clip(1 / np.median(np.diff(times)), 1, 60)) if len(times) > 1 else 1.0


def operator_view(
    recording: Recording, pictures: Iterable[np.ndarray], encounters: Iterable[Iterable[float]] = ()
) -> Iterator[np.ndarray]:
    """One picture a published frame, uint8 [720,1280,3], in real time.

    The camera now with the newest alerts; the newest overlay and heatmap that had arrived by then, held, with
    their age; and the state of the alert topic.

    `pictures` are the RGB pictures that were published, one a frame.
    """
    panel = _Status(recording, [tuple(e) for e in encounters])
    answers = [(f.received_s, f) for f in recording.frames if f.received_s is not None]
    arrived = sorted(answers, key=lambda answer: answer[0])
    newest: Frame | None = None
    held: dict[str, tuple[np.ndarray, float]] = {}
    for frame, picture in zip(recording.frames, pictures):
        now = frame.sent_s
        while arrived and arrived[0][0] <= now:
            _, newest = arrived.pop(0)
            for name, convert in (("overlay", lambda p: p), ("heatmap", colored_heatmap)):
                if (made := newest.maps(name)) is not None:
                    held[name] = fitted(convert(made), *PANEL), newest.sent_s
        camera = fitted(with_boxes(picture, newest.boxes if newest else ()), *PANEL)
        _caption(camera, "camera, with the newest alerts")
        yield np.vstack(
            [
                np.hstack([camera, _held(held.get("overlay"), "overlay", now)]),
                np.hstack([_held(held.get("heatmap"), "anomaly heatmap", now), panel.draw(frame, newest)]),
            ]
        )


def _held(shown: tuple[np.ndarray, float] | None, name: str, now: float) -> np.ndarray:
    picture = np.full((PANEL[1], PANEL[0], 3), GROUND, np.uint8) if shown is None else shown[0].copy()
    _caption(
        picture, f"{name}: none yet" if shown is None else f"{name}, of {1e3 * (now - shown[1]):.0f} ms ago"
    )
    return picture


def _caption(picture: np.ndarray, text: str) -> None:
    put_text(picture, text, (12, PANEL[1] - 12), 0.5, INK)


class _Status:
    """The lower right panel: level, reasons, age and count so far, and the timeline."""

    def __init__(self, recording: Recording, encounters: list[tuple]):
        self._recording = recording
        self._runs = level_runs(recording)
        self._timeline = np.full((44, PANEL[0] - 48, 3), (52, 57, 65), np.uint8)
        for begin, end, level, _ in self._runs:
            self._timeline[16:, self._column(begin) : self._column(end) + 1] = LEVEL_COLORS[level]
        for begin, end in encounters:
            self._timeline[:10, self._column(begin) : self._column(end) + 1] = (171, 71, 188)
        self._has_truth = bool(encounters)

    def draw(self, frame: Frame, newest: Frame | None) -> np.ndarray:
        picture = np.full((PANEL[1], PANEL[0], 3), GROUND, np.uint8)
        now = frame.sent_s
        level, reasons = next(
            ((lv, why) for begin, end, lv, why in self._runs if begin <= now < end), (UNKNOWN, 0)
        )
        picture[24:84, 24:264] = LEVEL_COLORS[level]
        put_text(picture, LEVELS[level], (40, 66), 1.1, (255, 255, 255))
        for row, text in enumerate(_wrapped(reason_text(reasons) or _WITHOUT_REASON[level], 40)[:3]):
            put_text(picture, text, (282, 44 + 20 * row), 0.46, GREY)
        sent = [f for f in self._recording.frames if f.sent_s <= now]
        back = sum(f.judged for f in sent)
        model = self._recording.info
        lines = [
            f"time        {now:6.1f} s    frame {len(sent)} of {len(self._recording.frames)}",
            f"judged      {back} of {len(sent)} published   ({len(sent) - back} dropped)",
            "last alert  "
            + (
                f"took {1e3 * newest.latency_s:.0f} ms; {len(newest.boxes)} obstacle(s)"
                if newest and newest.latency_s is not None
                else "none has arrived yet"
            ),
            f"{model.get('model_id', '')}  {model.get('device', '')}  {model.get('precision', '')}"[:60],
        ]
        for row, text in enumerate(lines):
            put_text(picture, text, (24, 132 + 30 * row), 0.52, INK if row < 3 else GREY)
        column = self._column(now)
        picture[276:320, 24 : 24 + self._timeline.shape[1]] = self._timeline
        shade = picture[276:320, 24 + column : 24 + self._timeline.shape[1]]
        shade[:] = shade // 3
        picture[270:326, 24 + column : 26 + column] = (255, 255, 255)
        put_text(
            picture,
            "alert level over time" + (" (violet: obstacle in the ground truth)" if self._has_truth else ""),
            (24, 346),
            0.42,
            GREY,
        )
        return picture

    def _column(self, seconds: float) -> int:
        share = min(max(seconds / max(self._recording.duration_s, 1e-6), 0.0), 1.0)
        return int(share * (self._timeline.shape[1] - 3))


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        lines[-1:] = (
            [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [lines[-1], word]
        )
    return lines
