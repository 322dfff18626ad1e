"""What people have answered to a cycle's request, and where it lies."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claus.annotators.actors import answers_with
from claus.annotators.form import FORMAT, read_form, request_form
from claus.annotators.journal import read_journal
from claus.annotators.mend import NONE, Notes
from claus.annotators.readers import read_answers
from claus.artifacts.changes import with_changes
from claus.artifacts.cycle import Cycle
from claus.artifacts.selection_file import load_selection
from claus.artifacts.selection_report import request_picks
from claus.datasets.labels import annotations
from claus.steps.intake import write_problems
from claus.utils.runtime import UserError

OWN = ("answers.json", "from_page.json")  # written by us out of other files


@dataclass(frozen=True)
class Answers:
    """paths: files with answers · answered, asked: frames; skipped ones are answered ·
    problems: what is to be printed of answers that cannot be taken, "" where all can.
    """

    paths: tuple[Path, ...]
    answered: int
    asked: int
    problems: str = ""

    @property
    def whole(self) -> bool:
        """Whether every frame is answered, and every answer can be taken."""
        return self.answered >= self.asked and not self.problems


def find_answers(cycle: Cycle, given: Sequence[str] = ()) -> Answers:
    """The answers to the request of a cycle: the files that are given, else the journals of
    the page and the forms in the cycle's folder that have answers in them. UserError for a
    file that is missing or cannot be read.

    Problems go to the file that claus_select.py --answers writes.
    """
    before = annotations.load(cycle.before().annotations if cycle.number else cycle.run.pool)
    before = with_changes(before, cycle.run, cycle.number)
    request = _empty_request(cycle, before)
    asked = sum(len(entry["frames"]) for entry in request["videos"])
    if given:
        paths = [Path(path) for path in given]
    else:
        paths = [path for path in sorted(cycle.folder.glob("*.json")) if _may_answer(path)]
        journals = sorted(cycle.journal.glob("*.jsonl"))
        paths += [path for path in journals if not path.name.endswith(".correction.jsonl")]
    found, notes, known = [], Notes(), set()
    for path in paths:
        if not path.exists():
            raise UserError(f"--answers {path}: no such file; correct the path")
        form, said = read_answers([path], request, before)
        if _answered(form) or said.problems or given:
            found.append(path)
    if found:
        form, notes = read_answers(found, request, before)
        known = _answered(form)
    problems = write_problems(cycle, notes) if found else ""
    return Answers(tuple(found), len(known), asked, problems if notes.problems else "")


def not_taken(given: Sequence[str], cycle: Cycle) -> tuple[str, ...]:
    """The files that are given, but for those of an earlier cycle of this run that is labeled,
    of which it is said: the same command was stopped after it had taken them in.
    """
    left = []
    for path in given:
        head = _head(path)
        number = head.get("cycle")
        earlier = isinstance(number, int) and 0 <= number < cycle.number
        own = head.get("run") == cycle.run.name
        if earlier and own and cycle.run.cycle(number).annotations.exists():
            print(f"note: {path} answers cycle {number}, which has been taken in")
        else:
            left.append(path)
    return tuple(left)


def _head(path):
    """Run and cycle of a form or a journal; {} of other files."""
    with contextlib.suppress(UserError):
        return read_form(path)
    with contextlib.suppress(UserError):
        return read_journal(path)[0]
    return {}


def _empty_request(cycle, before):
    """The request as it was made: people fill in the file itself."""
    report = load_selection(cycle.selection)
    picks = [pick for pick in request_picks(report) if pick["video"] in before.videos]
    kind = answers_with(read_form(cycle.request))
    return request_form(before, picks, report["run"], report["cycle"], kind)


def _may_answer(path):
    """Whether a file in the cycle's folder is a form that a person may have filled in."""
    if path.name in OWN or path.name.startswith("request.replaced"):
        return False
    try:
        with open(path, encoding="utf-8-sig") as file:
            return f'"{FORMAT}"' in file.read(200)
    except (OSError, ValueError):
        return False


def _answered(form):
    """{(video, frame)} that are answered or skipped in a form of read_answers."""
    known = set()
    for entry in form["videos"]:
        for frame in entry["frames"]:
            answered = frame["actors"] is not None and entry["class"] is not None
            if answered or frame.get("skipped") or entry["class"] == NONE:
                known.add((entry["video"], frame["frame"]))
    return known
