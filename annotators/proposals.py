"""proposals.json: what the detector sees on the frames that are asked for, left by the
extraction, a place to begin drawing from.

    {video: {frame: [{"box": [x0, y0, x1, y1], "class": name, "score": s, "rle": optional}]}}

Frames have the numbers of the file, boxes are half-open corners in pixels, rle is COCO's
uncompressed run lengths (datasets/labels/masks.py).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from claus.datasets.labels.masks import decode_rle, rle_problem
from claus.utils.runtime import read_json


def read_proposals(path: Path) -> dict:
    """The proposals of a file, {} where there is none."""
    if not path.exists():
        return {}
    return read_json(path, "remove it, or run cluster_extract.py again")


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
