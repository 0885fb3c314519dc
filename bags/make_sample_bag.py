# SPDX-License-Identifier: MIT
"""Renders the sample bag: a ten-second drive on the track `ruudskogen`, which training never sees.

Objects on the road are of EVAL kinds only (training never sees those either), and all are our own meshes.

    python bags/make_sample_bag.py --torcs-data DIR [--output bags/sample_drive] [--sequence S/bag]

--sequence also writes the drive as render_sequences.py does, with the truth of each obstacle, for
training/sequence_quality.py: the bag's labels do not say which is which, nor how far away.

Topics: /camera/front/image_raw/compressed (jpeg), /camera/front/camera_info, /camera/front/ground_truth
(png labels: 0..10 classes, 254 outlier, 255 void), /tf_static (base_link -> camera_front_optical).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "training"))
from bag_writer import BagWriter  # noqa: E402

from eomt_training.data.sequences import ABOUT, OBSTACLE, SPECK_PX, VOID  # noqa: E402
from eomt_training.data.synthetic import drive, objects, tracks  # noqa: E402
from eomt_training.data.synthetic.renderer import Item, Light, NoOpenGL, Renderer  # noqa: E402
from eomt_training.data.synthetic.sequences import metres_away, sequence_labels  # noqa: E402

SIZE, FOV_DEG, HEIGHT_M, PITCH_RAD = (640, 360), 66.0, 1.45, 0.06
RATE_HZ, SECONDS, SPEED = 10, 10, 13.0  # 13 m/s = 47 km/h
START_M, LANE_M = 1450.0, 2.3  # arc length on the track; metres right of the road's centre
QUALITY = 88  # of the JPEG pictures
EPOCH_NS = 1_760_000_000 * 10**9
FRAME, PARENT, CAMERA = "camera_front_optical", "base_link", "/camera/front"
LIGHT = Light(
    sun=(-0.5, 0.9, 0.5),
    sun_colour=(0.55, 0.52, 0.46),
    ambient=(0.56, 0.58, 0.62),
    fog=8e-4,
    clouds=0.55,
    seed=12.0,
)


def _actor(kind: str, seed: int):
    return objects.make(kind, np.random.default_rng(seed))


ACTORS = {
    name: _actor(kind, seed)
    for name, kind, seed in (
        ("boar", "boar", 3),
        ("cart", "shopping_cart", 5),
        ("log", "log", 1),
        ("fridge", "fridge", 4),
        ("oncoming", "car", 8),
        ("ahead", "car", 21),
    )
}
OBSTACLES = ("boar", "cart", "log", "fridge")  # an obstacle's id is its place here


def items_at(track: tracks.Track, t: float) -> list[Item]:
    """What stands or moves on the road `t` seconds into the drive; obstacles are labelled OBSTACLE + id."""

    def put(name, along, across, yaw, label=None):
        label = OBSTACLE + OBSTACLES.index(name) if label is None else label
        return drive.place(track, ACTORS[name], START_M + along, across, yaw, label)

    scene = [
        put("oncoming", 95 - 13 * t, -2.6, np.pi, tracks.CAR),
        put("ahead", 45 + 15.5 * t, 2.5, 0.0, tracks.CAR),
        put("cart", 120, -0.4, 0.9),
        put("log", 136, 2.4, 1.2),
        put("fridge", 149, -1.6, 0.3),
    ]
    if t >= 2.4:  # it runs in from behind the left barrier, crosses, and leaves on the right
        scene.append(put("boar", 80 + 0.4 * (t - 2.4), -11.5 + 5.2 * (t - 2.4), -np.pi / 2))
    return scene


def frame_at(track: tracks.Track, renderer: Renderer, index: int, seed: int):
    """(rgb, labels with the obstacles by id, camera, {id: metres away}) of frame `index`."""
    t = index / RATE_HZ
    camera = drive.camera_on(
        track,
        START_M + SPEED * t,
        LANE_M + 0.12 * np.sin(0.9 * t),
        SIZE,
        FOV_DEG,
        HEIGHT_M,
        PITCH_RAD + 0.003 * np.sin(8.1 * t) + 0.0015 * np.sin(13.7 * t),
        0.006 * np.sin(1.1 * t),
        0.004 * np.sin(3.3 * t),
    )
    items = items_at(track, t)
    rgb, labels = renderer.render(camera, LIGHT, items)
    away = {item.label - OBSTACLE: metres_away(camera, item) for item in items if item.label >= OBSTACLE}
    rgb = drive.finish(rgb, np.random.default_rng(seed), 0.35, np.random.default_rng((seed, index)))
    return rgb, sequence_labels(labels), camera, away


def ground_truth(labels: np.ndarray) -> np.ndarray:
    """The bag's labels: obstacles are outliers, and void where fewer than SPECK_PX pixels are connected."""
    outlier = (labels >= OBSTACLE) & (labels < VOID)
    _, components, stats, _ = cv2.connectedComponentsWithStats(outlier.astype(np.uint8))
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < SPECK_PX)
    truth = np.where(outlier, np.uint8(tracks.OUTLIER), labels)
    return np.where(np.isin(components, small[small > 0]), np.uint8(tracks.VOID), truth)


class SequenceFolder:
    """Writes what `eomt_training.data.sequences.Sequence` reads; sequence.json comes last, with `finish`."""

    def __init__(self, folder: Path):
        self.folder, self.distances = folder, []
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).unlink(missing_ok=True)

    def add(self, rgb: np.ndarray, labels: np.ndarray, away: dict[int, float]) -> None:
        name = f"{len(self.distances):05d}"
        picture = str(self.folder / "images" / f"{name}.jpg")
        cv2.imwrite(picture, rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        cv2.imwrite(str(self.folder / "labels" / f"{name}.png"), labels)
        self.distances.append({str(i): round(metres, 2) for i, metres in away.items()})

    def finish(self, K: np.ndarray) -> None:
        about = {
            "rate_hz": RATE_HZ,
            "size": SIZE,
            "K": K.tolist(),
            "height_m": HEIGHT_M,
            "pitch_rad": PITCH_RAD,
            "obstacles": [{"id": i, "kind": kind, "on_road": True} for i, kind in enumerate(OBSTACLES)],
            "distances_m": self.distances,
        }
        (self.folder / ABOUT).write_text(json.dumps(about))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--torcs-data", required=True, type=Path, help="unpacked torcs-data (dpkg -x torcs-data_*.deb DIR)"
    )
    parser.add_argument("--output", type=Path, default=HERE / "sample_drive")
    parser.add_argument("--sequence", type=Path, help="folder of drives to write it to as sample_drive/ too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    track = tracks.load(args.torcs_data, tracks.DEMO[0])
    renderer = Renderer(SIZE, supersample=3)
    renderer.load(track)
    sequence = SequenceFolder(args.sequence / "sample_drive") if args.sequence else None
    with BagWriter(args.output, overwrite=True) as bag:
        bag.static_camera(PARENT, FRAME, HEIGHT_M, PITCH_RAD, EPOCH_NS)
        for index in range(RATE_HZ * SECONDS):
            stamp = EPOCH_NS + index * 10**9 // RATE_HZ
            rgb, labels, camera, away = frame_at(track, renderer, index, args.seed)
            bag.camera_info(f"{CAMERA}/camera_info", camera.K, SIZE, stamp, FRAME)
            bag.compressed(f"{CAMERA}/image_raw/compressed", rgb, stamp, FRAME, quality=QUALITY)
            bag.compressed(f"{CAMERA}/ground_truth", ground_truth(labels), stamp, FRAME, kind="png")
            if sequence:
                sequence.add(rgb, labels, away)
            if (index + 1) % 20 == 0:
                print(f"{index + 1} of {RATE_HZ * SECONDS} frames", flush=True)
    if sequence:
        sequence.finish(camera.K)
    print(f"wrote {args.output} ({sum(f.stat().st_size for f in args.output.iterdir()) / 2**20:.1f} MiB)")


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, NoOpenGL) as error:
        raise SystemExit(f"make_sample_bag: {error}") from None
