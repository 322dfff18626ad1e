"""Journals of the labeling page: what each annotator did, one JSON line a step, only ever
appended to, so that nothing is lost when a browser or the server dies.

A file an annotator: files/<run>/cycle<k>/journal/<name>.jsonl, of a second look at labels of
earlier cycles <name>.correction.jsonl. Its lines:

    {"claus_journal": 1, "kind": "answers" or "correction", "run", "cycle", "who"}
    {"t": seconds since 1970, "do": "frame", "video", "frame", "size": [height, width],
     "state": "open", "done" or "skipped", "reason": of a skipped one, "seconds": it took,
     "actors": [{"track": 1, "box": [x, y, w, h], "origin": "drawn", "moved" or "accepted",
                 "class": only where it is not that of the video}]}
    {"t", "do": "class", "video", "class": name or null, "none": true for none of the classes}
    {"t", "do": "segments", "video": whole video, "parts": [{"first", "end", "class"}]}

Frame numbers are those of the file that people see. In a run with masks an actor has
"polygons": [[[x, y], ...], ...] (see polygons.py) or, of an accepted proposal, "mask": run
lengths. origin: a proposal of the detector is "accepted", or "moved" where it was changed
since; "label" is an unchanged earlier label in a second look. The last line about a frame
holds all of it: a reader never has to add steps up. An incomplete last line is ignored.
"""

import copy
import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from claus.annotators.actors import answers_with
from claus.annotators.polygons import polygon_mask, polygons_problem
from claus.datasets.labels.masks import decode_rle, encode_rle, rle_problem
from claus.utils.runtime import UserError, append_line, read_json_lines, shown
from claus.utils.shape import amount, maybe, misfit, whole

VERSION = 1
KINDS = ("answers", "correction")
AGREE = 0.5  # mean IoU of two people's boxes below which a third is asked
LONGEST = 40  # letters of an annotator's name
FIX = "restore the file, or take that line out"


def annotator_name(text: str) -> str:
    """The name of an annotator, proved to be one: letters and digits of any script, - and _.

    It becomes the name of a file. Raises UserError.
    """
    name = unicodedata.normalize("NFC", str(text))
    if not _is_name(name):
        raise UserError(
            f"{name[:60]!r} is no name of an annotator: give up to {LONGEST} letters, digits, "
            "- or _"
        )
    return name


def picture_size(value: object) -> bool:
    """Whether it is [height, width] of a picture that can be shown."""
    sides = isinstance(value, list) and len(value) == 2 and all(map(whole, value))
    return sides and 0 < value[0] * value[1] < 2**28


def four_whole_numbers(value: object) -> bool:
    """Whether it is a box as [x, y, width, height]."""
    return isinstance(value, list) and len(value) == 4 and all(map(whole, value))


def of_an_annotator(value: object) -> bool:
    """Whether it is the name of one."""
    return isinstance(value, str) and _is_name(value)


def _is_name(name):
    return bool(re.fullmatch(r"[\w-]+", name)) and len(name) <= LONGEST


def one_of(*words: str) -> Callable:
    """A shape of shape.py: one of these words."""

    def fits(value):
        return isinstance(value, str) and value in words

    fits.__name__ = " or ".join(words)
    return fits


HEAD = {
    "kind": maybe(one_of(*KINDS)),
    "run": maybe(str),
    "cycle": maybe(whole),
    "who": maybe(of_an_annotator),
}
ACTOR = {
    "track": whole,
    "origin": maybe(str),
    "class": maybe((str, None)),
    "box": maybe(four_whole_numbers),
    "polygons": maybe(list),
    "mask": maybe(dict),
}
LINES = {  # by what they do
    "frame": {
        "t": amount,
        "video": str,
        "frame": whole,
        "size": picture_size,
        "state": one_of("open", "done", "skipped"),
        "actors": [ACTOR],
        "seconds": maybe((amount, None)),
        "reason": maybe((str, None)),
        "changed": maybe(bool),
    },
    "class": {"t": amount, "video": str, "class": (str, None), "none": maybe(bool)},
    "segments": {
        "t": amount,
        "video": str,
        "parts": [{"first": whole, "end": whole, "class": (str, None)}],
    },
}


# --------------------------------------------------------------------------------- writing


class Journal:
    """The journal of one annotator, to append to. Nothing is written before the first line.

    head: run, cycle, kind and who, see the module's head.
    """

    def __init__(self, folder: Path, head: Mapping):
        ending = ".jsonl" if head["kind"] == KINDS[0] else f".{head['kind']}.jsonl"
        self.path = folder / f"{annotator_name(head['who'])}{ending}"
        self.head = {"claus_journal": VERSION, **head}

    def append(self, entry: Mapping) -> dict:
        """Write a line, with the time; the line as it was written. Raises UserError."""
        line = {"t": round(time.time(), 3), **entry}
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, _text(self.head))
        append_line(self.path, _text(line))
        return line


def _text(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# --------------------------------------------------------------------------------- reading


@dataclass
class Work:
    """What one annotator has said: (video, frame) -> the last line about it, which has also
    "first": when it was first done; video -> the last line about its class; whole video ->
    parts; seconds of the frames that were done, in their order.
    """

    who: str
    kind: str = KINDS[0]
    frames: dict[tuple[str, int], dict] = field(default_factory=dict)
    classes: dict[str, dict] = field(default_factory=dict)
    segments: dict[str, list] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def take(self, line: Mapping) -> None:
        """Take a further line in, as the page writes it."""
        if line["do"] == "frame":
            key = line["video"], int(line["frame"])
            known = self.frames.get(key, {})
            first = known.get("first")
            if line["state"] == "done" and first is None:
                first = line["t"]
                self.seconds.append(float(line.get("seconds") or 0))
            self.frames[key] = {**line, "first": first}
        elif line["do"] == "class":
            self.classes[line["video"]] = dict(line)
        elif line["do"] == "segments":
            self.segments[line["video"]] = list(line["parts"])


def recognizes(head: bytes) -> bool:
    """Whether a file with these first bytes is a journal."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b'{"claus_journal"')


def read_journal(path: str | Path) -> tuple[dict, Work]:
    """(its first line, what it says). Raises UserError naming the file, and the line where
    one is damaged; a line that a power cut has left incomplete is passed over.
    """
    head, *lines = read_json_lines(path, FIX, _wrong) or [{}]
    if "claus_journal" not in head:
        raise UserError(f"{path}: not a journal of label.py; give the file that it wrote")
    work = Work(head.get("who") or Path(path).stem, head.get("kind", KINDS[0]))
    for line in lines:
        if "claus_journal" in line:
            raise UserError(f"{path}: its first line comes twice; {FIX}")
        work.take(line)
    return head, work


def _wrong(number, line):
    """What is wrong with a line of a journal, or None."""
    if number > 1 and "claus_journal" not in line:
        problem = _wrong_line(line)
        return problem and f"not a line of a journal: {problem}"
    if "claus_journal" not in line:
        return "not a journal of label.py"
    if line["claus_journal"] != VERSION:
        version = shown(str(line["claus_journal"]), 20)
        return f"of version {version}, this program reads {VERSION}"
    return misfit(line, HEAD)


def _wrong_line(line):
    do = line.get("do")
    if not isinstance(do, str) or do not in LINES:
        return f"do is not {', '.join(LINES)}"
    problem = misfit(line, LINES[do])
    if problem:
        return problem
    if do == "segments":
        backward = any(part["first"] >= part["end"] for part in line["parts"])
        return "a part ends before it begins" if backward else None
    if do == "frame":
        return _wrong_actors(line["actors"], *line["size"])
    return None


def _wrong_actors(actors, height, width):
    for actor in actors:
        kinds = [name for name in ("box", "polygons", "mask") if name in actor]
        if len(kinds) != 1:
            return "an actor has not one box, mask or list of polygons"
        if kinds == ["box"] and not (min(actor["box"][:2]) >= 0 < min(actor["box"][2:])):
            return "a box has no area, or begins outside of the picture"
        problem = None
        if kinds == ["polygons"]:
            problem = polygons_problem(actor["polygons"])
        elif kinds == ["mask"]:
            wrong = rle_problem(actor["mask"], height, width)
            problem = wrong and f"a mask {wrong}"
        if problem:
            return problem
    return None


def read_answers(paths: Iterable[str | Path], request: Mapping) -> dict:
    """The request as these journals fill it in: a deep copy, the request is untouched.

    As in any answered form a frame has its "actors", a video its "class"; what nobody has
    said stays null. Besides, a frame has "by" and "seconds", or "skipped": why; an actor
    has its "origin", and "class" where it is not that of the video; a video that is none of
    the classes has "none_of_these": true, class null and no actors. Frames that were begun
    and not confirmed stay null. Where two people have labeled a frame the first one's
    labels are taken, and where the two disagree those of a third. Raises UserError for a
    journal of another run or cycle.
    """
    works = []
    for path in paths:
        head, work = read_journal(path)
        for key in ("run", "cycle"):
            if head.get(key) != request.get(key):
                raise UserError(
                    f"{path}: is of {key} {head.get(key)!r}, the request of "
                    f"{request.get(key)!r}; give the journals of this cycle"
                )
        works.append(work)
    return fill_in(works, request)


def fill_in(works: Iterable[Work], request: Mapping) -> dict:
    """read_answers of what has been read already."""
    works, kind = list(works), answers_with(request)
    answers = copy.deepcopy(dict(request))
    for entry in answers["videos"]:
        said = class_of(works, entry["video"])
        if entry.get("class") is None:
            entry["class"] = said["class"] if said else None
        if said and said.get("none"):
            entry["none_of_these"] = True
        for frame in entry["frames"]:
            line = taken(works, entry["video"], frame["frame"], kind)
            if line is not None:
                _fill_frame(frame, line, kind, entry["class"])
            elif entry.get("none_of_these"):
                frame["actors"], frame["by"] = [], said["who"]
    return answers


def _fill_frame(frame, line, kind, label):
    """Fill in one frame of a form from the journal's line about it."""
    frame["by"] = line["who"]
    if line["state"] == "skipped":
        frame["skipped"] = line.get("reason") or "no reason given"
        return
    frame["seconds"] = line.get("seconds")
    frame["actors"] = [_actor(actor, line["size"], kind, label) for actor in line["actors"]]


def _actor(actor, size, kind, label):
    """An actor of a form from one of a journal."""
    filled = {"track": actor["track"]}
    if kind == "masks":
        filled["mask"] = mask_of(actor, size)
    else:
        filled["box"] = actor["box"]
    filled["origin"] = actor.get("origin", "drawn")
    if actor.get("class") not in (None, label):
        filled["class"] = actor["class"]
    return filled


def mask_of(actor: Mapping, size: list[int]) -> dict:
    """Run lengths of an actor of a journal, of its polygons where it has some."""
    if "polygons" in actor:
        return encode_rle(polygon_mask(actor["polygons"], *size))
    return actor["mask"]


def read_corrections(paths: Iterable[str | Path], request: Mapping) -> dict:
    """The request as a second look fills it in: a deep copy in which only what was changed is
    answered, frames and classes; the last word counts. Raises UserError.

    request: a form of the labels, its "actors" and "class" null; frames that it does not have
    are left out.
    """
    works = [read_journal(path)[1] for path in paths]
    answers, kind = copy.deepcopy(dict(request)), answers_with(request)
    for entry in answers["videos"]:
        name = entry["video"]
        said = [work.classes[name] for work in works if name in work.classes]
        if said:
            last = max(said, key=lambda line: line["t"])
            entry["class"] = last["class"]
            entry |= {"none_of_these": True} if last.get("none") else {}
        for frame in entry["frames"]:
            lines = [line for line in opinions(works, name, frame["frame"]) if _changes(line)]
            if lines:
                line = max(lines, key=lambda line: line["t"])
                _fill_frame(frame, line, kind, entry["class"])
    return answers


def _changes(line):
    return line["state"] == "done" and line.get("changed", True)


# --------------------------------------------------------------------- several people


def opinions(works: Iterable[Work], video: str, frame: int) -> list[dict]:
    """The lines of all who have done or skipped a frame, each with "who", the first first."""
    found = []
    for work in works:
        line = work.frames.get((video, frame))
        if line is not None and line["state"] != "open":
            found.append({**line, "who": work.who})
    return sorted(found, key=lambda line: (line["first"] or line["t"], line["who"]))


def taken(works: Iterable[Work], video: str, frame: int, kind: str) -> dict | None:
    """The opinion that counts, None where there is none: done before skipped, the first,
    or the third where the first two disagree.
    """
    works = list(works)
    found = opinions(works, video, frame)
    done = [line for line in found if line["state"] == "done"]
    if not done:
        return found[0] if found else None
    if len(done) > 2 and disagree(works, done[0], done[1], kind):
        return done[2]
    return done[0]


def class_of(works: Iterable[Work], video: str) -> dict | None:
    """What counts as the class of a video: {"class", "none", "who"}; the majority's word, of
    as many votes each the one that was said first. None where nobody has said anything.
    """
    votes = [
        {**work.classes[video], "who": work.who} for work in works if video in work.classes
    ]
    votes = [vote for vote in votes if vote["class"] is not None or vote.get("none")]
    if not votes:
        return None
    names = [vote["class"] for vote in votes]
    return min(votes, key=lambda vote: (-names.count(vote["class"]), vote["t"]))


def disagree(works: Iterable[Work], one: Mapping, other: Mapping, kind: str) -> bool:
    """Whether two opinions about a frame differ so much that a third person is asked."""
    iou, same_class = agreement(works, one, other, kind)
    return iou < AGREE or not same_class


def agreement(
    works: Iterable[Work], one: Mapping, other: Mapping, kind: str
) -> tuple[float, bool]:
    """(mean IoU of the actors that two people marked in a frame, whether they gave its video
    the same class). An actor that only one has marked counts as IoU 0; nothing there, said
    by both, as 1.
    """
    from scipy.optimize import linear_sum_assignment

    said = {work.who: work.classes.get(one["video"], {}) for work in works}
    labels = [said.get(line["who"], {}).get("class") for line in (one, other)]
    first, second = one["actors"], other["actors"]
    if not first and not second:
        return 1.0, labels[0] == labels[1]
    if not first or not second:
        return 0.0, labels[0] == labels[1]
    shapes = [[_pixels(actor, one["size"], kind) for actor in line] for line in (first, second)]
    table = np.array([[_iou(a, b) for b in shapes[1]] for a in shapes[0]])
    rows, columns = linear_sum_assignment(-table)
    most = max(len(first), len(second))
    return float(table[rows, columns].sum() / most), labels[0] == labels[1]


def _pixels(actor, size, kind):
    """Mask (H,W) bool, or corners (4,), of an actor of a journal."""
    if kind == "masks":
        return decode_rle(mask_of(actor, size))
    x, y, width, height = actor["box"]
    return np.array([x, y, x + width, y + height])


def _iou(a, b):
    if a.dtype == bool:
        return (a & b).sum() / max((a | b).sum(), 1)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inside = np.prod(np.maximum(sides, 0))
    return inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside)


def agreement_report(
    works: Iterable[Work], frames: Iterable[tuple[str, int]], kind: str
) -> dict:
    """{"frames": labeled by two, "iou": mean or None, "same_class": share or None,
    "to_third": how many wait for a third person, "pairs": [{"video", "frame", "who", "iou",
    "same_class"}]} of the frames that are to be labeled twice.
    """
    works, pairs, waiting = list(works), [], 0
    for video, frame in frames:
        done = [line for line in opinions(works, video, frame) if line["state"] == "done"]
        if len(done) < 2:
            continue
        iou, same = agreement(works, done[0], done[1], kind)
        who = [done[0]["who"], done[1]["who"]]
        pairs.append(
            {"video": video, "frame": frame, "who": who, "iou": iou, "same_class": same}
        )
        waiting += len(done) == 2 and (iou < AGREE or not same)
    count = len(pairs)
    return {
        "frames": count,
        "iou": sum(pair["iou"] for pair in pairs) / count if count else None,
        "same_class": sum(pair["same_class"] for pair in pairs) / count if count else None,
        "to_third": waiting,
        "pairs": pairs,
    }
