# SPDX-License-Identifier: MIT
"""Cut-outs from furniture catalogues: OBJ files, which entries are taken, and the rendered pictures."""

from __future__ import annotations

import json
import sys
import zipfile

import cv2
import numpy as np
import pytest

from eomt_training.data.synthetic import catalogue, obj

CORNERS = [(x, y, z) for y in (0, 1) for x in (0, 1) for z in (0, 1)]
FACES = [(3, 4, 2, 1), (6, 8, 7, 5), (2, 6, 5, 1), (7, 8, 4, 3), (5, 7, 3, 1), (4, 8, 6, 2)]
BOX = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS) + "vt 0.5 0.5\nusemtl paint\n"
BOX += "".join("f " + " ".join(f"{i}/1" for i in face) + "\n" for face in FACES)


def write(folder, text, materials="newmtl paint\nKd 0.9 0.1 0.1\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.mtl").write_text(materials)
    (folder / "m.obj").write_text("mtllib m.mtl\n" + text)
    return folder / "m.obj"


def test_a_box_has_flat_sides_and_its_material(tmp_path):
    cv2.imwrite(str(tmp_path / "wood.png"), np.zeros((4, 4, 3), np.uint8))
    (part,) = obj.load(write(tmp_path, BOX, "newmtl paint\nKd 0.9 0.1 0.1\nd 0.5\nmap_Kd wood.png\n"))
    assert part.position.shape == part.normal.shape == (36, 3) and part.uv.shape == (36, 2)
    assert part.material == obj.Material((0.9, 0.1, 0.1), tmp_path / "wood.png", 0.5)
    np.testing.assert_allclose(part.uv, 0.5)
    assert set(np.abs(part.normal).max(1)) == {1.0}  # each along an axis: edges of 90° are not smoothed
    assert ((part.position - 0.5) * part.normal).sum(1).min() == pytest.approx(0.5)  # all point outwards


def test_gentle_edges_are_smoothed_and_normals_of_the_file_kept(tmp_path):
    bent = "v 0 0 0\nv 1 0 0\nv 1 0 -1\nv 0 0 -1\nv 2 0.3 0\nv 2 0.3 -1\nf 1 2 3 4\nf 2 5 6 3\n"
    (part,) = obj.load(write(tmp_path, bent))
    shared = part.normal[part.position[:, 0] == 1]
    assert (shared[:, 0] < -0.05).all() and (shared[:, 0] > -0.25).all()  # flat: 0 and -0.29
    (part,) = obj.load(write(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 -1\nf -3//1 -2//1 -1//1\n"))
    np.testing.assert_array_equal(part.normal, [[0, 0, -1]] * 3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("v 0 0 x\n", r"m\.obj:2: cannot read 'v 0 0 x'"),
        ("v 0 0 0\nf 1 2 3\n", r"m\.obj:3: .*index 2 of 1"),
        ("v 0 0 0\n", "holds no polygon"),
    ],
)
def test_a_broken_obj_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(obj.ObjError, match=message):
        obj.load(write(tmp_path, text))


def entry(number, name, side=50.0, category="Kitchen", **more):
    values = {"name": name, "category": category, "model": "/models/m.obj", "creator": "Ann"}
    values |= {"width": side, "depth": side, "height": side, **more}
    return "".join(f"{key}#{number}={value}\n" for key, value in values.items())


@pytest.fixture
def sh3f(tmp_path):
    """A catalogue of one model under several names."""
    names = ["Oven", "Chair", "Oven", "Truck", "Ring"]
    listing = "license=CC0\n" + "".join(entry(i, name) for i, name in enumerate(names[:4]))
    listing += entry(4, "Ring", 2.0) + entry(5, "Barn", 900.0) + entry(6, "Boy", category="Characters")
    listing += entry(7, "Wine rack", modelRotation="0 1 0 -1 0 0 0 0 1") + entry(8, "Rug", height=1.0)
    write(tmp_path / "models", BOX)
    with zipfile.ZipFile(tmp_path / "small.sh3f", "w") as archive:
        archive.writestr(catalogue.LISTING, listing.replace("\n", "\r\n"))
        for file in ("m.obj", "m.mtl"):
            archive.write(tmp_path / "models" / file, f"models/{file}")
    return tmp_path / "small.sh3f"


def test_objects_that_belong_on_a_road_or_are_trained_with_are_left_out(sh3f, tmp_path):
    entries = catalogue.read(sh3f, tmp_path / "unpacked")
    assert "Boy" not in {e.name for e in entries} and len(entries) == 8
    kept = [e for e in entries if catalogue.does_not_belong(e)]
    assert [e.name for e in kept] == ["Oven", "Oven", "Wine rack"]
    assert kept[0].size == (0.5, 0.5, 0.5) and kept[0].model.is_file()
    assert (kept[0].creator, kept[0].licence) == ("Ann", "CC0") and kept[2].turn[0, 1] == 1


def test_another_file_is_no_catalogue(tmp_path):
    (tmp_path / "a.sh3f").write_text("no zip")
    with pytest.raises(ValueError, match="is no furniture catalogue.*sweethome3d-furniture"):
        catalogue.read(tmp_path / "a.sh3f", tmp_path)


@pytest.fixture
def rendering():
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    from eomt_training.data.synthetic import cutout_views, renderer

    try:
        cutout_views.CutoutRenderer(16)
    except renderer.NoOpenGL as error:
        pytest.skip(str(error))
    return cutout_views


def test_an_object_stands_and_fills_the_picture(rendering, tmp_path):
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    parts = rendering.stand(obj.load(write(tmp_path, BOX)), (1, 2, 0.5), turn)
    points = np.concatenate([p.position for p in parts])
    np.testing.assert_allclose([points.min(0), points.max(0)], [[-0.5, 0, -0.25], [0.5, 2, 0.25]], atol=1e-6)
    pixels = rendering.look_at(points, np.array([3, 1.5, 6]), 100).project(points)
    assert pixels.min() == pytest.approx(1.5, abs=0.1) and pixels.max() == pytest.approx(97.5, abs=0.1)


def test_the_command_writes_cut_outs_that_evaluation_pastes(rendering, sh3f, tmp_path, monkeypatch):
    import render_cutouts

    from eomt_training.data.cutouts import load_folder

    for name in ("one", "two"):
        call = ["render_cutouts.py", "--catalogues", sh3f, "--output", tmp_path / name, "--side", 64]
        monkeypatch.setattr(sys, "argv", [*map(str, call), "--views", "2"])
        render_cutouts.main()
    files = sorted(p.name for p in (tmp_path / "one").glob("*.png"))
    assert files == ["oven_0.png", "oven_1.png", "wine_rack_0.png", "wine_rack_1.png"]
    about = json.loads((tmp_path / "one/cutouts.json").read_text())
    assert about["objects"]["oven"] == {"creator": "Ann", "licence": "CC0"}
    for name in files:
        rgba = cv2.imread(str(tmp_path / "one" / name), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
        np.testing.assert_array_equal(
            cv2.imread(str(tmp_path / "two" / name), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]], rgba
        )
        assert rgba.shape == (64, 64, 4) and rgba[0, 0, 3] == 0 and 0.3 < (rgba[..., 3] == 255).mean() < 1
        red, green, blue = rgba[rgba[..., 3] > 0][:, :3].astype(int).T
        assert (red > 3 * green).all() and (red > 3 * blue).all()  # no dark rim at the edges
    assert len(load_folder(tmp_path / "one", {"oven"})) == 2
