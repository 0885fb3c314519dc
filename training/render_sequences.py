# SPDX-License-Identifier: MIT
"""Renders whole drives with obstacles of known identity, place and size into OUT/SPLIT/NAME/.

    python training/render_sequences.py --torcs-data DIR --output sequences --split val --drives 20 --clean 20

`train` (tracks and objects the network has seen) is for tuning; `val` and `test` have objects it has not
seen, on the tracks g-track-2 and ruudskogen. A drive that is there already is kept: a stopped run goes on.
One that was rendered with other options is refused.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from render_drives import SPLITS, size_of

from eomt_training.data.sequences import ABOUT
from eomt_training.data.synthetic import tracks
from eomt_training.data.synthetic.renderer import NoOpenGL, Renderer
from eomt_training.data.synthetic.sequences import Drive, random_drive
from eomt_training.json_files import read_object


def finished(folder: Path, made_with: dict[str, Any]) -> bool:
    """Whether a drive is there. Raises ValueError for one that was rendered with other options."""
    if not (folder / ABOUT).is_file():
        return False
    then = read_object(folder / ABOUT).get("made_with", made_with)  # older ones do not say
    if then != made_with:
        raise ValueError(f"{folder} was rendered with {then}, not {made_with}: give another --output")
    return True


def write(
    drive: Drive, renderer: Renderer, folder: Path, rate_hz: float, made_with: dict[str, Any] | None = None
) -> None:
    """Render one drive; sequence.json comes last, so that a folder that has one is complete.

    made_with: the options that decide what is in it, see `finished`.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    distances = []
    for i in range(round(drive.seconds * rate_hz)):
        rgb, labels, away = drive.shot(renderer, i / rate_hz)
        picture, quality = str(folder / "images" / f"{i:05d}.jpg"), [cv2.IMWRITE_JPEG_QUALITY, 95]
        cv2.imwrite(picture, rgb[..., ::-1], quality)
        cv2.imwrite(str(folder / "labels" / f"{i:05d}.png"), labels)
        distances.append({str(k): round(v, 2) for k, v in away.items()})
    about = {
        "track": drive.track.name,
        "author": tracks.AUTHORS[drive.track.name],
        "licence": tracks.LICENCE,
        "light": drive.light_kind,
        "rate_hz": rate_hz,
        "size": drive.size,
        "K": drive.camera(0).K.tolist(),
        "height_m": drive.height_m,
        "pitch_rad": drive.pitch_rad,
        "speed_mps": drive.speed,
        "cars": len(drive.cars),
        "obstacles": [
            {"id": i, "kind": o.prop.kind, "on_road": drive.on_road(o)} for i, o in enumerate(drive.obstacles)
        ],
        "distances_m": distances,
    }
    if made_with is not None:
        about["made_with"] = made_with
    (folder / ABOUT).write_text(json.dumps(about))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--torcs-data", required=True, type=Path, help="unpacked torcs-data (dpkg -x torcs-data_*.deb DIR)")
    add("--output", required=True, type=Path)
    add("--split", choices=tuple(SPLITS), default="train")
    add("--drives", type=int, default=20, help="drives with obstacles")
    add("--clean", type=int, default=20, help="drives without")
    add("--seconds", type=float, default=20.0, help="of a drive with obstacles")
    add("--clean-seconds", type=float, default=30.0)
    add("--rate", type=float, default=10.0, help="Hz")
    add("--size", type=size_of, default=(640, 360), metavar="WxH")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.rate > 0 and min(args.seconds, args.clean_seconds) * args.rate >= 1):
        parser.error("--rate and the seconds must give at least one frame a drive")
    names, kinds = SPLITS[args.split]
    renderer = Renderer(args.size)
    for t, name in enumerate(names):
        track = None
        for clean, count in ((False, args.drives), (True, args.clean)):
            for i in range(t, count, len(names)):
                folder = args.output / args.split / f"{'clean' if clean else 'drive'}_{i:03d}_{name}"
                seconds = args.clean_seconds if clean else args.seconds
                made_with = {"seed": args.seed, "seconds": seconds, "rate": args.rate, "size": [*args.size]}
                if finished(folder, made_with):
                    continue
                if track is None:
                    track = tracks.load(args.torcs_data, name)
                    renderer.load(track)
                rng = np.random.default_rng((args.seed, list(SPLITS).index(args.split), clean, i))
                planned = random_drive(track, rng, args.size, kinds, seconds, clean)
                write(planned, renderer, folder, args.rate, made_with)
                print(f"{folder.name}: {round(seconds * args.rate)} frames", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, NoOpenGL, ValueError) as error:
        raise SystemExit(f"render_sequences: {error}") from None
