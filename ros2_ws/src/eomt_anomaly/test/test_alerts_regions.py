# SPDX-License-Identifier: MIT
"""Which anomalies count: on the surface or standing on its rim, large enough, not on the vehicle itself."""
import numpy as np
import pytest
from alerts_scenes import BUILDING, CAR, HEIGHT, HORIZON, PAVEMENT, ROAD, UNLABELED, WIDTH, scene
from hypothesis import given
from hypothesis import strategies as st

from eomt_anomaly.alerts.regions import find_regions, scaled
from eomt_anomaly.alerts.surface import drivable_surface

RIM = 4
NOWHERE = np.zeros((HEIGHT, WIDTH), bool)


def found(class_map, anomaly, corridor=NOWHERE, ignore=None, **changes):
    limits = {"threshold": 0.5, "leave_threshold": 0.4, "min_area_px": 9, **changes}
    surface = drivable_surface(class_map, (ROAD,), RIM, ignore)
    return list(find_regions(anomaly, surface, corridor, ignore=ignore, **limits))


@pytest.mark.parametrize("own_class", [ROAD, CAR, PAVEMENT, BUILDING, UNLABELED])
def test_an_obstacle_on_the_road_whatever_class_its_pixels_get(own_class):
    (region,) = found(*scene((70, 60, 20, 12), own_class=own_class))
    assert region.box == (70, 60, 20, 12)
    assert region.area_px == 240
    assert region.on_drivable == 1.0
    assert region.mean_score == pytest.approx(0.9) and region.peak_score == pytest.approx(0.9)
    assert region.centroid == pytest.approx((79.5, 65.5))
    assert region.contact == pytest.approx((80, 71.5), abs=0.6), "the lower edge of its lowest pixels"
    assert region.strong


@given(x=st.integers(22, 126), y=st.integers(HORIZON, HEIGHT - 10), width=st.integers(3, 12),
       height=st.integers(3, 10))
def test_every_obstacle_on_the_road_is_found(x, y, width, height):
    (region,) = found(*scene((x, y, width, height)))
    assert region.box == (x, y, width, height)


@pytest.mark.parametrize(("box", "counts", "why"), [
    ((70, 5, 20, 12), False, "on a building"),
    ((70, 20, 20, HORIZON - 20 + 2), True, "at the far end of the road, hiding it"),
    ((70, 20, 20, HORIZON - 20 - RIM - 1), False, "up on the building behind the road"),
    ((13, 60, 6, 8), True, "on the pavement, reaching the road's edge"),
    ((5, 60, 20, 20), True, "half on the pavement, half on the road"),
    ((0, 60, 8, 8), False, "far on the pavement"),
    ((2, 15, 16, 50), False, "tall, its foot on the pavement and away from the rim by most of its width"),
    ((60, 80, 30, HEIGHT - 80), True, "cut by the picture's lower edge"),
    ((0, 50, 40, HEIGHT - 50), True, "cut by the picture's corner"),
    ((0, 70, WIDTH, 10), True, "right across the road"),
    ((0, 20, WIDTH, HEIGHT - 20), False, "nothing of the road is left to stand on"),
])
def test_where_an_obstacle_counts(box, counts, why):
    assert bool(found(*scene(box))) == counts, why


def test_a_partly_anomalous_obstacle_fills_its_hole():
    class_map, anomaly = scene((50, 55, 40, 20), score=0.1)  # labelled car, quiet ...
    anomaly[62:68, 65:75] = 0.9  # ... but for its middle, far from any road pixel
    assert len(found(class_map, anomaly)) == 1
    class_map, anomaly = scene((50, 70, 40, HEIGHT - 70), score=0.1)
    anomaly[80:86, 65:75] = 0.9  # the same with the hole open at the picture's lower edge
    assert len(found(class_map, anomaly)) == 1


def test_area_limits():
    class_map, anomaly = scene((70, 60, 3, 3), (100, 60, 2, 4))
    assert [r.area_px for r in found(class_map, anomaly)] == [9]
    assert found(class_map, anomaly, min_area_px=10) == []
    assert len(found(class_map, anomaly, min_area_px=8)) == 2


def test_what_is_strong_comes_first_then_what_is_in_the_corridor_then_what_is_large():
    class_map, anomaly = scene((30, 50, 4, 4), (72, 50, 5, 5), (45, 50, 6, 6), (100, 50, 7, 7))
    weak_class_map, weak = scene((30, 70, 14, 14), (72, 70, 8, 8), (45, 70, 9, 9), score=0.45)
    corridor = NOWHERE.copy()
    corridor[:, 70:90] = True
    class_map = np.minimum(class_map, weak_class_map)
    regions = found(class_map, np.maximum(anomaly, weak), corridor)
    assert [r.box[2] for r in regions] == [5, 7, 6, 4, 8, 14, 9]
    assert [r.strong for r in regions] == [True] * 4 + [False] * 3
    assert [r.in_corridor for r in regions] == [True, False, False, False, True, False, False]


def test_two_thresholds():
    class_map, anomaly = scene((70, 60, 10, 10), score=0.45)
    (weak,) = found(class_map, anomaly)
    assert not weak.strong
    anomaly[62:65, 72:75] = 0.6
    (strong,) = found(class_map, anomaly)
    assert strong.strong and strong.area_px == 100
    anomaly[64, 74] = 0.45  # eight pixels over the upper threshold, nine needed
    assert not found(class_map, anomaly)[0].strong
    assert found(*scene((70, 60, 10, 10), score=0.39)) == []


def test_the_vehicle_itself_is_ignored():
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[80:] = True
    hood = (40, 82, 80, HEIGHT - 82)
    assert len(found(*scene(hood))) == 1
    assert found(*scene(hood), ignore=ignore) == []
    (region,) = found(*scene((70, 70, 20, 20)), ignore=ignore)  # what stands before the hood is cut by it
    assert region.box == (70, 70, 20, 10)


def test_a_foot_that_the_vehicle_hides_is_judged_like_one_cut_by_the_picture():
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[80:] = True
    beside = (2, 60, 15, 20)  # one of its fifteen columns is on the rim
    assert found(*scene(beside)) == []
    assert len(found(*scene(beside), ignore=ignore)) == 1


def test_the_vehicle_is_not_part_of_the_surface():
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[68:] = True  # half of the road
    surface = drivable_surface(scene()[0], (ROAD,), RIM, ignore)
    assert not (surface.inner | surface.rimmed)[ignore].any()
    assert surface.fraction == pytest.approx(0.75 * (68 - HORIZON) / 68)


def test_no_surface_at_all():
    surface = drivable_surface(np.full((HEIGHT, WIDTH), BUILDING, np.uint8), (ROAD,), RIM)
    assert surface.fraction == 0 and not surface.rimmed.any()
    everything = drivable_surface(np.full((HEIGHT, WIDTH), ROAD, np.uint8), (ROAD,), RIM)
    assert everything.fraction == 1 and everything.inner.all()


def test_the_corridor_is_judged_at_the_foot():
    corridor = NOWHERE.copy()
    corridor[:, 70:90] = True
    inside, = found(*scene((75, 60, 8, 20)), corridor)
    beside, = found(*scene((95, 60, 8, 20)), corridor)
    reaching_in, = found(*scene((86, 60, 40, 10)), corridor)
    assert (inside.in_corridor, beside.in_corridor, reaching_in.in_corridor) == (True, False, True)
    class_map, anomaly = scene((95, 70, 10, 12))  # it stands beside the corridor ...
    anomaly[60:70, 60:105] = 0.9  # ... and its upper part reaches over it
    assert found(class_map, anomaly, corridor)[0].in_corridor, "an overhang counts"


@pytest.mark.parametrize(("width", "columns", "in_way"), [(8, 0, False), (8, 1, True), (60, 2, False),
                                                          (60, 3, True)])
def test_a_tenth_of_its_width_or_the_side_of_the_smallest_region_is_enough_to_be_in_the_way(width, columns,
                                                                                         in_way):
    corridor = NOWHERE.copy()
    corridor[:, 85:] = True
    region, = found(*scene((85 + columns - width, 60, width, 10)), corridor)
    assert region.in_corridor == in_way


def test_a_wide_obstacle_beyond_the_road_counts_where_it_blocks_the_corridor():
    corridor = NOWHERE.copy()
    corridor[:, 70:90] = True
    class_map, anomaly = scene((0, 10, WIDTH, HORIZON - 10))
    class_map[:, :70] = class_map[:, 90:] = PAVEMENT  # a road of the corridor's width runs into it
    assert found(class_map, anomaly) == [], "most of its foot is off the road"
    assert found(class_map, anomaly, corridor)[0].in_corridor


@pytest.mark.parametrize("ground", [BUILDING, PAVEMENT, CAR, 255])
def test_an_obstacle_in_the_corridor_counts_whatever_class_its_ground_gets(ground):
    class_map, anomaly = scene((75, 60, 10, 20))
    class_map[HORIZON:, 60:100] = ground
    corridor = NOWHERE.copy()
    corridor[HORIZON:, 70:90] = True
    region, = found(class_map, anomaly, corridor)
    assert region.in_corridor and region.strong
    assert found(class_map, anomaly, ~NOWHERE) == [], "such a corridor says nothing"


def test_scaling_back_to_the_image():
    (region,) = found(*scene((70, 60, 20, 12)))
    big = scaled(region, 2.0, 2.0)
    assert big.box == (140, 120, 40, 24)
    assert big.area_px == 4 * region.area_px
    assert big.centroid == pytest.approx((159.5, 131.5))
    assert big.contact[1] == pytest.approx(143.5)
