# SPDX-License-Identifier: MIT
"""The categories of COCO: 80 things, 91 stuff classes, and the 53 that the panoptic task makes of these."""

from __future__ import annotations

# By category id from 1 on; a dash is an id that was never used.
_THINGS = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,
-,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,-,backpack,
umbrella,-,-,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,
baseball glove,skateboard,surfboard,tennis racket,bottle,-,wine glass,cup,fork,knife,spoon,bowl,
banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
-,dining table,-,-,toilet,-,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,
refrigerator,-,book,clock,vase,scissors,teddy bear,hair drier,toothbrush,-"""
_STUFF = """banner,blanket,branch,bridge,building-other,bush,cabinet,cage,cardboard,carpet,
ceiling-other,ceiling-tile,cloth,clothes,clouds,counter,cupboard,curtain,desk-stuff,dirt,door-stuff,
fence,floor-marble,floor-other,floor-stone,floor-tile,floor-wood,flower,fog,food-other,fruit,
furniture-other,grass,gravel,ground-other,hill,house,leaves,light,mat,metal,mirror-stuff,moss,
mountain,mud,napkin,net,paper,pavement,pillow,plant-other,plastic,platform,playingfield,railing,
railroad,river,road,rock,roof,rug,salad,sand,sea,shelf,sky-other,skyscraper,snow,solid-other,stairs,
stone,straw,structural-other,table,tent,textile-other,towel,tree,vegetable,wall-brick,wall-concrete,
wall-other,wall-panel,wall-stone,wall-tile,wall-wood,water-other,waterdrops,window-blind,
window-other,wood"""
# Of the panoptic task: stuff classes kept as they were, by id, and merged ones from id 184 on.
_KEPT = """92 93 95 100 107 109 112 118 119 122 125 128 130 133 138 141 144 145 147 148 149 151 154
155 156 159 161 166 168 171 175 176 177 178 180 181"""
_MERGED = """tree,fence,ceiling,sky-other,cabinet,table,floor-other,pavement,mountain,grass,dirt,
paper,food-other,building-other,rock,wall-other,rug"""


def _names(text: str) -> list[str]:
    return text.replace("\n", "").split(",")


THINGS = {i: name for i, name in enumerate(_names(_THINGS), 1) if name != "-"}
STUFF = dict(enumerate(_names(_STUFF), 92))
PANOPTIC = (
    THINGS
    | {i: STUFF[i] for i in map(int, _KEPT.split())}
    | {i: f"{name}-merged" for i, name in enumerate(_names(_MERGED), 184)}
)
