"""Which boxes hold a place of a grid: what rules that look at centres alone ask of priors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from torso.data.annotations import Bools, Floats
from torso.data.prior_reach import InputBoxes, PriorLevel


class PlacesInside(NamedTuple):
    """Of each box the places of one level that lie inside it.

    found: [n] whether there are any; nearest, farthest: [n] the least and the largest distance to the box's farthest
    side that such a place has, input pixels (of no meaning where none is found).
    """

    found: Bools
    nearest: Floats
    farthest: Floats


def places_inside(
    boxes: InputBoxes, level: PriorLevel, *, margin: float = 0.0, radius: float = np.inf
) -> PlacesInside:
    """margin: px by which a place must be inside; radius: strides, along x and y, within which it must lie of the box's
    centre.
    """
    stride = np.array(level.stride_yx[::-1], dtype=np.float64)
    half = np.minimum(boxes.sizes_wh / 2 - margin, radius * stride)
    first, last = ((boxes.centers_xy + side * half) / stride - level.offset for side in (-1, 1))
    end = np.ceil(boxes.canvas_wh / stride) - 1
    first, last = np.maximum(np.floor(first) + 1, 0), np.minimum(np.ceil(last) - 1, end)  # strictly inside
    middle = boxes.centers_xy / stride - level.offset
    apart = [np.abs(place - middle) * stride for place in (np.clip(np.rint(middle), first, last), first, last)]
    side = boxes.sizes_wh / 2
    return PlacesInside(
        (first <= last).all(axis=1),
        (side + apart[0]).max(axis=1),
        (side + np.maximum(apart[1], apart[2])).max(axis=1),
    )
