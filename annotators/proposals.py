"""proposals.json: what the detector sees on the frames that are asked for, left by the
extraction, a place to begin drawing from.

    {video: {frame: [{"box": [x0, y0, x1, y1], "class": name, "score": s, "rle": optional}]}}

Frames have the numbers of the file, boxes are half-open corners in pixels, rle is COCO's
uncompressed run lengths (datasets/labels/masks.py).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from claus.datasets.labels.masks import decode_rle, rle_problem
from claus.utils.runtime import UserError, read_json
from claus.utils.shape import maybe, share

FIX = "remove it, or run cluster_extract.py again"


def a_box(value: object) -> bool:
    """Whether it is [x0, y0, x1, y1] of a box in a picture."""
    numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
    if not numbers or len(value) != 4 or max(map(abs, value)) >= 1e6:
        return False
    return value[0] < value[2] and value[1] < value[3]


def run_lengths(value: object) -> bool:
    """Whether it is a mask's run lengths."""
    size = value.get("size") if isinstance(value, dict) else None
    return isinstance(size, list) and len(size) == 2 and rle_problem(value, *size) is None


ACTOR = {
    "box": a_box,
    "class": maybe(str),
    "score": maybe((share, None)),
    "rle": maybe(run_lengths),
}


def read_proposals(path: Path, fix: str = FIX) -> dict:
    """The proposals of a file, {} where there is none; UserError naming the file."""
    if not path.exists():
        return {}
    found = read_json(path, fix, {str: {str: [ACTOR]}})
    for name, frames in found.items():
        for frame in frames:
            if not re.fullmatch(r"0|[1-9]\d{0,9}", frame, re.ASCII):
                raise UserError(f"{path}: {name}: {frame!r} is no number of a frame; {fix}")
    return found


def proposals_of(proposals: Mapping | None, video: str, frame: int) -> list[dict]:
    """The proposed actors of a frame."""
    frames = (proposals or {}).get(video) or {}
    given = frames.get(str(frame)) if isinstance(frames, dict) else None
    given = given if isinstance(given, list) else []
    return [actor for actor in given if isinstance(actor, dict) and "class" in actor]


def proposed_shape(actor: Mapping, kind: str, height: int, width: int) -> np.ndarray | None:
    """Corners (4,) int, or mask (H,W), of a proposal inside its picture; None where it has
    no such shape.
    """
    if kind == "masks":
        rle = actor.get("rle")
        return None if rle_problem(rle, height, width) else decode_rle(rle)
    if "box" not in actor:
        return None
    corners = np.floor(np.array(actor["box"], float) + 0.5).astype(int)
    corners = np.clip(corners, 0, [width, height, width, height])
    return corners if (corners[2:] > corners[:2]).all() else None
