# SPDX-License-Identifier: MIT
"""Turns a folder of images (sorted by name) or a video file into a rosbag2 bag; needs no ROS.

python bags/make_bag.py frames/ my_bag --fps 15 --fov-deg 60 --height-m 1.4
python bags/make_bag.py drive.mp4 my_bag --topic /camera/left/image_raw --encoding raw --storage sqlite3
python bags/make_bag.py CamVid/val camvid_bag --ground-truth CamVid/valannot --map 11:255
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from bag_writer import STORAGE, BagWriter

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp")
EPOCH_NS = 1_760_000_000 * 10**9  # a fixed start: the same input gives the same bag


class InputError(ValueError):
    """The input cannot become a bag; the message says what to change."""


def image_files(folder: Path) -> list[Path]:
    """The folder's images, in natural order of their names (frame_2 before frame_10)."""
    found = [f for f in folder.iterdir() if f.suffix.lower() in IMAGES]
    if not found:
        raise InputError(f"{folder}: no images in it (looked for {', '.join(IMAGES)})")
    return sorted(
        found, key=lambda f: [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", f.name)]
    )


def _read(path: Path, flag: int) -> np.ndarray:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise InputError(f"{path}: not a readable image; repair or remove it")
    return image


def frames(source: Path, every: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, rgb uint8 [H,W,3]) of every `every`-th frame of a folder or a video."""
    if source.is_dir():
        for path in image_files(source)[::every]:
            yield path.stem, _read(path, cv2.IMREAD_COLOR)[..., ::-1]
        return
    video, index = cv2.VideoCapture(str(source)), 0
    try:
        while True:
            ok, bgr = video.read()
            if not ok:
                break
            if index % every == 0:
                yield f"{index:06d}", bgr[..., ::-1]
            index += 1
    finally:
        video.release()
    if index == 0:
        raise InputError(f"{source}: no frame could be decoded; is it a video that OpenCV can read?")


def video_rate(source: Path) -> float:
    """Frames per second that a video file declares. Raises InputError where it does not."""
    video = cv2.VideoCapture(str(source))
    rate = video.get(cv2.CAP_PROP_FPS) if video.isOpened() else 0.0
    video.release()
    if not 0 < rate < 1000:
        raise InputError(
            f"{source}: not a video that OpenCV can read, or it declares no frame rate (then pass --fps)"
        )
    return rate


def calibration(path: Path) -> tuple[np.ndarray, np.ndarray, str, tuple[int, int]]:
    """(K [3,3], D, distortion model, (width, height)) of a file as written by ROS's camera_calibration."""
    try:
        data = yaml.safe_load(path.read_text())
        K = np.array(data["camera_matrix"]["data"], float).reshape(3, 3)
        D = np.array(data["distortion_coefficients"]["data"], float).ravel()
        return (
            K,
            D,
            str(data.get("distortion_model", "plumb_bob")),
            (int(data["image_width"]), int(data["image_height"])),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a camera_calibration file ({type(error).__name__}: {error}); it needs image_width, "
            "image_height, camera_matrix.data and distortion_coefficients.data"
        ) from error


def camera(args: argparse.Namespace, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, str] | None:
    """(K, D, model) for frames of `size`, or None where no CameraInfo is asked for."""
    w, h = size
    if args.calibration:
        K, D, model, calibrated = calibration(args.calibration)
        if calibrated != size:
            raise InputError(
                f"{args.calibration}: is for {calibrated[0]}x{calibrated[1]}, but the frames are {w}x{h}"
            )
        return K, D, model
    if args.fov_deg:
        f = w / 2 / np.tan(np.radians(args.fov_deg) / 2)
        return np.array([[f, 0, (w - 1) / 2], [0, f, (h - 1) / 2], [0, 0, 1]]), np.zeros(5), "plumb_bob"
    return None


def truth_files(args: argparse.Namespace) -> dict[str, Path]:
    """Label image for each frame's name; for a video the label images are taken in order."""
    if not args.ground_truth:
        return {}
    if not args.ground_truth.is_dir():
        raise InputError(f"{args.ground_truth}: no such folder of label images")
    files = image_files(args.ground_truth)
    return {f.stem: f for f in files} if args.input.is_dir() else {f"{i:06d}": f for i, f in enumerate(files)}


def _labels(path: Path, size: tuple[int, int], table: np.ndarray) -> np.ndarray:
    labels = _read(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InputError(
            f"{path}: label images must have one 8-bit channel, this one is {labels.shape} {labels.dtype}"
        )
    if labels.shape != (size[1], size[0]):
        raise InputError(
            f"{path}: is {labels.shape[1]}x{labels.shape[0]}, but its frame is {size[0]}x{size[1]}"
        )
    return table[labels]


def make(args: argparse.Namespace) -> int:
    """Writes the bag; returns its number of frames."""
    if not args.input.exists():
        raise InputError(f"{args.input}: no such file or folder")
    rate = args.fps or (10.0 if args.input.is_dir() else video_rate(args.input) / args.every)
    truth, table = truth_files(args), np.arange(256, dtype=np.uint8)
    for old, new in args.map:
        table[old] = new
    names = {i.stem for i in image_files(args.input)} if args.input.is_dir() else None
    if truth and names is not None and not names & set(truth):
        raise InputError(f"{args.ground_truth}: none of its files is named like a frame of {args.input}")
    base, size, count = args.topic.rsplit("/", 1)[0], None, 0
    with BagWriter(args.output, args.storage, args.overwrite) as bag:
        for count, (name, rgb) in enumerate(frames(args.input, args.every), start=1):
            here = (rgb.shape[1], rgb.shape[0])
            if size is None:
                size, info = here, camera(args, here)
                if args.height_m is not None:
                    bag.static_camera(
                        "base_link", args.frame_id, args.height_m, np.radians(args.pitch_deg), EPOCH_NS
                    )
            if here != size:
                raise InputError(
                    f"frame {name!r} is {here[0]}x{here[1]}, the first is {size[0]}x{size[1]}: "
                    "one camera, one size"
                )
            stamp = EPOCH_NS + round((count - 1) * 1e9 / rate)
            if args.encoding == "jpeg":
                bag.compressed(f"{args.topic}/compressed", rgb, stamp, args.frame_id, quality=args.quality)
            else:
                bag.raw(args.topic, np.ascontiguousarray(rgb), stamp, args.frame_id)
            if info is not None:
                bag.camera_info(f"{base}/camera_info", info[0], size, stamp, args.frame_id, *info[1:])
            if name in truth:
                bag.compressed(
                    f"{base}/ground_truth",
                    _labels(truth[name], size, table),
                    stamp,
                    args.frame_id,
                    kind="png",
                )
    return count


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def _fov(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 170:
        raise argparse.ArgumentTypeError(f"{text} must be between 1 and 170 degrees")
    return value


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def _topic(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z_]\w*)+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an absolute topic name, e.g. /camera/front/image_raw"
        )
    return text


def _mapping(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    if not match or max(int(g) for g in match.groups()) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD:NEW with both in 0..255, e.g. 11:255")
    return int(match[1]), int(match[2])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("input", type=Path, help="folder of images, or a video file")
    p.add_argument("output", type=Path, help="the bag's folder")
    p.add_argument(
        "--fps", type=_positive, help="frames per second in the bag (default: 10, or the video's own rate)"
    )
    p.add_argument("--every", type=_count, default=1, help="keep every n-th frame")
    p.add_argument(
        "--topic", type=_topic, default="/camera/front/image_raw", help="jpeg adds /compressed to it"
    )
    p.add_argument("--encoding", choices=("jpeg", "raw"), default="jpeg")
    p.add_argument("--quality", type=int, choices=range(1, 101), default=92, metavar="1..100", help="of jpeg")
    p.add_argument("--storage", choices=tuple(STORAGE), default="mcap")
    p.add_argument("--frame-id", default="camera_front_optical")
    p.add_argument(
        "--fov-deg", type=_fov, help="horizontal field of view: adds CameraInfo without distortion"
    )
    p.add_argument("--calibration", type=Path, help="camera_calibration yaml: adds CameraInfo")
    p.add_argument(
        "--height-m", type=_positive, help="camera above the ground: adds /tf_static base_link -> frame id"
    )
    p.add_argument("--pitch-deg", type=float, default=0.0, help="camera looks down by this much")
    p.add_argument(
        "--ground-truth", type=Path, help="folder of label images named like the frames (8-bit, one channel)"
    )
    p.add_argument(
        "--map",
        type=_mapping,
        action="append",
        default=[],
        metavar="OLD:NEW",
        help="renames a label, e.g. 11:255",
    )
    p.add_argument("--overwrite", action="store_true", help="replace an older bag at OUTPUT")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        count = make(args)
    except (InputError, FileExistsError) as error:
        print(f"make_bag: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.output}: {count} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
