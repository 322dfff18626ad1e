"""What people have answered to a cycle's request, and where it lies."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claus.annotators.form import FORMAT, read_form
from claus.artifacts.cycle import Cycle
from claus.utils.runtime import UserError

OWN = ("answers.json", "from_page.json", "selection.json")  # written by us, no answers
OTHERS = (".xml", ".zip")  # of annotation tools; claus_select.py knows what they are


@dataclass(frozen=True)
class Answers:
    """paths: files with answers · answered, asked: frames."""

    paths: tuple[Path, ...]
    answered: int
    asked: int

    @property
    def whole(self) -> bool:
        """Whether every frame is answered."""
        return self.answered >= self.asked


def find_answers(cycle: Cycle, given: Sequence[str] = ()) -> Answers:
    """The answers to the request of a cycle: the files that are given, else the journals of
    the page and the forms in the cycle's folder that have answers in them.

    Files of other tools count as complete: they were exported to be taken in. UserError for
    a file that is missing.
    """
    request = read_form(cycle.request)
    asked = {
        (entry["video"], frame["frame"])
        for entry in request["videos"]
        for frame in entry["frames"]
    }
    if given:
        paths = [Path(path) for path in given]
        for path in paths:
            if not path.exists():
                raise UserError(f"--answers {path}: no such file; correct the path")
    else:
        paths = [path for path in sorted(cycle.folder.glob("*.json")) if _may_answer(path)]
        journals = sorted(cycle.journal.glob("*.jsonl"))
        paths += [path for path in journals if not path.name.endswith(".correction.jsonl")]
    found, known = [], set()
    for path in paths:
        answered = _answered(path, request)
        if answered is None:  # of another tool
            answered = asked
        if answered or given:
            found.append(path)
        known |= answered & asked
    return Answers(tuple(found), len(known), len(asked))


def _may_answer(path):
    """Whether a file in the cycle's folder is a form that a person may have filled in."""
    if path.name in OWN or path.name.startswith("request.replaced"):
        return False
    try:
        with open(path, encoding="utf-8-sig") as file:
            return f'"{FORMAT}"' in file.read(200)
    except (OSError, ValueError):
        return False


def _answered(path, request):
    """{(video, frame)} that a form or a journal answers or skips; None for other files."""
    if path.suffix == ".jsonl":
        return _in_journal(path)
    try:
        form = read_form(path)
    except UserError:
        if _may_answer(path):
            raise  # a form in which a comma is missing
        return None
    known = set()
    for entry in form["videos"]:
        for frame in entry.get("frames") or () if isinstance(entry, dict) else ():
            if isinstance(frame, dict) and _is_answered(entry, frame):
                known.add((entry.get("video"), frame.get("frame")))
    return known


def _is_answered(entry, frame):
    answered = frame.get("actors") is not None and entry.get("class") is not None
    return answered or bool(frame.get("skipped")) or bool(entry.get("none_of_these"))


def _in_journal(path):
    """As _answered, of a journal of the page: a line a step, the last about a frame counts.
    Frames of a video without a class are not answered.
    """
    states, classes = {}, {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # of a server that was killed
        if line.get("do") == "frame":
            states[line["video"], line["frame"]] = line["state"]
        elif line.get("do") == "class":
            classes[line["video"]] = bool(line.get("class") or line.get("none"))
    known = set()
    for (video, frame), state in states.items():
        if state == "skipped" or (state == "done" and classes.get(video, True)):
            known.add((video, frame))
    return known
