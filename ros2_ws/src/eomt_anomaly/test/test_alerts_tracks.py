# SPDX-License-Identifier: MIT
"""Tracks keep their identity, are confirmed by persistence, and outlive short gaps."""
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eomt_anomaly.alerts.regions import Region
from eomt_anomaly.alerts.tracks import Tracker, iou


def region(x, y=50, width=10, height=10, strong=True, peak=0.9):
    return Region(box=(x, y, width, height), area_px=width * height, mean_score=peak - 0.1, peak_score=peak,
                  centroid=(x + width / 2, y + height / 2), contact=(x + width / 2, y + height),
                  on_drivable=1.0, in_corridor=False, strong=strong)


def tracker(**changes):
    values = {"confirm_hits": 3, "confirm_window": 5, "coast_frames": 4, "min_iou": 0.1, "max_shift": 1.0}
    return Tracker(**{**values, **changes})


def feed(tracks, *frames):
    """Each frame a list of regions; returns what lives after the last."""
    return [tracks.update(regions, 0.1 * i) for i, regions in enumerate(frames)][-1]


def test_confirmed_on_the_third_sight_and_not_before():
    tracks = tracker()
    assert [feed(tracks, [region(50)])[0].confirmed for _ in range(4)] == [False, False, True, True]


@given(pattern=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_three_of_five_frames_confirm(pattern):
    tracks = tracker()
    alive = feed(tracks, [region(50)], *([region(50)] if seen else [] for seen in pattern))
    if sum(pattern) >= 2:
        assert alive[0].confirmed and alive[0].track_id == 1


def test_a_single_flicker_is_never_confirmed_and_soon_forgotten():
    tracks = tracker()
    assert feed(tracks, [region(50)], [], []) != []
    assert feed(tracks, []) == []


@pytest.mark.parametrize("min_iou", [0.1, 0.0])
def test_flicker_all_over_the_place_confirms_nothing(min_iou):
    tracks = tracker(min_iou=min_iou)
    for i in range(30):
        assert not any(h.confirmed for h in tracks.update([region((37 * i) % 500)], 0.1 * i))


def test_the_id_survives_gaps_up_to_the_limit():
    tracks = tracker(coast_frames=4)
    feed(tracks, *[[region(50)]] * 3)
    (after,) = feed(tracks, *[[]] * 4, [region(52)])
    assert after.track_id == 1 and after.confirmed and after.frames_seen == 4 and after.frames_missed == 0
    assert feed(tracks, *[[]] * 5) == []
    assert feed(tracks, [region(50)])[0].track_id == 2, "ids are not used again"


def test_weak_regions_keep_a_track_but_start_none():
    tracks = tracker()
    assert feed(tracks, *[[region(50, strong=False)]] * 5) == []
    feed(tracks, *[[region(50)]] * 3)
    (kept,) = feed(tracks, *[[region(50, strong=False)]] * 20)
    assert kept.track_id == 1 and kept.frames_missed == 0


@given(speed=st.floats(-9, 9), growth=st.floats(1.0, 1.15), frames=st.integers(5, 15))
def test_an_approaching_obstacle_stays_one_track(speed, growth, frames):
    tracks = tracker()
    for i in range(frames):
        size = round(10 * growth ** i)
        alive = tracks.update([region(300 + round(speed * i), 50, size, size)], 0.1 * i)
        assert [h.track_id for h in alive] == [1]


@given(speed=st.integers(-60, 60), growth=st.floats(1.0, 1.3))
def test_once_its_speed_is_known_it_may_move_by_several_times_its_size(speed, growth):
    tracks, at = tracker(), 1000.0
    alive = tracks.update([region(at)], 0.0)
    for i in range(1, 10):
        at += speed * min(1, i / 5)  # it gains speed by no more than its own size a frame
        size = 10 * growth ** i
        alive = tracks.update([region(at, 50, size, size)] if i != 6 else [], 0.1 * i)
        assert [h.track_id for h in alive] == [1]
    assert alive[0].confirmed


def test_a_first_glimpse_of_a_part_and_then_the_whole_are_one_track():
    tracks = tracker(max_shift=1.5)
    (seen,) = feed(tracks, [region(345, 158, 13, 24)], [region(391, 152, 68, 36)])
    assert seen.track_id == 1 and seen.frames_seen == 2


def test_two_that_pass_side_by_side_keep_their_ids():
    tracks = tracker()
    for i in range(10):
        left, right = region(100 + 3 * i), region(140 - i)
        alive = tracks.update([left, right] if i % 2 else [right, left], 0.1 * i)
    ids = {h.region.box[0]: h.track_id for h in alive}
    assert sorted(ids) == [127, 131] and len(set(ids.values())) == 2


def test_a_small_track_does_not_jump_onto_a_flood():
    tracks = tracker()
    feed(tracks, *[[region(300, 300)]] * 3)
    (old, new) = feed(tracks, [region(0, 0, 640, 640)])
    assert old.track_id == 1 and old.frames_missed == 1 and not new.confirmed


def test_untrusted_frames_keep_what_is_known_and_learn_nothing():
    tracks = tracker()
    feed(tracks, *[[region(50)]] * 3, [region(50), region(200)])
    for i in range(10):
        alive = tracks.update([region(50), region(200), region(400)], 1 + 0.1 * i, trusted=False)
    assert [(h.track_id, h.confirmed, h.frames_missed) for h in alive] == [(1, True, 0)]


def test_confidence_is_the_mean_peak_over_the_window():
    tracks = tracker()
    grows = [feed(tracks, [region(50, peak=0.8)])[0].confidence for _ in range(6)]
    assert grows == pytest.approx([0.16, 0.32, 0.48, 0.64, 0.8, 0.8])
    assert feed(tracks, [])[0].confidence == pytest.approx(0.64)


boxes = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30))


@given(a=boxes, b=boxes)
def test_iou(a, b):
    def pixels(box):
        return {(u, v) for u in range(box[0], box[0] + box[2]) for v in range(box[1], box[1] + box[3])}

    shared, both = len(pixels(a) & pixels(b)), len(pixels(a) | pixels(b))
    assert iou(a, b) == pytest.approx(shared / both)


@given(st.lists(st.lists(st.tuples(boxes, st.booleans(), st.floats(0.1, 1.0)), max_size=5), max_size=12))
def test_any_input_keeps_the_books_straight(frames):
    tracks, seen_ids = tracker(), set()
    for i, boxes_ in enumerate(frames):
        regions = [replace(region(0), box=b, centroid=b[:2], strong=s, peak_score=p) for b, s, p in boxes_]
        alive = tracks.update(regions, float(i))
        ids = [h.track_id for h in alive]
        assert len(set(ids)) == len(ids) and ids == sorted(ids)
        assert all(0 <= h.confidence <= 1 and h.hits <= 5 for h in alive)
        assert all(new > max(seen_ids, default=0) for new in set(ids) - seen_ids)
        assert sum(h.frames_missed == 0 for h in alive) <= len(regions), "a region feeds one track only"
        seen_ids |= set(ids)
