# SPDX-License-Identifier: MIT
"""The page says what happened, drops and failures included, and is well formed; the video plays."""

from __future__ import annotations

from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")  # the fixtures share the bag's scene

from bag_fixtures import scene  # noqa: E402
from report_fixtures import NAMES, SIZE, make_recording  # noqa: E402

from eomt_anomaly.report import quality, video  # noqa: E402
from eomt_anomaly.report.page import page  # noqa: E402
from eomt_anomaly.report.pictures import moments  # noqa: E402
from eomt_anomaly.report.recording import Reason, reason_text  # noqa: E402
from eomt_anomaly.report.statistics import summarize  # noqa: E402

VOID_TAGS = {"meta", "img"}


class Balance(HTMLParser):
    """Fails on a tag that is not closed in order, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def render(recording, truth, result):
    parser = Balance()
    html = page(recording, summarize(recording, result), truth, "overlay.mp4")
    parser.feed(html)
    assert not parser.open
    return " ".join(" ".join(parser.text).split()), parser.links


def test_the_page_says_what_happened_and_needs_nothing_from_the_network():
    recording, truth = make_recording()
    text, links = render(recording, truth, quality.evaluate(recording.frames, truth, NAMES, [3]))
    for piece in (
        "10 of 20",
        "10 dropped (50%)",
        "dropped: overwritten",
        "1 of 1",
        "100.0 %",
        "A note with <angle> brackets.",
        "<some & cpu>",
        "The first alert",
        "0" * 64,
        "AuPRC",
    ):
        assert piece in text
    assert all(link == "overlay.mp4" or link.startswith("data:image/jpeg") for link in links)


def test_a_bag_without_ground_truth_is_reported_without_quality():
    recording, _ = make_recording()
    text, _ = render(recording, {}, None)
    assert "no ground truth" in text and "AuPRC" not in text


def test_a_replay_of_which_nothing_came_back_is_reported_as_that():
    recording, truth = make_recording(every=1000)
    recording.frames[0].received_s = None
    recording.dropped = {"transport": 20}
    recording.levels = []
    text, _ = render(recording, truth, quality.evaluate(recording.frames, truth, NAMES, [3]))
    for piece in ("0 of 20", "No frame came back", "No overlay came back", "never", "0 of 1"):
        assert piece in text


def test_misses_and_false_alerts_are_among_the_pictures():
    recording, truth = make_recording()
    recording.frames[0].level, recording.frames[0].boxes = 2, recording.frames[10].boxes
    recording.frames[10].boxes = ()
    captions = [caption for caption, _ in moments(recording.frames, truth, [3])]
    assert any("miss" in caption for caption in captions)
    frames = [id(frame) for _, frame in moments(recording.frames, truth, [3])]
    assert len(frames) == len(set(frames))


def test_the_video_has_every_published_frame_and_plays(tmp_path):
    recording, _ = make_recording()
    pictures = video.operator_view(
        recording, (scene(frame.index, SIZE)[0] for frame in recording.frames), [(0.5, 2.0)]
    )
    assert video.write_video(tmp_path / "overlay.mp4", pictures, video.frame_rate(recording)) == 20
    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == 20
    assert (tmp_path / "overlay.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_video_that_cannot_be_written_is_an_error_with_a_reason(tmp_path):
    with pytest.raises(video.VideoError, match="no picture"):
        video.write_video(tmp_path / "a.mp4", [], 10)
    with pytest.raises(video.VideoError, match="ffmpeg could not write"):
        video.write_video(tmp_path / "absent" / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3, 10)


def test_every_reason_bit_has_words():
    for reason in Reason:
        assert reason_text(int(reason)) if reason else reason_text(0) == ""
        assert "unknown" not in reason_text(int(reason))
    assert "0x40000000" in reason_text(1 << 30)
