"""--correct: labels of earlier cycles change from now on. What was chosen stays chosen, what
was paid stays paid; weights that were trained on the labels as they were say so when they
are read (artifacts/changes.py).
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from claus.annotators.actors import actors_in
from claus.annotators.answers import merge_answers
from claus.annotators.contact_sheet import write_sheets
from claus.annotators.form import FORMAT, VERSION
from claus.annotators.mend import NONE, answered_part, fit, none_of_the_classes
from claus.annotators.people import complete
from claus.annotators.readers import CORRECTIONS, read_answers
from claus.annotators.request_frames import write_frames
from claus.artifacts.changes import add_change
from claus.artifacts.cycle import Cycle
from claus.artifacts.ledger import paid_for, write_ledger
from claus.artifacts.parts import fingerprint
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations, Video
from claus.flags.selection import SelectSettings
from claus.steps.intake import several_actions, write_problems
from claus.steps.run_state import finder, flags_of, load_labels
from claus.utils.runtime import UserError, check_writable, link_or_copy
from claus.utils.words import many


def correct(settings: SelectSettings, cycle: Cycle) -> int:
    """Put corrections into the labels of the latest labeled cycle -> exit status."""
    done = cycle.run.cycles()
    if not done:
        raise UserError(f"{cycle.run.folder} has no labels to correct; --answers takes them in")
    last = done[-1]
    check_writable(last.folder)
    if last.training.exists():
        raise UserError(
            f"{last.training} holds an interrupted training on these labels: finish it, or "
            "train again with --force after removing it, then correct"
        )
    labels = load_labels(last.annotations, settings.source.dataset)
    old = labels_form(labels, last)
    late = late_frames(labels, last)
    request = correction_request(old, late)
    bare = bare_of(labels)
    paths = settings.exchange.correct
    given, notes = read_answers(paths, request, bare, same_head=False, readers=CORRECTIONS)
    joined, _ = complete(add_late(old, late), given)
    for entry, was in zip(joined["videos"], given["videos"], strict=True):
        if was["class"] == NONE:
            entry["class"] = NONE
    # once more, so that tracks and classes fit together over old and new frames
    form, again = fit(request, joined, bare, same_head=False)
    notes.warnings += [one for one in again.warnings if one not in notes.warnings]
    notes.problems += [one for one in again.problems if one not in notes.problems]
    told = write_problems(last, notes)
    none = none_of_the_classes(form)
    corrected = merge_answers(bare, answered_part(form)).without(none)
    changed = changes_between(labels, corrected)
    if told:
        print(told)
    part = answered_part(form)
    if not changed:
        print("nothing is changed: the labels are as they were")
        draw_again(settings, last, part, labels)
        return 0
    keep(labels, corrected, changed, last, none)
    shown = only(part, changed)
    show(settings, last, shown, draw(settings, last, shown, corrected), several_actions(shown))
    return 0


def only(form: Mapping, videos: Collection[str]) -> dict:
    """A form of some of its videos alone."""
    return {**form, "videos": [one for one in form["videos"] if one["video"] in videos]}


def draw_again(
    settings: SelectSettings, last: Cycle, part: Mapping, labels: Annotations
) -> None:
    """Ledger and pictures of the last corrections, where the call that made them was killed
    before; nothing where these answers are of others.
    """
    write_ledger(last.run)
    number = kept_files(last)
    if not number:
        return
    before = load_labels(last.kept_labels(number), settings.source.dataset)
    changed = changes_between(before, labels)
    if changed and set(changed) <= {one["video"] for one in part["videos"]}:
        draw(settings, last, only(part, changed), labels)


# ----------------------------------------------------------------------------------- forms


def kind_of_labels(labels: Annotations) -> str:
    """ "masks" where labels are masks."""
    tubes = (tube for video in labels.labeled() for tube in video.tubes)
    return "masks" if any(tube.masks is not None for tube in tubes) else "boxes"


def labels_form(labels: Annotations, cycle: Cycle) -> dict:
    """All labels as an answered form."""
    kind = kind_of_labels(labels)
    form = {
        "format": FORMAT,
        "version": VERSION,
        "run": cycle.run.name,
        "cycle": cycle.number,
        "classes": list(labels.classes),
    }
    if kind == "masks":
        form["answer_with"] = kind
    form["videos"] = []
    for video in labels.labeled():
        segment = {}
        if video.segment is not None:
            segment = {"segment": video.segment.shown(video.frames)}
        actors = actors_in(video, video.labeled_frames.tolist(), kind, labels.classes)
        frames = [{"frame": n + video.first, "actors": who} for n, who in actors.items()]
        label = labels.classes[video.label]
        form["videos"].append(
            {"video": video.name, **segment, "class": label, "frames": frames}
        )
    return form


def late_frames(labels: Annotations, last: Cycle) -> dict[str, list[int]]:
    """{video: frames} that were asked for up to a cycle and have no label yet."""
    late = {}
    for number in range(last.number + 1):
        path = last.run.cycle(number).selection
        if not path.exists():
            continue
        for row in load_selection(path)["videos"]:
            video = labels.videos.get(row["video"])
            if video is None:
                continue
            known = set((video.labeled_frames + video.first).tolist())
            asked = {frame["frame"] for frame in row["frames"]} - known
            if asked:
                late[video.name] = sorted({*late.get(video.name, []), *asked})
    return late


def add_late(form: Mapping, late: Mapping) -> dict:
    """The form with frames that wait for an answer added."""
    form = copy.deepcopy(dict(form))
    entries = {entry["video"]: entry for entry in form["videos"]}
    for name, frames in late.items():
        if name not in entries:
            entries[name] = {"video": name, "class": None, "frames": []}
            form["videos"].append(entries[name])
        entries[name]["frames"] += [{"frame": n, "actors": None} for n in frames]
        entries[name]["frames"].sort(key=lambda frame: frame["frame"])
    return form


def correction_request(old: Mapping, late: Mapping) -> dict:
    """The form with every label empty, to be filled in anew; classes are known."""
    request = add_late(old, late)
    for entry in request["videos"]:
        for frame in entry["frames"]:
            frame["actors"] = None
    return request


def bare_of(labels: Annotations) -> Annotations:
    """The same videos without labels."""
    videos = {
        name: Video(name, v.frames, v.height, v.width, segment=v.segment)
        for name, v in labels.videos.items()
    }
    return replace(labels, videos=videos)


# ------------------------------------------------------------------------------ the change


def changes_between(old: Annotations, new: Annotations) -> dict[str, int]:
    """{video: labeled frames that differ}, new and lost ones among them."""
    changed = {}
    for name, before in old.videos.items():
        after = new.videos.get(name)
        count = _frames_that_differ(before, after)
        if count:
            changed[name] = count
    return changed


def _frames_that_differ(before, after):
    if after is None:
        return len(before.labeled_frames)
    frames = {*before.labeled_frames.tolist(), *after.labeled_frames.tolist()}
    if before.label != after.label:
        return len(frames)
    first, second = _by_frame(before), _by_frame(after)
    return sum(first.get(frame) != second.get(frame) for frame in frames)


def _by_frame(video):
    """{labeled frame: what is said of it}."""
    said = {frame: [] for frame in video.labeled_frames.tolist()}
    for tube in video.tubes:
        for place, frame in enumerate(tube.frames.tolist()):
            boxes = None if tube.boxes is None else tube.boxes[place].tolist()
            masks = None if tube.masks is None else tube.masks[place].tobytes()
            said[frame].append((tube.track, tube.label, boxes, masks))
    return said


def keep(
    old: Annotations, new: Annotations, changed: dict[str, int], last: Cycle, none: list[str]
) -> None:
    """Write the corrected labels, the ones before beside them, and note the change."""
    number = kept_files(last)
    # the same labels are those of a call that was killed before it replaced them
    if not number or not same_bytes(last.kept_labels(number), last.annotations):
        number += 1
        link_or_copy(last.annotations, last.kept_labels(number))
    weights = []
    for cycle in last.run.cycles():
        if not cycle.detector.exists():
            continue
        known = annotation_file.load(cycle.annotations) if cycle.number != last.number else old
        trained = {video.name for video in known.labeled()}
        if trained & set(changed):
            weights.append(fingerprint(cycle.detector))
    change = {
        "change": "corrected",
        "cycle": last.number,
        "frames": sum(changed.values()),
        "videos": list(changed),
        "paid": (paid_for(new) - paid_for(old) - late_counts(old, new)).tolist(),
        "weights": weights,
        "before": number,
    }
    if none:
        change["none"] = none
    add_change(last.run, change)
    annotation_file.save(new, last.annotations)
    write_ledger(last.run)


def kept_files(cycle: Cycle) -> int:
    """How many times the labels of a cycle were kept before they were corrected."""
    number = 0
    while cycle.kept_labels(number + 1).exists():
        number += 1
    return number


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files hold the same."""
    return first.samefile(second) or fingerprint(first) == fingerprint(second)


def late_counts(old: Annotations, new: Annotations) -> np.ndarray:
    """Videos, frames, boxes and boxes beyond the first of their frame that `new` has in
    frames without a label before, int64 (4,): these are bought now.
    """
    counts = np.zeros(4, np.int64)
    for name, after in new.videos.items():
        before = old.videos[name]
        late = set(after.labeled_frames.tolist()) - set(before.labeled_frames.tolist())
        said = _by_frame(after) if late else {}
        actors = [len(said[frame]) for frame in late]
        counts += [
            bool(late) and not before.is_labeled,
            len(late),
            sum(actors),
            sum(max(count - 1, 0) for count in actors),
        ]
    return counts


def draw(
    settings: SelectSettings, last: Cycle, form: Mapping, labels: Annotations
) -> list[Path]:
    """Write contact sheets of what was changed -> their files."""
    frames = last.folder / "corrected"
    picks = [
        {"video": entry["video"], "frames": [frame["frame"] for frame in entry["frames"]]}
        for entry in form["videos"]
    ]
    write_frames(picks, frames, finder(settings, last), labels.videos, last.run.cache)
    return write_sheets(form, frames, frames)


def show(
    settings: SelectSettings, last: Cycle, form: Mapping, sheets: list[Path], said: str
) -> None:
    """Say what was changed."""
    if said:
        print(said)
    if sheets:
        print(f"look at what was corrected: {last.folder / 'corrected'}/")
    again = f"train_ucf101.py {flags_of(settings, last.number)} --force"
    print(
        f"corrected: {many(len(form['videos']), 'video')}; {last.annotations} has the new "
        "labels from now on. What was chosen stays chosen. Weights trained before say so; train "
        f"again to use the labels now: {again}"
    )
