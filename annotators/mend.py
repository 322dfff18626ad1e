"""Answers as people and tools give them -> answers that fit the request.

What is meant is taken: a box out of the picture by SLACK pixels is clipped, fractions are
rounded, both counted. What cannot be meant keeps its frame open and is a problem, with its
place. What can be meant and is often a mistake is taken, with a warning (suspicions.py).
Frames without an answer and skipped ones are no problem: they stay open.

A frame may carry "skipped": the reason, "seconds" that it took and "by": who answered; an actor
"class", where it is not the video's, and "origin": drawn, moved or accepted.
"""

import copy
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from claus.annotators.actors import actor_problems, answers_with, is_whole
from claus.annotators.suspicions import suspicions
from claus.annotators.tracks import give_tracks
from claus.datasets.labels.annotations import Annotations
from claus.utils.runtime import UserError

NONE = "none of these classes"  # the class of a video that shows none of them
SLACK = 2  # pixels that a box may lie outside
ORIGINS = ("drawn", "moved", "accepted", "label")  # the last: left as it was
KNOWN = {
    "form": {"format", "version", "run", "cycle", "classes", "how_to_answer", "answer_with",
             "videos", "notes"},
    "video": {"video", "segment", "class", "reason", "score", "cluster", "labelled_before",
              "frames", "none_of_these"},
    "frame": {"frame", "score", "actors", "skipped", "seconds", "by"},
    "actor": {"track", "box", "mask", "class", "origin"},
}  # fmt: skip


@dataclass
class Notes:
    """What is to be said of answers: (video, text) each, "" where it is of no video.

    problems: their frames stay open · warnings: taken as they are · clipped, rounded: boxes.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    clipped: int = 0
    rounded: int = 0

    def add(self, other: "Notes") -> None:
        self.problems += other.problems
        self.warnings += other.warnings
        self.clipped += other.clipped
        self.rounded += other.rounded


def fit(
    request: Mapping, answers: Mapping, before: Annotations, same_head: bool = True
) -> tuple[dict, Notes]:
    """(a copy of `request` with all answers that can be taken, Notes).

    before: the labels that the request was made from. same_head: the answers must name the
    run and cycle of the request. UserError where they are answers to something else.
    """
    _check_head(request, answers, same_head)
    form, notes = copy.deepcopy(dict(request)), Notes()
    for name, kind, text in answers.get("notes", ()):
        (notes.problems if kind == "problem" else notes.warnings).append((name, text))
    _unknown_keys(notes, "", answers, "form")
    entries = {entry["video"]: entry for entry in form["videos"]}
    seen = set()
    for place, given in enumerate(answers["videos"], 1):
        name = given.get("video") if isinstance(given, dict) else None
        if not isinstance(name, str):
            notes.problems.append(("", f"entry {place} of videos has no 'video' name"))
        elif name not in entries:
            near = difflib.get_close_matches(name, entries, 1)
            hint = f" (is it {near[0]}?)" if near else ""
            notes.problems.append((name, f"was not requested{hint}"))
        elif name in seen:
            notes.problems.append((name, "appears twice; the first counts"))
        else:
            seen.add(name)
            one = _Video(entries[name], before, answers_with(request), notes)
            one.may_change = not same_head
            one.take(given)
    return form, notes


def _check_head(request, answers, same_head):
    """UserError where answers belong to another request."""
    if answers.get("answer_with") != request.get("answer_with"):
        kinds = [form.get("answer_with", "boxes") for form in (answers, request)]
        raise UserError(f"answers with {kinds[0]}, and {kinds[1]} were asked for")
    if not same_head:
        return
    for key in ("run", "cycle"):
        if answers.get(key) != request.get(key):
            raise UserError(
                f"answers {key} {answers.get(key)!r}, the request is of {key} "
                f"{request.get(key)!r}; give the answers to this request"
            )
    given, classes = answers.get("classes"), request["classes"]
    if not isinstance(given, list) or not given or given != classes[: len(given)]:
        raise UserError(
            "the list of classes was changed; put back that of the request (--add-classes "
            "adds one)"
        )


def _unknown_keys(notes, name, given, kind, where=""):
    unknown = [str(key)[:40] for key in given if key not in KNOWN[kind]]
    if unknown:
        notes.warnings.append((name, f"{where}unknown keys {', '.join(unknown)}: passed over"))


class _Video:
    """One video of the request, while its answers are taken in."""

    def __init__(self, entry, before, kind, notes):
        self.entry, self.name, self.kind, self.notes = entry, entry["video"], kind, notes
        self.video, self.classes = before.videos[self.name], before.classes
        self.may_change = False  # a class that was known before

    def problem(self, text):
        self.notes.problems.append((self.name, " ".join(str(text).split())[:300]))

    def warn(self, text):
        self.notes.warnings.append((self.name, " ".join(str(text).split())[:300]))

    def take(self, given):
        """Fill the entry in from an answered one."""
        _unknown_keys(self.notes, self.name, given, "video")
        frames = given.get("frames")
        if not isinstance(frames, list):
            self.problem("'frames' is not a list of frames")
            return
        asked = {frame["frame"]: frame for frame in self.entry["frames"]}
        seen, extra = set(), []
        for frame in frames:
            number = frame.get("frame") if isinstance(frame, dict) else None
            if not is_whole(number):
                self.problem(f"frame number {number!r} is not a whole number")
            elif number not in asked:
                extra.append(number)
            elif number in seen:
                self.problem(f"frame {number} appears twice; the first counts")
            else:
                seen.add(number)
                self.take_frame(asked[number], frame)
        missing = sorted(set(asked) - seen)
        if extra and missing:
            self.problem(
                f"frames {_listed(extra)} were not requested, and frames {_listed(missing)} are "
                "missing: were numbers changed?"
            )
        elif extra:
            self.warn(f"frames {_listed(extra)} were not requested: not taken in")
        give_tracks(self.entry, self.kind, self.problem, self.warn)
        self.take_class(NONE if given.get("none_of_these") is True else given.get("class"))
        self.part_classes()
        for text in suspicions(self.entry, self.kind):
            self.warn(text)

    def take_frame(self, asked, frame):
        """Fill one requested frame in."""
        number, actors = frame["frame"], frame.get("actors")
        _unknown_keys(self.notes, self.name, frame, "frame", f"frame {number}: ")
        for key in ("seconds", "by"):
            if frame.get(key) is not None:
                asked[key] = frame[key]
        if frame.get("skipped"):
            asked["skipped"] = str(frame["skipped"])
            return
        if actors is None:
            return
        if not isinstance(actors, list):
            self.problem(f"frame {number}: actors is {actors!r}, not a list")
            return
        taken = [self.mend_actor(number, actor) for actor in actors]
        waiting = [actor for actor in taken if isinstance(actor, dict)]
        # tracks that tools do not give are found afterwards
        checked = [
            {**actor, "track": place}
            if isinstance(actor, dict) and actor.get("track") is None
            else actor
            for place, actor in enumerate(taken, 10**9)
        ]
        problems = actor_problems(checked, self.video, self.kind)
        problems += [text for actor in waiting for text in self.class_problems(actor)]
        for text in problems:
            self.problem(f"frame {number}: {text}")
        if not problems:
            asked["actors"] = taken

    def mend_actor(self, number, actor):
        """A copy of an actor with whole numbers inside the picture, where that is meant."""
        if not isinstance(actor, dict):
            return actor
        _unknown_keys(self.notes, self.name, actor, "actor", f"frame {number}: ")
        actor = {key: value for key, value in actor.items() if key in KNOWN["actor"]}
        if actor.get("origin") not in ORIGINS:
            actor.pop("origin", None)
        track = actor.get("track")
        if isinstance(track, float) and track.is_integer():
            actor["track"] = int(track)
        actor.setdefault("track", None) if self.kind == "masks" else None
        box = actor.get("box")
        if self.kind == "boxes" and _is_box(box):
            actor["box"] = self.mend_box(number, [float(side) for side in box], box)
        order = ("track", "box", "mask", "class", "origin")
        return {key: actor[key] for key in order if key in actor}

    def mend_box(self, number, sides, box):
        """Whole sides, inside the picture where it was out by SLACK at most."""
        x, y, w, h = sides
        corners = [math.floor(side + 0.5) for side in (x, y, x + w, y + h)]
        self.notes.rounded += any(not side.is_integer() for side in sides)
        low = [max(corner, 0) for corner in corners[:2]]
        high = [min(corners[2], self.video.width), min(corners[3], self.video.height)]
        moved = max(abs(np.subtract(corners, low + high)))
        if 0 < moved <= SLACK and high[0] > low[0] and high[1] > low[1]:
            self.notes.clipped += 1
            corners = low + high
        elif moved > SLACK and w > x and h > y and x + 1 < w <= self.video.width + SLACK:
            if h <= self.video.height + SLACK:
                self.warn(
                    f"frame {number}: box {box}: are its last two numbers corners? they are "
                    "width and height"
                )
        x, y, right, bottom = corners
        return [x, y, right - x, bottom - y]

    def class_problems(self, actor):
        label = actor.get("class")
        return [] if label is None else self.unknown_class(label)

    def unknown_class(self, label):
        if label in self.classes:
            return []
        near = difflib.get_close_matches(str(label), self.classes, 1)
        hint = f" (is it {near[0]}?)" if near else ""
        return [f"unknown class {label!r}{hint}"]

    def open_all(self):
        """No frame of this video is answered after all."""
        for frame in self.entry["frames"]:
            frame["actors"] = None

    def take_class(self, label):
        """Settle the class of the video, and leave it open where nothing settles it."""
        answered = [frame for frame in self.entry["frames"] if frame["actors"] is not None]
        actors = [actor for frame in answered for actor in frame["actors"]]
        known = self.entry["class"]
        if label == NONE:
            self.take_none(actors)
            return
        wrong = [] if label is None else self.unknown_class(label)
        if not (wrong or self.may_change) and known is not None and label not in (None, known):
            wrong = [f"class {label!r}, it was labeled {known!r} before; --correct changes it"]
        if wrong:
            self.problem(wrong[0])
            self.open_all()
            return
        label = label or known or _most_common(actor.get("class") for actor in actors)
        if label is None and answered:
            self.problem(
                "its class is missing: give one of the classes, or "
                f"{NONE!r} where it shows none"
            )
            self.open_all()
            return
        self.entry["class"] = label if answered else known
        for actor in actors:
            if actor.get("class") == label:
                del actor["class"]

    def take_none(self, actors):
        if (actors and not self.may_change) or self.entry.get("labelled_before"):
            self.problem(f"{NONE!r}, and yet actors are marked")
            self.open_all()
            return
        self.entry["class"] = NONE
        for frame in self.entry["frames"]:
            if not frame.get("skipped"):
                frame["actors"] = []

    def part_classes(self):
        """An actor that changes its class becomes two tracks: a tube has one class."""
        if self.entry["class"] in (None, NONE):
            return
        numbers = {tube.track: self.classes[tube.label] for tube in self.video.tubes}
        answered = [frame for frame in self.entry["frames"] if frame["actors"]]
        used = {actor["track"] for frame in answered for actor in frame["actors"]}
        moved = {}
        for frame in answered:
            for actor in frame["actors"]:
                label = actor.get("class", self.entry["class"])
                track = actor["track"]
                if numbers.setdefault(track, label) == label:
                    continue
                if (track, label) not in moved:
                    moved[track, label] = max([*used, *numbers]) + 1
                    numbers[moved[track, label]] = label
                    self.warn(
                        f"track {track} is {numbers[track]!r} and, from frame "
                        f"{frame['frame']}, {label!r}: kept as tracks {track} and "
                        f"{moved[track, label]}, nothing is interpolated between the two; "
                        "actions one after the other are best cut with --segments"
                    )
                actor["track"] = moved[track, label]


def _listed(numbers):
    """The first few of some frame numbers."""
    return ", ".join(map(str, numbers[:5])) + ", …" * (len(numbers) > 5)


def _is_box(box):
    """Whether a box is four finite numbers."""
    numbers = isinstance(box, list) and len(box) == 4
    return numbers and all(
        isinstance(side, int | float)
        and not isinstance(side, bool)
        and math.isfinite(side)
        and abs(side) < 1e6
        for side in box
    )


def _most_common(labels: Iterable) -> str | None:
    """The label that comes most often, the first of equals; None of none."""
    counts = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    return max(counts, key=counts.get) if counts else None


# ------------------------------------------------------------------------------- what is there


def answered_part(form: Mapping) -> dict:
    """The videos and frames of a form that are answered, as answers of their own."""
    videos = []
    for entry in form["videos"]:
        frames = [frame for frame in entry["frames"] if frame["actors"] is not None]
        if frames and entry["class"] not in (None, NONE):
            videos.append({**entry, "frames": frames})
    return {**form, "videos": videos}


def none_of_the_classes(form: Mapping) -> list[str]:
    """Names of the videos that were answered to show none of the classes."""
    return [entry["video"] for entry in form["videos"] if entry["class"] == NONE]
