"""Polygons as people click them -> masks."""

from collections.abc import Sequence

import numpy as np

MOST_CORNERS = 2000  # of all polygons of an actor


def polygon_mask(polygons: Sequence, height: int, width: int) -> np.ndarray:
    """Mask (H,W) bool of the union of polygons, each a list of corners [x, y].

    Coordinates are pixels from the top left corner of the picture, so that pixel (i, j) has
    its center at x = j + .5, y = i + .5; a pixel is inside where its center is
    (skimage.draw.polygon2mask).
    """
    from skimage.draw import polygon2mask

    mask = np.zeros((height, width), bool)
    for corners in polygons:
        rows_columns = np.asarray(corners, float)[:, ::-1] - 0.5
        mask |= polygon2mask((height, width), rows_columns)
    return mask


def polygons_problem(polygons: object) -> str | None:
    """What is wrong with the polygons of an actor, in words, or None."""
    if not isinstance(polygons, list) or not polygons:
        return "polygons are not a list of lists of corners [x, y]"
    if sum(len(corners) for corners in polygons if isinstance(corners, list)) > MOST_CORNERS:
        return f"polygons have more than {MOST_CORNERS} corners"
    for corners in polygons:
        if not isinstance(corners, list) or len(corners) < 3:
            return "a polygon has fewer than three corners"
        if not all(map(_is_corner, corners)):
            return "a corner of a polygon is not [x, y], two finite numbers"
    return None


def _is_corner(corner):
    return (
        isinstance(corner, list)
        and len(corner) == 2
        and all(type(side) in (int, float) and abs(side) < 1e6 for side in corner)
    )
