#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Renders household objects as RGBA cut-outs, to evaluate with objects of a source that training never had.

Each object of Sweet Home 3D's catalogues that does not belong on a road, one of a name, is seen from a
camera 1.2-1.75 m above the ground, 4-20 m away, from any side, in any of the drives' lights but fog:
OUT/NAME_VIEW.png. OUT/cutouts.json names each object's creator and licence. The same seed gives the same
pictures.

    python training/render_cutouts.py --catalogues DIR/*.sh3f --output OUT --views 3 --seed 0
    python training/evaluate.py anomaly --cutouts OUT ...
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from eomt_training.data.synthetic import catalogue, lights, obj
from eomt_training.data.synthetic.cutout_views import CutoutRenderer, stand
from eomt_training.data.synthetic.renderer import NoOpenGL

LIGHTS = tuple(kind for kind in lights.LIGHTS if kind != "fog")


def chosen(entries: list[catalogue.Entry]) -> dict[str, catalogue.Entry]:
    """{file name: model} of those that do not belong on a road, the first of each name."""
    found: dict[str, catalogue.Entry] = {}
    for entry in filter(catalogue.does_not_belong, entries):
        found.setdefault(re.sub(r"[^a-z0-9]+", "_", entry.name.lower()).strip("_"), entry)
    return found


def view(renderer: CutoutRenderer, parts: list[obj.Part], rng: np.random.Generator) -> np.ndarray:
    """One picture from a random side, in a random light."""
    angle, far, height = rng.uniform(0, 2 * np.pi), rng.uniform(4, 20), rng.uniform(1.2, 1.75)
    eye = np.array([far * np.cos(angle), height, far * np.sin(angle)])
    return renderer.render(parts, eye, lights.light(rng, LIGHTS[rng.integers(len(LIGHTS))]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--catalogues", required=True, type=Path, nargs="+", metavar="FILE", help=catalogue.HELP
    )
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--views", type=int, default=3, help="pictures of each object")
    parser.add_argument("--side", type=int, default=320, help="longest side of a picture, px")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    renderer, about = CutoutRenderer(args.side), {}
    with tempfile.TemporaryDirectory() as folder:
        entries = [e for path in args.catalogues for e in catalogue.read(path, Path(folder) / path.stem)]
        for name, entry in chosen(entries).items():
            parts = stand(obj.load(entry.model), entry.size, entry.turn)
            for i in range(args.views):
                rgba = view(renderer, parts, np.random.default_rng((args.seed, zlib.crc32(name.encode()), i)))
                cv2.imwrite(str(args.output / f"{name}_{i}.png"), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
            about[name] = {"creator": entry.creator, "licence": entry.licence}
    (args.output / "cutouts.json").write_text(json.dumps({"seed": args.seed, "objects": about}, indent=1))
    print(f"{len(about)} objects, {args.views} pictures each: {args.output}")


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ValueError, NoOpenGL) as error:
        raise SystemExit(f"render_cutouts: {error}") from None
