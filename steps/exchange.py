"""--export: what a cycle asks for, or its labels, in the form of another tool."""

from collections.abc import Mapping
from pathlib import Path

from claus.annotators import coco, cvat, cvat_video, label_studio, mot, yolo
from claus.annotators.form import read_form
from claus.annotators.people import complete
from claus.annotators.pictures import picture_names
from claus.annotators.proposals import read_proposals
from claus.annotators.request_frames import write_frames
from claus.artifacts.cycle import Cycle
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels.annotations import Annotations
from claus.flags.selection import SelectSettings
from claus.steps.correct import labels_form
from claus.steps.run_state import finder, flags_of, labels_before, load_labels, request_of
from claus.utils.runtime import UserError, check_writable, link_or_copy
from claus.utils.words import many

ROUND_TRIPS = {"label_studio": label_studio, "cvat": cvat}
LABELS_ONLY = {"cvat_video": cvat_video, "coco": coco, "mot": mot, "yolo": yolo}
HOW = {
    "label_studio": "paste config.xml into the labeling interface of a new project, import "
    "tasks.json; then export as JSON",
    "cvat": "make a task of the pictures with the raw labels of labels.json, upload "
    "annotations.xml as 'CVAT 1.1'; then export as 'CVAT for images 1.1'",
}


def export(settings: SelectSettings, cycle: Cycle) -> int:
    """Write one format into its folder -> exit status."""
    exchange = settings.exchange
    name, what = exchange.export, exchange.what
    what = what or ("labels" if cycle.annotations.exists() else "request")
    if what == "request" and name in LABELS_ONLY:
        raise UserError(
            f"--export {name} cannot ask for frames ({LABELS_ONLY[name].LOSES}): export the "
            "request as label_studio or cvat, or give --what labels"
        )
    form, labels = form_of(settings, cycle, what)
    sizes = {n: (v.height, v.width) for n, v in labels.videos.items()}
    folder = Path(exchange.to) if exchange.to else cycle.folder / f"export_{name}"
    check_writable(folder, clear=False)
    frames = pictures_of(settings, cycle, form, labels, what, folder)
    if name in ROUND_TRIPS:
        proposals = proposals_for(cycle) if what == "request" else {}
        paths = ROUND_TRIPS[name].write_tasks(form, folder, frames, sizes, proposals)
    else:
        paths = LABELS_ONLY[name].write_labels(form, folder, sizes)
        print(f"note: {LABELS_ONLY[name].LOSES}")
    if name != "label_studio":
        link_pictures(form, frames, folder / "images")
    count = sum(len(entry["frames"]) for entry in form["videos"])
    print(
        f"exported {many(count, 'frame')} of {many(len(form['videos']), 'video')}: {paths[0]}"
    )
    if name in HOW:
        print(f"next: {HOW[name]}")
        take = "answers" if what == "request" else "correct"
        print(f"  python claus_select.py {flags_of(settings, cycle.number)} --{take} EXPORT")
    return 0


def proposals_for(cycle: Cycle) -> dict:
    """What a detector sees on the frames that a cycle asks for: the one of the cycle before
    leaves it, in its own folder.
    """
    before = [cycle.before()] if cycle.number else []
    places = [place.proposals for place in (cycle, *before) if place.proposals.exists()]
    return read_proposals(places[0]) if places else {}


def form_of(settings: SelectSettings, cycle: Cycle, what: str) -> tuple[dict, Annotations]:
    """(the form to export, the labels whose videos it is of)."""
    if what == "labels":
        if not cycle.annotations.exists():
            raise UserError(
                f"{cycle.annotations} is missing: cycle {cycle.number} has no labels"
            )
        labels = load_labels(cycle.annotations, settings.source.dataset)
        return labels_form(labels, cycle), labels
    if not cycle.selection.exists():
        raise UserError(
            f"{cycle.selection} is missing, so nothing is asked for in cycle {cycle.number}: "
            "run this command without --export first"
        )
    before = labels_before(settings, cycle)
    form = request_of(settings.source, cycle, before, load_selection(cycle.selection))
    if cycle.answers.exists():
        form, _ = complete(read_form(cycle.answers), form)
    return form, before


def pictures_of(settings, cycle, form: Mapping, labels, what, folder) -> Path:
    """The folder with a picture of every frame of a form, as far as videos can be read."""
    frames = cycle.frames if what == "request" else folder / "frames"
    picks = [
        {"video": entry["video"], "frames": [frame["frame"] for frame in entry["frames"]]}
        for entry in form["videos"]
    ]
    failed = write_frames(
        picks, frames, finder(settings, cycle), labels.videos, cycle.run.cache
    )
    if failed:
        print(
            f"note: no pictures of {many(len(failed), 'video')} ({next(iter(failed.values()))}); "
            "with the right --data the same command writes them"
        )
    return frames


def link_pictures(form: Mapping, frames: Path, images: Path) -> None:
    """The pictures again, all in one folder, under names that are unique without theirs."""
    keys = [(entry["video"], f["frame"]) for entry in form["videos"] for f in entry["frames"]]
    for old in images.glob("*__frame_*.png"):  # of an earlier export
        old.unlink()
    for (video, number), name in picture_names(keys).items():
        picture = frames / video / f"frame_{number:05d}.png"
        if picture.exists():
            link_or_copy(picture, images / name)
