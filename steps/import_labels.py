"""--import: a run that begins with labels that were there before it, from CVAT, Label Studio,
COCO, MOT or YOLO. Only what a person drew counts as a label.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from claus.annotators import coco, cvat, cvat_video, label_studio, mot, yolo
from claus.annotators.answers import merge_answers
from claus.annotators.contact_sheet import write_sheets
from claus.annotators.form import request_form, write_form
from claus.annotators.found import Found
from claus.annotators.limits import head_of
from claus.annotators.mend import Notes, answered_part, fit
from claus.annotators.pictures import VideoNames
from claus.annotators.request_frames import write_frames
from claus.artifacts.changes import add_change
from claus.artifacts.cycle import Cycle
from claus.artifacts.ledger import paid_for, write_ledger
from claus.datasets import table
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.flags.selection import SelectSettings
from claus.steps.intake import several_actions, write_problems
from claus.steps.run_state import data_of, finder, flags_of, kind_of
from claus.utils.runtime import UserError
from claus.utils.words import many


def import_labels(
    settings: SelectSettings, cycle: Cycle, pool: Annotations, failed: dict[str, str]
) -> int:
    """Label cycle 0 of a run with what the files say -> exit status. pool: the videos below
    --data, without labels. failed: those that could not be read.
    """
    source, kind = settings.source, kind_of(settings.source, cycle)
    lengths = {video.source: video.file_frames for video in pool.videos.values()}
    found = Found(VideoNames(lengths), settings.exchange.numbered_from)
    find_video = finder(settings, cycle)
    for path in map(Path, settings.exchange.imported):
        read_labels(path, found, kind, find_video)
    if source.classes is None:
        if not found.classes:
            raise UserError("the labels name no class: give --classes")
        pool = replace(pool, dataset="own", classes=tuple(found.classes))
        annotation_file.save(pool, cycle.run.pool)
    request, answers = forms_of(found, pool, cycle, kind)
    form, notes = fit(request, answers, pool)
    notes.add(Notes(found.problems, found.warnings))
    told = write_problems(cycle, notes)
    part = answered_part(form)
    if not part["videos"]:
        print(told)
        raise UserError(
            f"no label of {', '.join(map(str, settings.exchange.imported))} fits a video below "
            f"{source.data}; see {cycle.problems}"
        )
    labels = merge_answers(pool, part)
    write_form(cycle.answers, part)
    add_change(
        cycle.run,
        {
            "change": "imported",
            "cycle": 0,
            "from": ", ".join(map(str, settings.exchange.imported)),
            "free": paid_for(labels).tolist(),
        },
    )
    annotation_file.save(labels, cycle.annotations)
    picks = [
        {"video": entry["video"], "frames": [frame["frame"] for frame in entry["frames"]]}
        for entry in part["videos"]
    ]
    write_frames(picks, cycle.frames, find_video, pool.videos, cycle.run.cache)
    sheets = write_sheets(part, cycle.frames, cycle.sheets)
    row = write_ledger(cycle.run)[-1]
    for line in (
        told,
        several_actions(part),
        f"look at what was taken in: {sheets[0].parent}/",
    ):
        if line:
            print(line)
    print(
        f"imported: {many(row['videos'], 'video')}, {many(row['frames'], 'frame')}, "
        f"{many(row['boxes'], 'actor')} of "
        f"classes {', '.join(labels.classes)}; {many(len(labels.videos), 'video')} in the pool"
        + (f", {len(failed)} could not be read" if failed else "")
    )
    training = " ".join(table.training_script(source.dataset))
    print(
        f"wrote {cycle.annotations}; next: {training} {flags_of(settings, 0)}{data_of(source)}"
    )
    return 0


def read_labels(path: Path, found: Found, kind: str, find_video) -> None:
    """Add the labels of a file, or of a folder of YOLO, by its content; UserError where it is
    none of the formats.
    """
    if path.is_dir():
        yolo.read_labels(path, found, kind)
        return
    head = head_of(path)
    if label_studio.recognizes(head):

        def constant(name):
            from claus.datasets.video.times import read_times

            ticks = read_times(find_video(name)).ticks
            return len(set(np.diff(ticks).tolist())) <= 1

        label_studio.read_labels(path, found, kind, constant)
    elif cvat.recognizes(head):
        cvat_video.read_labels(path, found, kind)
    elif coco.recognizes(head, path):
        coco.read_labels(path, found, kind)
    elif mot.recognizes(head, path):
        mot.read_labels(path, found, kind)
    else:
        raise UserError(
            f"{path}: none of CVAT (XML, zip), Label Studio and COCO (JSON), MOT (txt) and "
            "YOLO (a folder)"
        )


def forms_of(found: Found, pool: Annotations, cycle: Cycle, kind: str) -> tuple[dict, dict]:
    """(a request for exactly the frames that have labels, the same with the labels in it)."""
    entries = {}
    for video in pool.videos.values():
        entries.setdefault(video.source, []).append(video)
    filled = {}
    for (source, number), actors in sorted(found.actors.items()):
        video = next(
            (v for v in entries[source] if v.first <= number < v.first + v.frames), None
        )
        if video is None:
            found.warnings.append((source, f"frame {number} is in no segment of the pool"))
            continue
        size = found.sizes.get((source, number))
        if size is not None and tuple(size) != (video.height, video.width):
            found.problems.append(
                (source, f"frame {number}: its picture has {size[1]}x{size[0]} pixels, the video "
                 f"{video.width}x{video.height}: were pictures resized?")
            )  # fmt: skip
            continue
        made = [_in_pixels(actor, video) for actor in actors]
        filled.setdefault(video.name, {})[number] = made
    picks = [
        {"video": n, "frames": list(frames), "reason": "imported"}
        for n, frames in filled.items()
    ]
    request = request_form(pool, picks, cycle.run.name, 0, kind)
    answers = {**request, "videos": []}
    for entry in request["videos"]:
        actors = filled[entry["video"]]
        frames = [{"frame": f["frame"], "actors": actors[f["frame"]]} for f in entry["frames"]]
        label = found.video_classes.get(pool.videos[entry["video"]].source)
        if len(pool.classes) == 1:  # a MOT file may name none
            label = pool.classes[0]
        answers["videos"].append({"video": entry["video"], "class": label, "frames": frames})
    return request, answers


def _in_pixels(actor, video):
    """An actor whose box is in pixels."""
    actor = dict(actor)
    if "shares" in actor:
        x, y, w, h = actor.pop("shares")
        sides = x * video.width, y * video.height, w * video.width, h * video.height
        actor["box"] = [round(side, 4) for side in sides]
    return actor
