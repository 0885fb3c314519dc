#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes pictures without obstacles out of a bag, to calibrate the alert threshold on one's own camera.

python bags/frames_of_bag.py BAG frames --every 1 --ignore-mask vehicle.png
python training/evaluate.py calibrate --checkpoint DIR --data generic_anomaly --root frames --fpr 0.003

Writes FRAMES/images/BAG_000000.png and so on, one in `--every` seconds, and FRAMES/labels_masks/ with a
label for each: all of it is normal, but what `--ignore-mask` hides (the detector's CAM.ignore_mask). Look
through the images, and delete those with an obstacle, and their labels. Several bags may share a folder.
"""

from __future__ import annotations

import argparse
import glob
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ros2_ws/src/eomt_anomaly"))

from eomt_anomaly.ros.bag_io import Bag, BagError  # noqa: E402
from eomt_anomaly.ros.compressed import InvalidInput  # noqa: E402
from eomt_anomaly.ros.conversions import to_rgb  # noqa: E402
from eomt_anomaly.ros.ignore_mask import check_mask, read_mask  # noqa: E402
from eomt_anomaly.ros.player import positive, ros_message  # noqa: E402

NORMAL, VOID = 0, 255


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bag", type=Path, help="rosbag2 folder, or an .mcap or .db3 file")
    parser.add_argument("output", type=Path, help="folder for images/ and labels_masks/")
    parser.add_argument("--topic", help="of the pictures; default: the bag's only one")
    parser.add_argument("--every", type=positive, default=1.0, metavar="S", help="seconds between two (1)")
    parser.add_argument(
        "--ignore-mask", default="", metavar="FILE", help="picture, white where the vehicle is"
    )
    args = parser.parse_args(argv)
    try:
        kept, refused = take(args)
    except (BagError, InvalidInput, OSError, ValueError) as error:
        print(f"frames_of_bag: {error}", file=sys.stderr)
        return 1
    print(
        f"{kept} pictures in {args.output}" + (f"; {len(refused)} left out: {refused[0]}" if refused else "")
    )
    return 0


def take(args: argparse.Namespace) -> tuple[int, list[str]]:
    """How many pictures were written, and why others were not.

    Raises BagError, InvalidInput (a mask of another size), OSError or ValueError (a mask that cannot be read,
    no picture at all).
    """
    mask = read_mask("the camera", args.ignore_mask)
    images, labels = args.output / "images", args.output / "labels_masks"
    kept, refused, due_ns = 0, [], 0
    with Bag(args.bag) as bag:
        topic = bag.choose_image_topic(args.topic)
        path = bag.path.resolve()
        name = path.name if path.is_dir() else path.stem
        if any(images.glob(f"{glob.escape(name)}_{'[0-9]' * 6}.png")):
            raise FileExistsError(
                f"{images} has pictures of a bag {name}: give another folder, or delete them"
            )
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        for record in tqdm(bag.records([topic.name]), total=topic.count, unit="picture", disable=None):
            if record.time_ns < due_ns:
                continue
            try:
                rgb = to_rgb(ros_message(record))  # uint8 [H,W,3]
            except InvalidInput as error:
                refused.append(str(error))
                continue
            due_ns = record.time_ns + round(args.every * 1e9)
            check_mask(mask, rgb)
            truth = np.full(rgb.shape[:2], NORMAL, np.uint8)
            if mask is not None:
                truth[mask] = VOID
            for folder, pixels in ((images, rgb[..., ::-1]), (labels, truth)):
                if not cv2.imwrite(str(file := folder / f"{name}_{kept:06d}.png"), pixels):
                    raise OSError(f"{file} cannot be written")
            kept += 1
    if not kept:
        raise ValueError(f"no picture of {topic.name} could be read: {refused[0]}")
    return kept, refused


if __name__ == "__main__":
    sys.exit(main())
