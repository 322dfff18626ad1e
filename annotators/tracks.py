"""Who is who, where a tool does not say: an actor without a track number takes that of the
actor it overlaps most in the nearest frame that is labeled.
"""

from collections.abc import Callable, Mapping

import numpy as np

from claus.annotators.actors import is_whole, shape_of

LEAST = 0.1  # IoU with the actor whose number it takes


def give_tracks(
    entry: Mapping, kind: str, problem: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Number the actors of one video's entry, in place. A frame of which that cannot be
    said is open again, with a problem.
    """
    frames = [frame for frame in entry["frames"] if frame["actors"]]
    for frame in frames:
        _part_twins(frame, warn)
    waiting = [f for f in frames if any(a.get("track") is None for a in f["actors"])]
    if not waiting:
        return
    before = entry.get("labelled_before", [])
    known = {frame["frame"]: _numbered(frame, kind) for frame in [*before, *frames]}
    known = {number: actors for number, actors in known.items() if actors}
    if _one_actor(frames, before):
        only = {track for actors in known.values() for track in actors}
        for frame in waiting:
            frame["actors"][0]["track"] = min(only, default=1)
        return
    while waiting:
        frame, near = _next(waiting, known)
        waiting.remove(frame)
        if near is None:
            _number_from(frame, 1)
        elif not _take_from(frame, known[near], kind, _tracks_of(known)):
            problem(
                f"frame {frame['frame']}: which actor is which? its actors have no track "
                f"numbers and do not overlap those of frame {near} one by one: number them"
            )
            frame["actors"] = None
            continue
        known[frame["frame"]] = _numbered(frame, kind)


def _part_twins(frame, warn):
    """Two actors of one number have none: a tool's default, mostly."""
    numbers = [actor.get("track") for actor in frame["actors"]]
    twins = {n for n in numbers if n is not None and numbers.count(n) > 1}
    for actor in frame["actors"]:
        if actor.get("track") in twins:
            actor["track"] = None
    if twins:
        warn(
            f"frame {frame['frame']}: {numbers.count(min(twins))} actors have the track "
            f"number {min(twins)}: numbered by where they are"
        )


def _one_actor(frames, before):
    """Whether no frame of a video has two actors, and no two numbers are known."""
    every = [*frames, *before]
    given = {a.get("track") for frame in every for a in frame["actors"]} - {None}
    return max(len(frame["actors"]) for frame in every) == 1 and len(given) < 2


def _numbered(frame, kind):
    """{track: shape} of the actors of a frame that have a number."""
    actors = frame["actors"] or []
    return {a["track"]: shape_of(a, kind) for a in actors if is_whole(a.get("track"))}


def _tracks_of(known):
    return {track for actors in known.values() for track in actors}


def _next(waiting, known):
    """The waiting frame nearest to a known one, and the number of that one or None."""
    if not known:
        return waiting[0], None
    pairs = [(abs(f["frame"] - n), n, k) for k, f in enumerate(waiting) for n in known]
    _, near, place = min(pairs)
    return waiting[place], near


def _number_from(frame, first):
    for number, actor in enumerate(frame["actors"], first):
        actor["track"] = number


def _take_from(frame, near, kind, taken):
    """Give the actors without a number those of `near` {track: shape}, best overlap first;
    one that is left over is new where all of near's are found again. Whether that is clear.
    """
    open_actors = [actor for actor in frame["actors"] if actor.get("track") is None]
    given = {actor["track"] for actor in frame["actors"]} - {None}
    pairs = []
    for place, actor in enumerate(open_actors):
        shape = shape_of(actor, kind)
        for track, other in near.items():
            if track not in given:
                pairs.append((overlap(shape, other), place, track))
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    for share, place, track in pairs:
        actor = open_actors[place]
        if share >= LEAST and actor.get("track") is None and track not in given:
            actor["track"] = track
            given.add(track)
    left = [actor for actor in open_actors if actor.get("track") is None]
    if left and set(near) - given:
        return False
    fresh = max([*taken, *given], default=0)
    for number, actor in enumerate(left, fresh + 1):
        actor["track"] = number
    return True


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two boxes (4,) of corners, or of two masks (H,W)."""
    if first.dtype == bool:
        return float((first & second).sum() / max((first | second).sum(), 1))
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (first, second)]
    return common / max(sum(areas) - common, 1e-9)
