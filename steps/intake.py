"""Answers come in: from people or from ground truth, into the annotation file of a cycle.

Partial answers are fine: what is there is taken in, the rest is named and stays open until
the next call, which completes it. Everything that is wrong or doubtful stands in one file.
"""

import json
from collections import Counter
from collections.abc import Mapping

from claus.annotators.answers import merge_answers
from claus.annotators.contact_sheet import MOST, PAGE, write_sheets
from claus.annotators.form import read_form, write_form
from claus.annotators.mend import Notes, answered_part, none_of_the_classes
from claus.annotators.people import complete
from claus.annotators.readers import read_answers
from claus.artifacts.changes import add_change, read_changes
from claus.artifacts.cycle import Cycle
from claus.artifacts.ledger import load_intake, write_ledger
from claus.artifacts.selection_file import load_selection
from claus.datasets import table
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.flags.selection import SelectSettings
from claus.steps.run_state import data_of, flags_of, labels_before, request_of
from claus.utils.runtime import UserError, write_text
from claus.utils.words import many

SHOWN = 3  # problems on the screen; all are in the file


def take_answers(settings: SelectSettings, cycle: Cycle) -> int:
    """Take the answers to a cycle's request in -> exit status; UserError where nothing can
    be taken.
    """
    if not cycle.selection.exists():
        raise UserError(
            f"{cycle.selection} is missing, so nothing was asked in cycle "
            f"{cycle.number}: run this command without --answers first"
        )
    check_not_trained(cycle)
    source, report = settings.source, load_selection(cycle.selection)
    before = labels_before(settings, cycle)
    request = request_of(source, cycle, before, report)
    form, notes = read_answers(source.answers, request, before)
    earlier = read_form(cycle.answers) if cycle.answers.exists() else None
    form, changed = complete(earlier, form)
    notes.warnings += [
        ("", f"{place}: answered otherwise before; the new answer counts") for place in changed
    ]
    told = write_problems(cycle, notes)
    part = answered_part(form)
    if not (part["videos"] or none_of_the_classes(form)):
        print(told or "no frame is answered yet")
        raise UserError(
            f"no frame of {cycle.request} is answered yet in "
            f"{', '.join(map(str, source.answers))}"
            + (f"; see {cycle.problems}" if told else "")
        )
    sheets = write_sheets(form, cycle.frames, cycle.sheets)
    print(progress(form))
    shown = " (a part of it)" if intake_of(form)["answered"] > MOST * PAGE else ""
    look = f"look at what was labeled{shown}: {sheets[0].parent}/"
    for line in (told, several_actions(part), look):
        if line:
            print(line)
    return finish(settings, cycle, before, form, len(notes.problems))


def check_not_trained(cycle: Cycle) -> None:
    """UserError where labels of a cycle have been used already."""
    later = [other for other in cycle.run.cycles() if other.number > cycle.number]
    used = [path for path in (cycle.detector, cycle.training) if path.exists()]
    if later or used:
        what = later[0].annotations if later else used[0]
        raise UserError(
            f"{what} was made from the labels of cycle {cycle.number}: what is late or "
            "changed goes in with --correct in place of --answers"
        )


def open_problems(cycle: Cycle) -> int:
    """How many problems keep frames of a cycle open since its last intake; 0 where none was."""
    return load_intake(cycle).get("problems", 0)


def finish(
    settings: SelectSettings,
    cycle: Cycle,
    before: Annotations,
    form: dict,
    problems: int = 0,
) -> int:
    """Keep the answers, write the annotation file and the ledger, and say what the cycle
    came to. problems: how many kept frames open.
    """
    part, none = answered_part(form), none_of_the_classes(form)
    merged = merge_answers(before, part).without(none)
    write_form(cycle.answers, form)
    keep_none(cycle, form, none)
    if settings.source.answers:
        write_text(cycle.intake, json.dumps({**intake_of(form), "problems": problems}) + "\n")
    annotation_file.save(merged, cycle.annotations)
    in_memory = {cycle.number: merged}
    if not read_changes(cycle.run, cycle=cycle.number):
        in_memory[cycle.number - 1] = before
    row = write_ledger(cycle.run, in_memory)[-1]
    print(
        f"labeled: {row['videos']} videos, {row['frames']} frames, {row['boxes']} boxes, "
        f"cost {row['cost']}; in all {row['total_videos']} videos, "
        f"{row['total_frames']} frames ({row['percent_of_frames']}% of the pool), "
        f"cost {row['total_cost']}"
    )
    if settings.in_loop:
        return 0
    training = " ".join(table.training_script(settings.source.dataset))
    print(
        f"wrote {cycle.annotations}; next: {training} "
        f"{flags_of(settings, cycle.number)}{data_of(settings.source)}"
    )
    return 0


def keep_none(cycle: Cycle, form: Mapping, none: list[str]) -> None:
    """Videos that show none of the classes leave the pool; that somebody has looked at them
    is paid for.
    """
    if not (none or read_changes(cycle.run, "none", cycle.number)):
        return
    entries = {entry["video"]: entry for entry in form["videos"]}
    frames = sum(
        frame["actors"] is not None for name in none for frame in entries[name]["frames"]
    )
    add_change(
        cycle.run,
        {
            "change": "none",
            "cycle": cycle.number,
            "videos": none,
            "paid": [-len(none), -frames, 0, 0],
        },
    )
    if none:
        print(
            f"of none of the classes: {many(len(none), 'video')} (first {none[0]}), no longer in "
            "the pool, and not trained on"
        )


# ---------------------------------------------------------------------------- what is told


def intake_of(form: Mapping) -> dict:
    """How much of a form is answered, in how many seconds, and how actors were made."""
    frames = [frame for entry in form["videos"] for frame in entry["frames"]]
    seconds = sum(frame.get("seconds") or 0 for frame in frames)
    actors = [actor for frame in frames for actor in frame["actors"] or ()]
    origins = Counter(actor.get("origin") for actor in actors)
    known = {name: origins[name] for name in ("drawn", "moved", "accepted") if origins[name]}
    return {
        "asked": len(frames),
        "answered": sum(frame["actors"] is not None for frame in frames),
        "skipped": sum(bool(frame.get("skipped")) for frame in frames),
        **({"seconds": round(seconds, 1)} if seconds else {}),
        **known,
    }


def progress(form: Mapping) -> str:
    """ "17 of 20 frames, 3 skipped (blurred: 2, …)", and what happens to the others."""
    counts = intake_of(form)
    frames = [frame for entry in form["videos"] for frame in entry["frames"]]
    reasons = Counter(frame["skipped"] for frame in frames if frame.get("skipped"))
    text = f"taken in: {counts['answered']} of {counts['asked']} frames"
    if reasons:
        why = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common(3))
        text += f", {counts['skipped']} skipped ({why})"
    waiting = counts["asked"] - counts["answered"] - counts["skipped"]
    if waiting:
        text += f", {waiting} not answered: give --answers again to add them"
    if waiting or reasons:
        text += "; frames without an answer stay unlabeled and may be asked for again"
    return text


def write_problems(cycle: Cycle, notes: Notes) -> str:
    """Write all problems and warnings, by video, or remove an older file where there are
    none -> what to print.
    """
    counted = [
        f"{count} {what}"
        for count, what in (
            (notes.clipped, "boxes clipped to the picture"),
            (notes.rounded, "boxes rounded to whole pixels"),
        )
        if count
    ]
    said = f"{' and '.join(counted)}\n" if counted else ""
    if not (notes.problems or notes.warnings):
        cycle.problems.unlink(missing_ok=True)
        return said.strip()
    lines = [f"# answers to cycle {cycle.number} of {cycle.run.name}", ""]
    for kind, heading in (
        (notes.problems, "NOT TAKEN IN: correct these and give the answers again"),
        (notes.warnings, "TAKEN AS IT IS: look again"),
    ):
        if kind:
            lines += [f"## {heading} ({len(kind)})", *_by_video(kind), ""]
    write_text(cycle.problems, "\n".join(lines))
    first = [f"{name}: {text}" if name else text for name, text in notes.problems[:SHOWN]]
    more = f" …and {len(notes.problems) - SHOWN} more" * (len(notes.problems) > SHOWN)
    shown = "".join(f"\n  {line}" for line in first) + more
    return (
        f"{said}{many(len(notes.problems), 'problem')}, {many(len(notes.warnings), 'warning')}: "
        f"{cycle.problems}{shown}"
    )


def _by_video(notes):
    """Lines of (video, text), the videos in their first order."""
    videos = {}
    for name, text in notes:
        videos.setdefault(name, []).append(text)
    lines = []
    for name, texts in videos.items():
        lines.append(f"{name or 'the whole file'}:")
        lines += [f"  - {text}" for text in texts]
    return lines


def several_actions(form: Mapping) -> str | None:
    """What to say of videos whose actors do different things."""
    names = [
        entry["video"]
        for entry in form["videos"]
        if any("class" in actor for frame in entry["frames"] for actor in frame["actors"] or ())
    ]
    if not names:
        return None
    return (
        f"note: actions of several classes in {many(len(names), 'video')} (first {names[0]}): each "
        "actor keeps its own; a clip has one class in this method, so it is trained on that "
        "of its labeled actors, in turn where they differ, with all actors as foreground"
    )
