# SPDX-License-Identifier: MIT
"""Renders labelled frames of drives in CamVid's layout: OUT/train/*.png, OUT/trainannot/*.png (or val, test).

Labels: uint8 class ids 0..10 (CamVid's order), 253 ordinary scenery of no class (sand, rock), 254 an outlier
object, 255 void. OUT/manifest_<split>.json says for each frame its track, place, light and outlier kinds.
Half of the frames have 1-3 outliers. Train's have more of the ordinary: cars of many kinds, gantries, arches
and bridges over the road, walls in blocks of colour, hoardings and towers beside it. Train, val and test use
disjoint tracks, and train's kinds of object are not those of the others.

    python training/render_drives.py --torcs-data DIR --output OUT --split train --frames 600 --seed 0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from eomt_training.data.synthetic import drive, objects, tracks
from eomt_training.data.synthetic.renderer import Renderer

VARIETY = drive.Variety(spans=0.3, roadside=0.5, cars=0.7)  # of training frames
SPLITS = {  # tracks and kinds of obstacles; a split's place here is part of the seed of its frames
    "train": (tracks.TRAIN, objects.TRAIN_KINDS),
    "val": (tracks.VAL, objects.EVAL_KINDS),
    "test": (tracks.DEMO, objects.EVAL_KINDS),
}
TRIES = 30


def size_of(text: str) -> tuple[int, int]:
    """'640x360' -> (640, 360)."""
    try:
        w, h = (int(v) for v in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 640x360") from None
    if min(w, h) < 32:
        raise argparse.ArgumentTypeError(f"{text!r}: both sides must be at least 32")
    return w, h


def good(labels: np.ndarray, with_outliers: bool) -> bool:
    """A frame worth keeping: a road to drive on and, where asked for, an outlier that can be seen."""
    seen = np.bincount(labels.ravel(), minlength=256) / labels.size
    return (
        seen[tracks.ROAD] > 0.08
        and seen[tracks.ORDINARY] + seen[tracks.VOID] < 0.6
        and (not with_outliers or seen[tracks.OUTLIER] > 3e-4)
    )


def render(
    renderer: Renderer,
    track: tracks.Track,
    rng: np.random.Generator,
    kinds: dict,
    with_outliers: bool,
    variety: drive.Variety,
):
    """(rgb, labels, about) of a random good frame on `track`."""
    for _ in range(TRIES):
        scene = drive.random_scene(track, rng, renderer.size, kinds, with_outliers, variety)
        rgb, labels = renderer.render(scene.camera, scene.light, scene.items)
        if good(labels, with_outliers):
            return drive.finish(rgb, rng), labels, scene.about
    raise RuntimeError(f"no usable view on {track.name} after {TRIES} tries: is its road mesh complete?")


def check_empty(folder: Path, wanted: set[str]) -> None:
    """Raises ValueError where a folder holds other frames than are to be written: they would be one set."""
    if others := sorted({path.name for path in folder.glob("*.png")} - wanted):
        raise ValueError(
            f"{folder} holds {len(others)} frames of another run ({others[0]}, ...), which would be mixed "
            "with these: remove them, or give another --output"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--torcs-data", required=True, type=Path, help="unpacked torcs-data (dpkg -x torcs-data_*.deb DIR)"
    )
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--split", choices=tuple(SPLITS), default="train")
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--size", type=size_of, default=(640, 360), metavar="WxH")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names, kinds = SPLITS[args.split]
    images, annot = args.output / args.split, args.output / f"{args.split}annot"
    for folder in (images, annot):
        folder.mkdir(parents=True, exist_ok=True)
    check_empty(images, {f"{names[i % len(names)]}_{i:05d}.png" for i in range(args.frames)})
    renderer, frames = Renderer(args.size), []
    variety = VARIETY if args.split == "train" else drive.Variety()
    for t, name in enumerate(names):
        track = tracks.load(args.torcs_data, name)
        renderer.load(track)
        for i in range(t, args.frames, len(names)):
            rng = np.random.default_rng((args.seed, list(SPLITS).index(args.split), i))
            rgb, labels, about = render(renderer, track, rng, kinds, (i // len(names)) % 2 == 0, variety)
            file = f"{name}_{i:05d}.png"
            cv2.imwrite(str(images / file), rgb[..., ::-1])
            cv2.imwrite(str(annot / file), labels)
            frames.append({"file": file, **about})
        print(f"{args.split}: {name} done, {len(frames)} of {args.frames} frames", flush=True)
    used = {n: tracks.AUTHORS[n] for n in names}
    manifest = {
        "split": args.split,
        "seed": args.seed,
        "size": args.size,
        "licence": tracks.LICENCE,
        "authors": used,
        "kinds": sorted(kinds),
        "frames": sorted(frames, key=lambda f: f["file"]),
    }
    (args.output / f"manifest_{args.split}.json").write_text(json.dumps(manifest, indent=1))


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ValueError, RuntimeError) as error:  # and NoOpenGL
        raise SystemExit(f"render_drives: {error}") from None
