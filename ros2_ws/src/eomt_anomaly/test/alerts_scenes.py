# SPDX-License-Identifier: MIT
"""Hand-made scenes for the tests of the alerts: a straight road, pavement, buildings, and obstacles."""
import numpy as np

BUILDING, ROAD, PAVEMENT, CAR, UNLABELED = 1, 3, 4, 8, 255
HEIGHT, WIDTH = 96, 160
HORIZON = 40  # the first row of road
QUIET = 0.05  # anomaly of ordinary pixels


def scene(*obstacles, score=0.9, own_class=CAR, shape=(HEIGHT, WIDTH)):
    """class_map uint8 and anomaly float32 [H, W]; each obstacle (x, y, width, height) px is anomalous.

    Buildings above the horizon; below it the road, WIDTH/8 of pavement on either side.
    """
    rows, columns = shape
    class_map = np.full(shape, BUILDING, np.uint8)
    class_map[HORIZON * rows // HEIGHT:] = PAVEMENT
    class_map[HORIZON * rows // HEIGHT:, columns // 8:-columns // 8] = ROAD
    anomaly = np.full(shape, QUIET, np.float32)
    for x, y, width, height in obstacles:
        class_map[y:y + height, x:x + width] = own_class
        anomaly[y:y + height, x:x + width] = score
    return class_map, anomaly
