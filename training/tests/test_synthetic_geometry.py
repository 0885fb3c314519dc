# SPDX-License-Identifier: MIT
"""The synthetic room without OpenGL: AC3D and texture files, the road's course, the objects, the camera."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_world import HEADER, straight_road, strip, write_track

from eomt_training.data.synthetic import ac3d, cars, images, objects, roadside, spans, tracks
from eomt_training.data.synthetic.drive import Variety, camera_on, random_scene

ALL_KINDS = [*objects.TRAIN_KINDS, *objects.EVAL_KINDS, "car"]


def _load(tmp_path, text):
    (tmp_path / "m.ac").write_text(text)
    return ac3d.load(tmp_path / "m.ac")


@given(st.integers(3, 30))
@settings(max_examples=15, deadline=None)
def test_a_strip_becomes_triangles_that_cover_it_and_keep_facing_up(tmp_path_factory, count):
    points = [(float(i % 2), 0.0, float(i // 2)) for i in range(count)]
    (mesh,) = _load(tmp_path_factory.mktemp("ac"), HEADER + "kids 1\n" + strip("S", "a.png", points))
    corner = mesh.position.reshape(-1, 3, 3)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert len(corner) == count - 2
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(
        (count - 2) / 2
    )  # each is half a unit square
    assert len(set(np.sign(normal[:, 1]))) == 1  # one winding for all
    np.testing.assert_array_equal(mesh.strip, points)


def test_polygons_names_textures_and_both_layers_of_texture_coordinates(tmp_path):
    text = HEADER + (
        'kids 1\nOBJECT poly\nname "q"\ntexture "w.png" base\ntexture empty_texture_no_mapping tiled\n'
        "numvert 4\n0 0 0\n1 0 0\n"
        "1 0 1\n0 0 1\nnumsurf 1\nSURF 0x10\nmat 0\nrefs 4\n0 0 0 .5 .6\n1 1 0\n2 1 1\n3 0 1\nkids 0\n"
    )
    (mesh,) = _load(tmp_path, text)
    assert (mesh.name, mesh.texture, mesh.shade) == ("q", "w.png", None)
    assert mesh.position.shape == (6, 3)
    np.testing.assert_allclose(mesh.uv_shade[0], (0.5, 0.6))
    np.testing.assert_allclose(np.abs(mesh.normal[:, 1]), 1)  # no normals in the file: from the faces


@pytest.mark.parametrize(
    "text, words",
    [
        ("hello", "not an AC3D file"),
        (HEADER + "kids 1\nOBJECT poly\nnumvert 2\n0 0 0\n", "ends inside"),
        (HEADER + "kids 1\nOBJECT poly\nnumvert 1\n0 zero 0\n", "expected numbers"),
        (HEADER + "kids 1\nOBJECT poly\nloc 1 2 3\n", "'loc'"),
        (
            HEADER
            + "OBJECT poly\nnumvert 1\n0 0 0\nnumsurf 1\nSURF 0x10\nmat 0\n"
            + "refs 3\n0 0 0\n1 0 0\n2 0 0\nkids 0\n",
            "does not have",
        ),
    ],
)
def test_broken_models_are_named(tmp_path, text, words):
    with pytest.raises(ac3d.Ac3dError, match=words) as error:
        _load(tmp_path, text)
    assert "m.ac" in str(error.value)


def _sgi(image: np.ndarray, rle: bool) -> bytes:
    """An SGI file, rows as literal and repeated runs."""
    h, w, c = image.shape
    head = struct.pack(">HBBHHHH", 474, int(rle), 1, 3, w, h, c).ljust(512, b"\0")
    rows = [image[::-1][y, :, k].tobytes() for k in range(c) for y in range(h)]
    if not rle:
        return head + b"".join(rows)
    packed = []
    for row in rows:
        out = b"".join(bytes([0x81, v]) if i % 2 else bytes([1, v]) for i, v in enumerate(row))
        packed.append(out + b"\0")
    starts = np.cumsum([0] + [len(p) for p in packed[:-1]]) + 512 + 8 * len(rows)
    return (
        head
        + struct.pack(f">{len(rows)}I", *starts)
        + struct.pack(f">{len(rows)}I", *map(len, packed))
        + b"".join(packed)
    )


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_sgi_textures_come_back_as_they_were_written(tmp_path_factory, channels, w, h, rle, seed):
    image = np.random.default_rng(seed).integers(0, 255, (h, w, channels), np.uint8)
    path = tmp_path_factory.mktemp("sgi") / "t.rgb"
    path.write_bytes(_sgi(image, rle))
    got = images.rgba(path)
    assert got.shape == (h, w, 4)
    np.testing.assert_array_equal(got[..., 0], image[..., 0])
    np.testing.assert_array_equal(got[..., 2], image[..., 2 if channels > 2 else 0])
    np.testing.assert_array_equal(got[..., 3], image[..., -1] if channels in (2, 4) else 255)


def test_png_textures_and_unreadable_ones(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[[1, 2, 3, 4]]], np.uint8))  # b, g, r, a
    assert images.rgba(tmp_path / "a.png").tolist() == [[[3, 2, 1, 4]]]
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "c.rgb").write_bytes(b"x" * 600)
    for name in ("b.png", "c.rgb"):
        with pytest.raises(ValueError, match=name):
            images.rgba(tmp_path / name)


@given(st.permutations(range(1, 8)), st.lists(st.booleans(), min_size=8, max_size=8))
@settings(max_examples=15, deadline=None)
def test_the_road_is_found_whatever_the_order_and_direction_of_its_strips(tmp_path_factory, order, flips):
    pieces = []
    for i, k in enumerate([0, *order]):
        points = [(s * 5.0, 0.0, -50.0 * k - d) for d in range(0, 51, 10) for s in (-1, 1)]
        pieces.append(strip(f"TKMN{i}", "road01.png", points[::-1] if flips[i] and i else points))
    root = write_track(tmp_path_factory.mktemp("t"), "ruudskogen", pieces)
    track = tracks.load(root, "ruudskogen")
    assert track.length == pytest.approx(400)
    np.testing.assert_allclose(
        track.at(123.0, across=2.0), (2.0, 0, -123.0), atol=1e-6
    )  # right is +x when driving to -z
    np.testing.assert_allclose(track.heading(200.0), (0, 0, -1), atol=1e-6)
    assert track.width(50.0) == pytest.approx(10)


def test_ground_is_the_highest_surface_near_the_point(tmp_path):
    bump = strip("BUMP", "grass01.png", [(10, 0.5, -90), (20, 0.5, -90), (10, 0.5, -110), (20, 0.5, -110)])
    track = tracks.load(write_track(tmp_path, "ruudskogen", [*straight_road(), bump]), "ruudskogen")
    assert track.ground(np.array([15.0, 0, -100])) == pytest.approx(0.5)
    assert track.ground(np.array([30.0, 0, -100])) == pytest.approx(0.0)
    assert track.ground(np.array([500.0, 0.25, 0])) == 0.25  # no ground there


def test_missing_or_unlisted_tracks_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="dpkg -x"):
        tracks.load(tmp_path, "ruudskogen")
    with pytest.raises(ValueError, match="corkscrew"):
        tracks.load(tmp_path, "corkscrew")  # GPL, so it is not in our table


def test_tracks_and_object_kinds_of_the_splits_are_disjoint():
    splits = [set(tracks.TRAIN), set(tracks.VAL), set(tracks.DEMO)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    assert set.union(*splits) == set(tracks.AUTHORS)
    assert not set(objects.TRAIN_KINDS) & set(objects.EVAL_KINDS)
    assert not set(objects.TRAIN_KINDS.values()) & set(objects.EVAL_KINDS.values())


@given(st.sampled_from(ALL_KINDS), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_every_object_is_a_sound_mesh_that_stands_on_the_ground(kind, seed):
    prop = objects.make(kind, np.random.default_rng(seed))
    v = prop.vertices
    assert v.shape[1] == 12 and len(v) % 3 == 0 and np.isfinite(v).all()
    assert v[:, 1].min() == pytest.approx(0, abs=1e-6)
    assert 0.15 < prop.extent.max() < 5.5
    assert v[:, 6:9].min() >= 0 and v[:, 6:9].max() <= 1
    np.testing.assert_array_equal(v, objects.make(kind, np.random.default_rng(seed)).vertices)


@given(st.integers(0, 10**6), st.floats(5, 20))
@settings(max_examples=40, deadline=None)
def test_what_spans_the_road_is_sound_and_leaves_the_road_free(seed, width):
    prop = spans.make(np.random.default_rng(seed), width)
    position = prop.vertices[:, :3]
    assert np.isfinite(prop.vertices).all() and len(prop.vertices) % 3 == 0
    assert prop.vertices[:, 6:9].min() >= 0 and prop.vertices[:, 6:9].max() <= 1
    assert position[:, 1].min() <= spans.FOOT + 2 and position[:, 1].max() > 4
    assert position[:, 2].min() < -width / 2 and position[:, 2].max() > width / 2
    over_the_road = np.abs(position[:, 2]) < width / 2
    assert position[over_the_road, 1].min(initial=9.0) > 1.2  # m: feet stand beside it
    np.testing.assert_array_equal(position, spans.make(np.random.default_rng(seed), width).vertices[:, :3])


def test_a_scene_with_a_span_is_told_and_is_otherwise_the_same(tmp_path_factory):
    track = _straight(tmp_path_factory)
    plain, spanned = (
        random_scene(track, np.random.default_rng(4), (160, 90), objects.TRAIN_KINDS, True, variety)
        for variety in (Variety(), Variety(spans=1.0))
    )
    assert [i.label for i in spanned.items] == [*(i.label for i in plain.items), tracks.ORDINARY]
    assert spanned.about.pop("span") in {"gantry", "arch", "bridge"} and spanned.about == plain.about


@given(st.sampled_from(sorted(cars.BODIES)), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_every_kind_of_car_has_the_size_of_its_kind(kind, seed):
    body = cars.BODIES[kind]
    v = np.concatenate(cars.build(body, np.random.default_rng(seed)))
    length, height, width = np.ptp(v[:, :3], axis=0)
    assert np.isfinite(v).all() and v[:, 6:9].min() >= 0
    assert v[:, 1].min() == pytest.approx(0, abs=0.03)  # wheels stand on the ground
    assert body.length[0] <= length <= body.length[1] * 1.02
    assert body.width[0] <= width <= body.width[1] + 0.4  # with mirrors
    assert 0.99 * body.height[0] <= height <= body.height[1] * max(1, body.load[1]) + 0.2
    assert v[:, 0].max() + v[:, 0].min() == pytest.approx(0, abs=0.1)  # centred


def test_cars_of_any_kind_are_seldom_alike():
    rng = np.random.default_rng(0)
    heights = [objects.make("any_car", rng).extent[1] for _ in range(60)]
    assert min(heights) < 1.6 and max(heights) > 2.3
    assert 0.5 < np.mean(np.array(heights) < 2) < 0.95


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_what_stands_beside_the_road_is_sound(seed):
    pieces = roadside.make(np.random.default_rng(seed))
    for prop in pieces:
        v = prop.vertices
        assert np.isfinite(v).all() and len(v) % 3 == 0
        assert v[:, 6:9].min() >= 0 and v[:, 6:9].max() <= 1
        assert v[:, 1].min() <= spans.FOOT + 0.1 < 0 < v[:, 1].max()  # reaches into the ground
        assert prop.extent[[0, 2]].max() <= 8
    assert len(pieces) == 1 or {p.kind for p in pieces} == {"wall"}


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_scene_with_a_roadside_keeps_the_road_free_of_it(tmp_path_factory, seed):
    track = _straight(tmp_path_factory)
    plain, lined = (
        random_scene(track, np.random.default_rng(seed), (160, 90), objects.TRAIN_KINDS, True, variety)
        for variety in (Variety(), Variety(roadside=1.0))
    )
    ordinary = lined.items[len(plain.items) :]
    assert ordinary and {item.label for item in ordinary} == {tracks.ORDINARY}
    for item in ordinary:
        corners = np.c_[item.vertices[:, :3], np.ones(len(item.vertices))] @ item.model.T
        assert np.abs(corners[:, 0]).min() > track.width(0) / 2  # the road runs along z, its middle at x = 0
    assert lined.about == plain.about


def test_unknown_object_kind_is_named():
    with pytest.raises(ValueError, match="unicorn"):
        objects.make("unicorn", np.random.default_rng(0))


@given(st.floats(6, 60), st.floats(-4, 4), st.floats(0, 0.15), st.floats(1.1, 2.0), st.floats(40, 100))
@settings(max_examples=40, deadline=None)
def test_a_point_on_the_road_projects_where_the_pin_hole_formula_says(
    tmp_path_factory, ahead, right, pitch, height, fov
):
    track = _straight(tmp_path_factory)
    camera = camera_on(track, 100.0, 0.0, (640, 360), fov, height, pitch)
    ((u, v),) = camera.project(track.at(100.0 + ahead, right)[None])
    f, depth = 320 / np.tan(np.radians(fov) / 2), ahead * np.cos(pitch) + height * np.sin(pitch)
    assert u == pytest.approx(319.5 + f * right / depth, abs=0.01)
    assert v == pytest.approx(179.5 + f * (height * np.cos(pitch) - ahead * np.sin(pitch)) / depth, abs=0.01)
    assert np.isnan(camera.project(track.at(90.0)[None])).all()  # behind the camera


_cache: dict = {}


def _straight(factory) -> tracks.Track:
    if "track" not in _cache:
        _cache["track"] = tracks.load(write_track(factory.mktemp("road"), "ruudskogen"), "ruudskogen")
    return _cache["track"]


def test_textures_have_the_class_of_what_they_show():
    for track, texture, name, label in (
        ("ruudskogen", "road01.png", "TKMN3", tracks.ROAD),
        ("ruudskogen", "arb02_n.png", "B4", tracks.FENCE),
        ("street-1", "tr-road1-pit.rgb", "SPHEREAO", tracks.POLE),
        ("street-1", "tr-road1-pit.rgb", "TKRS1", tracks.ROAD),
        ("wheel-2", "concrete.rgb", "MESH4", tracks.POLE),
        ("wheel-2", "concrete.rgb", "P1", tracks.FENCE),
        ("g-track-3", "truck0.rgb", "ROUE", tracks.CAR),
        ("alpine-2", "snow.png", "TERR", tracks.ORDINARY),
        ("g-track-2", None, "X", tracks.VOID),
    ):
        assert tracks.classify(track, texture, name) == (label, label), (track, texture)
    assert tracks.classify("ruudskogen", "road02.png") == (tracks.ROAD, tracks.TREE)
