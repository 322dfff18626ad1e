"""How actors are marked in a request and its answers: with boxes or with masks.

boxes   {"track": 1, "box": [x, y, w, h]}
        pixels from 0, top left corner and size
masks   {"track": 1, "mask": {"size": [height, width], "counts": [int, ...]}}
        run lengths, see datasets.labels.masks.encode_rle

An actor whose action is not its video's has a "class" of its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from claus.datasets.labels.annotations import Video
from claus.datasets.labels.masks import decode_rle, encode_rle, rle_problem
from claus.utils.runtime import UserError

KINDS = ("boxes", "masks")


def answers_with(form: Mapping) -> str:
    """Whether a form asks for "boxes" (where it does not say) or "masks". Raises UserError."""
    kind = form.get("answer_with", KINDS[0])
    if kind not in KINDS:
        raise UserError(f"answer_with is {kind!r}; a request asks for {' or '.join(KINDS)}")
    return kind


def actors_in(
    video: Video, asked: Iterable[int], kind: str, classes: Sequence[str] = ()
) -> dict[int, list[dict]]:
    """frame -> list of {"track", "box" or "mask"}, for the frames asked for; tubes that
    agree in all count once. classes: where given, an actor of another class than its video
    has a "class", too.
    """
    actors, seen = {frame: [] for frame in asked}, set()
    for tube in video.tubes:
        if (tube.boxes if kind == "boxes" else tube.masks) is None:
            has = "masks" if kind == "boxes" else "boxes"
            raise UserError(
                f"video {video.name}: has {has}, the request is for {kind}; "
                "request what the video has"
            )
        visible = np.flatnonzero(np.isin(tube.frames, asked))
        shapes = _boxes_of(tube, visible) if kind == "boxes" else _masks_of(tube, visible)
        key = json.dumps([tube.frames[visible].tolist(), shapes])
        if key in seen:
            continue
        seen.add(key)
        own = {}
        if classes and tube.label != video.label:
            own = {"class": classes[tube.label]}
        for frame, shape in zip(tube.frames[visible].tolist(), shapes, strict=True):
            actors[frame].append({"track": tube.track, **shape, **own})
    return actors


def _boxes_of(tube, places):
    return [
        {"box": [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in tube.boxes[places].tolist()
    ]


def _masks_of(tube, places):
    return [{"mask": encode_rle(tube.masks[int(place)])} for place in places]


def shape_of(actor: Mapping, kind: str) -> np.ndarray:
    """Corners (4,) int, or mask (H,W) bool, of an answered actor."""
    if kind == "masks":
        return decode_rle(actor["mask"])
    x, y, w, h = actor["box"]
    return np.array([x, y, x + w, y + h])


def actor_problems(actors: object, video: Video, kind: str) -> list[str]:
    """Texts: what is wrong with the actors of one frame."""
    if actors is None:
        return ["is unanswered (actors null; [] says no action)"]
    if not isinstance(actors, list):
        return [f"actors is {actors!r}, not a list"]
    problems, tracks = [], set()
    shape, example = {"boxes": ("box", "[x, y, w, h]"), "masks": ("mask", "{...}")}[kind]
    for actor in actors:
        if not isinstance(actor, dict) or not {"track", shape} <= actor.keys():
            problems.append(f'actor {actor!r} is not {{"track": 1, "{shape}": {example}}}')
            continue
        track = actor["track"]
        if not is_whole(track) or track < 1:
            problems.append(f"track {track!r} is not a whole number from 1")
        elif track in tracks:
            problems.append(f"track {track} appears twice")
        else:
            tracks.add(track)
        if kind == "masks":
            wrong = rle_problem(actor["mask"], video.height, video.width)
            problems += [f"mask of track {track} {wrong}"] if wrong else []
        else:
            problems += _box_problems(actor["box"], video)
    return problems


def _box_problems(box, video):
    """Texts: what is wrong with one box; at most one."""
    if not isinstance(box, list) or len(box) != 4 or not all(is_whole(side) for side in box):
        return [f"box {box!r} is not four whole numbers x, y, width, height"]
    if box[2] < 1 or box[3] < 1:
        return [f"box {box} has no area (x, y, width, height)"]
    x, y, width, height = box
    if x < 0 or y < 0 or x + width > video.width or y + height > video.height:
        return [
            f"box {box} (x, y, width, height) extends outside the picture of "
            f"{video.width}x{video.height} pixels"
        ]
    return []


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)
