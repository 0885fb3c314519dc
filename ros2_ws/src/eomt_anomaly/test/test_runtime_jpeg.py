# SPDX-License-Identifier: MIT
"""JPEG on the GPU: what goes there, what is left to the CPU and why, and that the maps are the same.

A stand-in decodes with OpenCV in nvJPEG's place, and `InlineStreams` runs at once: what nvJPEG's own pixels
are, and whether a wait is missing, only the last test can show, on a GPU.
"""

import logging
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_reference import picture, tiny_model

from eomt_anomaly.runtime import Engine, InvalidImage
from eomt_anomaly.runtime import jpeg as jpeg_module
from eomt_anomaly.runtime.cuda import CudaPipeline
from eomt_anomaly.runtime.jpeg import MAX_PIXELS, GpuJpeg, refusal
from eomt_anomaly.runtime.streams import InlineStreams

MODEL = tiny_model()


def encoded(image, *flags):
    return cv2.imencode(".jpg", image[..., ::-1], flags)[1].tobytes()


def decoded(data):
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def stand_in(file, device):
    """A file, uint8 [n] -> uint8 [3,H,W] RGB; raises as torchvision does for what it cannot read."""
    pixels = cv2.imdecode(file.numpy(), cv2.IMREAD_COLOR)
    if pixels is None:
        raise RuntimeError("Error while decoding JPEG images: Failed to get image info: 3\nTraceback")
    return torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1).contiguous()


class Watched(InlineStreams):
    """Remembers which memory was held for which queue, and the order of what `copy_in` was told."""

    def __init__(self):
        super().__init__()
        self.kept, self.told = [], []

    def follow(self, queue):
        self.told.append((queue, "follow"))

    def on(self, queue):
        self.told.append((queue, "work"))
        return super().on(queue)

    def keep(self, tensor, queue):
        self.kept.append((tensor.data_ptr(), queue))


@pytest.fixture
def twin():
    """An engine whose pipeline is that of CUDA, run on the CPU, with the stand-in as its decoder."""
    with Engine(MODEL, device="cpu", precision="fp32") as engine:
        streams, on_cpu = Watched(), engine._pipeline
        engine._pipeline = CudaPipeline(on_cpu.setup, streams)
        on_cpu.close()
        engine.jpeg = GpuJpeg(streams, stand_in)
        yield engine


def test_a_jpeg_decoded_on_the_device_gives_the_maps_of_its_pixels(twin):
    files = [encoded(picture(*size, seed=i)) for i, size in enumerate([(60, 80), (33, 50), (60, 80)])]
    images = [twin.decode_jpeg(file) for file in files]
    assert all(isinstance(image, torch.Tensor) for image in images) and twin.jpeg.on_gpu == 3
    on_host = [decoded(file) for file in files]
    for _ in range(3):                                                  # eager, captured, replayed
        mixed = [images[0], on_host[1], on_host[2]]                     # one batch of both kinds
        for got, other, want in zip(twin.infer(images), twin.infer(mixed), twin.infer(on_host)):
            for a in (got, other):
                assert np.array_equal(a.class_map, want.class_map) and np.array_equal(a.anomaly, want.anomaly)
    assert {(image.data_ptr(), "copy_in") for image in images} <= set(twin._pipeline.streams.kept)


def test_a_part_of_a_decoded_picture_is_read_once_it_is_made(twin):
    """The second look cuts parts out on the caller's stream; the pipeline's do not wait for that one."""
    image = twin.decode_jpeg(encoded(picture(60, 80)))
    part, told = image[10:40, 20:60].contiguous(), twin._pipeline.streams.told
    told.clear()
    got = twin.infer([part])[0]
    assert [what for queue, what in told if queue == "copy_in"] == ["follow", "work"]
    assert np.array_equal(got.anomaly, twin.infer([part.numpy()])[0].anomaly)


def test_red_and_blue_swapped_before_compression_are_swapped_back(twin):
    file = encoded(picture(40, 50))
    plain, swapped = twin.decode_jpeg(file), twin.decode_jpeg(file, swapped=True)
    np.testing.assert_array_equal(swapped.numpy(), decoded(file)[..., ::-1])
    assert torch.equal(plain.flip(2), swapped)


def test_an_engine_on_the_cpu_takes_what_one_on_the_gpu_decoded_before_memory_ran_out(twin):
    file = encoded(picture(60, 80))
    with Engine(MODEL, device="cpu", precision="fp32") as lower:
        got, want = lower.infer([twin.decode_jpeg(file), decoded(file)])
    assert np.array_equal(got.anomaly, want.anomaly) and np.array_equal(got.class_map, want.class_map)


@pytest.mark.parametrize("image, words", [
    (torch.zeros(8, 8, 3), "float32"), (torch.zeros(3, 8, 8, dtype=torch.uint8), "(3, 8, 8)"),
    (torch.zeros(0, 8, 3, dtype=torch.uint8), "at least 1 px")])
def test_a_tensor_that_is_no_picture_is_refused(twin, image, words):
    with pytest.raises(InvalidImage) as error:
        twin.infer([image])
    assert words in str(error.value)


def with_segment(file, marker, body):
    """A segment put after the first two bytes."""
    return file[:2] + bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body + file[2:]


def of_size(file, height, width):
    """The same file, whose header claims another size."""
    at = file.index(b"\xff\xc0") + 5
    return file[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + file[at + 4:]


def frame_header(precision, components):
    body = bytes((precision, 0, 40, 0, 60, len(components))) + b"".join(bytes((i, 17, 0)) for i in components)
    return with_segment(b"\xff\xd8\xff\xda\0\2\xff\xd9", 0xC0, body)


PLAIN = encoded(picture(40, 60))
FRAME = PLAIN.index(b"\xff\xc0") + 4      # where the frame header's 15 bytes begin
ADOBE_RGB = b"Adobe\0\x64\0\0\0\0\0"
TAKEN = {
    "4:2:0": PLAIN, "grey": cv2.imencode(".jpg", picture(40, 60)[..., 0])[1].tobytes(),
    "4:4:4": encoded(picture(40, 60), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "a camera's own data first": with_segment(PLAIN, 0xE1, b"Exif\0\0" + bytes(3000)),
    "Adobe's YCbCr": with_segment(PLAIN, 0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    "padded": PLAIN + bytes(5000), "the largest": of_size(PLAIN, 8192, 8192),
}
LEFT = {
    "progressive": (encoded(picture(40, 60), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "not baseline"),
    "12 bits": (frame_header(12, b"\1\2\3"), "not baseline"),
    "CMYK": (frame_header(8, b"\1\2\3\4"), "colours other"),
    "RGB": (frame_header(8, b"RGB"), "colours other"),
    "Adobe's RGB": (with_segment(PLAIN, 0xEE, ADOBE_RGB), "colours other"),
    "a bomb": (of_size(PLAIN, 65535, 65535), "more pixels"),
    "just too large": (of_size(PLAIN, 8192, 8193), "more pixels"),
    "a bomb behind a small frame": (with_segment(of_size(PLAIN, 65535, 65535), 0xC0, PLAIN[FRAME:FRAME + 15]),
                                    "no readable header"),
    "Adobe's RGB behind the frame": (PLAIN[:FRAME + 15] + with_segment(PLAIN, 0xEE, ADOBE_RGB)[2:18]
                                     + PLAIN[FRAME + 15:], "colours other"),
    "no height": (of_size(PLAIN, 0, 60), "no readable header"),
    "PNG": (cv2.imencode(".png", picture(40, 60))[1].tobytes(), "not a JPEG"),
    "nothing": (b"", "not a JPEG"), "cut off": (PLAIN[:100], "no readable header"),
    "endless segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000, "no readable header"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_plain_baseline_jpeg_goes_to_the_gpu(name):
    assert refusal(memoryview(TAKEN[name])) == ""


@pytest.mark.parametrize("name", LEFT)
def test_what_nvjpeg_must_not_have_is_left_to_the_cpu_counted_and_told_once(twin, name, caplog):
    file, words = LEFT[name]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert twin.decode_jpeg(file) is None
    (why, count), = twin.jpeg.left.items()
    assert words in why and count == 3 and twin.jpeg.on_gpu == 0
    assert [why in record.message for record in caplog.records] == [True]


def test_the_limit_is_that_of_200_megabytes():
    assert 3 * MAX_PIXELS == 201_326_592


def test_what_nvjpeg_itself_refuses_is_left_to_the_cpu_with_its_reason(caplog):
    def picky(file, device):
        if len(file) > 2000:
            raise RuntimeError("Error while decoding JPEG images: Unknown chroma subsampling\nTraceback")
        return stand_in(file, device)
    jpeg = GpuJpeg(InlineStreams(), picky)
    with caplog.at_level(logging.WARNING):
        assert [jpeg.decode(encoded(picture(90, 160))) for _ in range(2)] == [None, None]
    assert jpeg.left == {"nvJPEG failed": 2} and not jpeg.problem
    assert len(caplog.records) == 1 and "Unknown chroma subsampling" in caplog.text
    assert "Traceback" not in caplog.text


@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6),
       keep=st.integers(0, len(PLAIN)))
def test_altered_files_are_taken_or_left_and_never_raise(changes, keep):
    data = bytearray(PLAIN)
    for place, value in changes:
        data[place % len(data)] = value
    assert isinstance(refusal(memoryview(bytes(data[:keep]))), str)


def broken(kind):
    def decode(file, device):
        raise kind
    return decode


@pytest.mark.parametrize("lack, words", [
    (ImportError("No module named 'torchvision'"), "No module named 'torchvision'"),
    (AttributeError("no operator decode_jpegs_cuda"), "decode_jpegs_cuda"),
    (RuntimeError("torchvision not compiled with nvJPEG support"), "not compiled"),
    ("swapped", "comes back as")])
def test_without_a_working_nvjpeg_all_is_left_to_the_cpu_and_told_once(lack, words, caplog):
    decode = (lambda file, device: stand_in(file, device).flip(0)) if lack == "swapped" else broken(lack)
    with caplog.at_level(logging.WARNING):
        jpeg = GpuJpeg(InlineStreams(), decode)
        assert jpeg.decode(PLAIN) is None and jpeg.decode(PLAIN) is None
    assert words in jpeg.problem and jpeg.left == {jpeg.problem: 2}
    assert len(caplog.records) == 1 and words in caplog.text


def test_an_engine_on_the_cpu_says_that_it_leaves_jpeg_to_the_cpu(caplog):
    with caplog.at_level(logging.WARNING), Engine(MODEL, device="cpu", gpu_jpeg=True) as engine:
        assert engine.decode_jpeg(PLAIN) is None and sum(engine.jpeg.left.values()) == 1
    assert "runs on the CPU" in caplog.text
    with Engine(MODEL, device="cpu") as engine:
        assert engine.jpeg is None and engine.decode_jpeg(PLAIN) is None


def test_torchvision_is_asked_for_rgb_on_the_engines_device(monkeypatch):
    """The one call into torchvision, with the names and the order of arguments of its documentation."""
    def decode_jpeg(input, mode="UNCHANGED", device="cpu", apply_exif_orientation=False):
        return input, mode, device, apply_exif_orientation
    module = ModuleType("torchvision.io")
    module.decode_jpeg, module.ImageReadMode = decode_jpeg, SimpleNamespace(RGB="RGB")
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.io", module)
    assert jpeg_module.nvjpeg()("file", "cuda:1") == ("file", "RGB", "cuda:1", False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_nvjpeg_decodes_what_opencv_does_up_to_rounding():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    images = [picture(360, 640, seed=i) for i in range(8)]
    files = [encoded(image, cv2.IMWRITE_JPEG_QUALITY, 90) for image in images]
    with Engine(MODEL, device="cuda", precision="fp32", gpu_jpeg=True) as engine:
        if engine.jpeg.problem:
            pytest.skip(engine.jpeg.problem)
        tickets = [engine.submit([engine.decode_jpeg(file)]) for file in files]     # decoded while others run
        got = [engine.result(ticket)[0] for ticket in tickets]
        want = engine.infer([decoded(file) for file in files])
        for file in files:
            there = engine.decode_jpeg(file).numpy(force=True).astype(int)
            assert np.abs(there - decoded(file)).mean() < 2                          # of 255
        assert engine.jpeg.on_gpu == 16 and not engine.jpeg.left
    for a, b in zip(got, want):
        assert (a.class_map == b.class_map).mean() > 0.95 and np.abs(a.anomaly - b.anomaly).mean() < 0.02
