"""What people often do wrong and what can yet be meant: texts with the place, for a second
look. The labels are taken as they are.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

import numpy as np

from claus.annotators.actors import shape_of

TINY = 16  # pixels of an actor's area
SHORTER = 0.7  # of a way, once two frames are exchanged, that is suspicious


def suspicions(entry: Mapping, kind: str) -> Iterator[str]:
    """Texts about one answered video."""
    frames = [frame for frame in entry["frames"] if frame["actors"]]
    if not frames:
        return
    yield from _tiny(frames, kind)
    yield from _new_numbers(frames)
    if kind == "boxes":
        yield from _corners_as_sizes(frames)
    yield from _swapped(frames, entry.get("labelled_before", []), kind)


def _tiny(frames, kind):
    for frame in frames:
        for actor in frame["actors"]:
            shape = shape_of(actor, kind)
            area = shape.sum() if kind == "masks" else np.prod(shape[2:] - shape[:2])
            if area < TINY:
                yield (
                    f"frame {frame['frame']}: track {actor['track']} has {area} pixels; a "
                    "slip of the mouse?"
                )


def _new_numbers(frames):
    """A new track number in every frame: then nothing is interpolated."""
    tracks = [{actor["track"] for actor in frame["actors"]} for frame in frames]
    fresh = all(not (a & b) for a, b in combinations(tracks, 2))
    if len(frames) > 2 and fresh:
        yield (
            f"frames {frames[0]['frame']} to {frames[-1]['frame']}: a new track number in "
            "every frame; one actor keeps its number, or nothing is interpolated between"
        )


def _corners_as_sizes(frames):
    """[x0, y0, x1, y1] written where [x, y, width, height] belongs."""
    boxes = [actor["box"] for frame in frames for actor in frame["actors"]]
    boxes = np.array(boxes, float)
    if len(boxes) < 3 or not ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).all():
        return
    as_sizes = boxes[:, 2:].std(0).sum()
    as_corners = (boxes[:, 2:] - boxes[:, :2]).std(0).sum()
    if boxes[:, :2].std(0).sum() > 2 and as_corners < 0.5 * as_sizes:
        yield (
            f"frames {frames[0]['frame']} to {frames[-1]['frame']}: are the last two numbers "
            f"of the boxes corners, as in {boxes[0].astype(int).tolist()}? they are width "
            "and height"
        )


def _swapped(frames, before, kind):
    """Two frames whose actors would go a much shorter way if they were exchanged."""
    centers = {}
    for frame in [*before, *frames]:
        for actor in frame["actors"]:
            shape = shape_of(actor, kind)
            if kind == "masks":
                rows, columns = np.nonzero(shape)
                shape = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
            middle, size = (shape[:2] + shape[2:]) / 2, (shape[2:] - shape[:2]).mean()
            way = centers.setdefault(actor["track"], {})
            way[frame["frame"]] = (*middle, size)
    new = {frame["frame"] for frame in frames}
    for track, way in centers.items():
        pair = _exchange(way, new)
        if pair is not None:
            yield (
                f"frames {pair[0]} and {pair[1]}: are their answers exchanged? track {track} "
                "would go a much shorter way"
            )


def _exchange(way, new):
    """The two of the `new` frames of a track whose exchange shortens its way most, None
    where that is little. way: {frame: (x, y, size)}.
    """
    if len(way) < 3 or len(way) > 40:
        return None
    order = sorted(way)
    points = np.array([way[frame][:2] for frame in order])
    size = np.mean([way[frame][2] for frame in order])
    length, found = _length(points), []
    for i, j in combinations(range(len(order)), 2):
        if order[i] not in new or order[j] not in new:
            continue
        other = points.copy()
        other[[i, j]] = points[[j, i]]
        shorter = _length(other)
        if shorter < SHORTER * length and length - shorter > size:
            found.append((round(shorter, 3), j - i, (order[i], order[j])))
    return min(found)[2] if found else None


def _length(points):
    return sum(float(np.hypot(*(b - a))) for a, b in pairwise(points))
