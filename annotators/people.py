"""Answers of several people, or of one at several times, become one form."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from claus.annotators.actors import answers_with, shape_of
from claus.annotators.mend import NONE, Notes
from claus.annotators.tracks import overlap

NEAR = 1  # pixels: two people's labels that differ by no more are the same


def combine(forms: Sequence[tuple[str, Mapping]]) -> tuple[dict, Notes]:
    """(one form, Notes) of the filled-in copies of one request, [(who, form)].

    Of a frame with several answers the first counts where more than half of them are the
    same within NEAR pixels; otherwise it stays open, and the disagreement is a problem. So
    does a video whose class people disagree on.
    """
    notes, joined = Notes(), copy.deepcopy(dict(forms[0][1]))
    if len(forms) == 1:
        return joined, notes
    kind = answers_with(joined)
    for place, entry in enumerate(joined["videos"]):
        given = [(who, form["videos"][place]) for who, form in forms]
        _combine_video(entry, given, kind, notes)
    return joined, notes


def _combine_video(entry, given, kind, notes):
    """Fill one video of the joined form in from what each has `given`, [(who, entry)]."""
    name = entry["video"]
    answered = [(who, one) for who, one in given if _has_answers(one)]
    classes = {}
    for who, one in answered:
        classes.setdefault(one["class"], who)
    if len(classes) > 1:
        said = ", ".join(f"{label!r} by {who}" for label, who in classes.items())
        notes.problems.append((name, f"its class is {said}: all its frames stay open"))
        for frame in entry["frames"]:
            frame["actors"] = None
        entry["class"] = None if not entry.get("labelled_before") else entry["class"]
        return
    entry["class"] = next(iter(classes), entry["class"])
    for place, frame in enumerate(entry["frames"]):
        told = [(who, one["frames"][place]) for who, one in given]
        _combine_frame(name, frame, told, entry["class"], kind, notes)


def _has_answers(entry):
    return any(frame["actors"] is not None for frame in entry["frames"])


def _combine_frame(name, frame, told, label, kind, notes):
    answers = [(who, one) for who, one in told if one["actors"] is not None]
    seconds = [one["seconds"] for _, one in told if _is_number(one.get("seconds"))]
    skipped = [one["skipped"] for _, one in told if one.get("skipped")]
    for key in ("skipped", "seconds", "by", "actors"):
        frame.pop(key, None)
    frame["actors"] = None
    if seconds:
        frame["seconds"] = round(sum(seconds), 3)
    if not answers:
        if skipped:
            frame["skipped"] = skipped[0]
        return
    votes = [
        sum(same(one["actors"], other["actors"], kind, label) for _, other in answers)
        for _, one in answers
    ]
    best = int(np.argmax(votes))
    if 2 * votes[best] > len(answers):
        frame["actors"] = answers[best][1]["actors"]
        if answers[best][1].get("by") is not None:
            frame["by"] = answers[best][1]["by"]
        return
    said = ", ".join(f"{_in_words(one['actors'])} by {who}" for who, one in answers)
    notes.problems.append((name, f"frame {frame['frame']}: people disagree ({said})"))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_words(actors):
    if not actors:
        return "no action"
    boxes = [actor["box"] for actor in actors if "box" in actor]
    return f"{len(actors)} actors" + (f" {boxes[:2]}" if boxes else "")


def same(first: list, second: list, kind: str, label: str | None = None) -> bool:
    """Whether two answers to a frame have the same actors, of the same classes, within NEAR
    pixels; track numbers do not matter. label: class of an actor that has none.
    """
    if len(first) != len(second):
        return False
    left = [(shape_of(actor, kind), actor.get("class", label)) for actor in second]
    for actor in first:
        shape, own = shape_of(actor, kind), actor.get("class", label)
        near = [overlap(shape, other) if own == of else -1 for other, of in left]
        best = int(np.argmax(near))
        if near[best] < 0 or not _within(shape, left[best][0]):
            return False
        left.pop(best)
    return True


def _within(first, second):
    """Whether two boxes or masks differ by NEAR pixels at most."""
    if first.dtype != bool:
        return bool(np.abs(first - second).max() <= NEAR)
    wide = [ndimage.binary_dilation(m, np.ones((3, 3)), NEAR) for m in (first, second)]
    return bool((first <= wide[1]).all() and (second <= wide[0]).all())


def complete(earlier: Mapping | None, later: Mapping) -> tuple[dict, list[str]]:
    """(earlier answers with the later ones put in, places "video, frame n" that both have
    and where they differ: the later count). Both are copies of one request.
    """
    joined, changed = copy.deepcopy(dict(later)), []
    if earlier is None:
        return joined, changed
    kind = answers_with(joined)
    known = {entry["video"]: entry for entry in earlier["videos"]}
    for entry in joined["videos"]:
        old = known.get(entry["video"])
        if old is None:
            continue
        new_class = entry["class"] if _has_answers(entry) else None
        frames = {frame["frame"]: frame for frame in old["frames"]}
        if NONE in (new_class, old["class"]) and new_class not in (None, old["class"]):
            continue  # said to show none of the classes, or no longer
        entry["class"] = new_class or old["class"]
        for place, frame in enumerate(entry["frames"]):
            had = frames.get(frame["frame"])
            if had is None or had["actors"] is None and not had.get("skipped"):
                continue
            if frame["actors"] is None and not frame.get("skipped"):
                entry["frames"][place] = copy.deepcopy(had)
            elif frame["actors"] is not None and had["actors"] is not None:
                if not same(frame["actors"], had["actors"], kind):
                    changed.append(f"{entry['video']}, frame {frame['frame']}")
    return joined, changed
