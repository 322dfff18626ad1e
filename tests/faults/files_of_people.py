"""Further files that scripts read: what people say (the labeling page, annotation tools), what
happens to a run beside its cycles, detections, and the state that a training resumes from.
"""

import contextlib
import copy
import functools
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import mutate
from .files import Kind, of_checkpoint, plain_video, small_labels

SIZES = {"A/a": (12, 16), "B/ü": (12, 16), "A/d": (12, 16)}
QUIET = contextlib.redirect_stdout


def small_request(kind="boxes"):
    """A request for frames of three of the six videos."""
    from claus.annotators.form import request_form

    names = ["B/ü"] if kind == "masks" else ["A/a", "A/d"]
    picks = [{"video": name, "frames": [0, 4]} for name in names]
    return request_form(small_labels(), picks, "r", 1, kind)


def answered(kind="boxes"):
    """The same, filled in."""
    from claus.datasets.labels.masks import encode_rle

    form = copy.deepcopy(small_request(kind))
    mask = np.zeros((12, 16), bool)
    mask[2:6, 3:9] = True
    shape = {"mask": encode_rle(mask)} if kind == "masks" else {"box": [1, 2, 6, 5]}
    for entry in form["videos"]:
        entry["class"] = entry["class"] or "A"
        for frame in entry["frames"]:
            frame["actors"] = [{"track": 1, **shape}]
    return form


def a_run(path, name):
    """A Run of its own with one file of it."""
    from claus.artifacts.cycle import Run

    run = Run(Path(path).parent / "r")
    target = run.folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return run


# ------------------------------------------------------------------------------ the page


def make_journal(folder, kind="boxes"):
    from claus.annotators.journal import Journal

    head = {"kind": "answers", "run": "r", "cycle": 1, "who": "ann"}
    journal = Journal(Path(folder) / "journal", head)
    for entry in answered(kind)["videos"]:
        name = entry["video"]
        journal.append({"do": "class", "video": name, "class": entry["class"]})
        for frame in entry["frames"]:
            actor = {"track": 1, "origin": "drawn"}
            if kind == "masks":
                actor["polygons"] = [[[3, 2], [9, 2.5], [9, 6], [3, 6]]]
            else:
                actor["box"] = frame["actors"][0]["box"]
            journal.append(
                {
                    "do": "frame",
                    "video": name,
                    "frame": frame["frame"],
                    "size": [12, 16],
                    "state": "done",
                    "actors": [actor],
                    "seconds": 4.5,
                }
            )
    parts = [{"first": 0, "end": 3, "class": "A"}]
    journal.append({"do": "segments", "video": "A/a", "parts": parts})
    return journal.path


def read_journal(path, kind="boxes"):
    """As label.py shows it, and claus_select.py --answers takes it."""
    from claus.annotators.page.desk import Desk, segments_text
    from claus.annotators.readers import read_answers
    from claus.artifacts.ledger import Prices
    from claus.steps.intake import intake_of

    folder = Path(path).parent / "desk"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / "ann.jsonl")
    request, before = small_request(kind), small_labels()
    desk = Desk("answers", request, before, folder, 0.5, Prices())
    view, polled = desk.view("eve"), desk.poll("ann")
    json.dumps([view, polled], allow_nan=False).encode()
    parts = segments_text(desk.all_segments())
    form, notes = read_answers([path], request, before)
    return [view["items"], polled["rows"], parts, form, intake_of(form), str(notes)]


def make_next(folder):
    from claus.artifacts.cycle import Run
    from claus.artifacts.next_state import NextState

    NextState(Run(Path(folder))).say("label", 1, "train", "a line", 0.25)
    return Path(folder) / "next.json"


def read_next(path):
    from claus.annotators.page import machine

    told = machine.status(a_run(path, "next.json"))
    told.pop("age")
    json.dumps(told, allow_nan=False).encode()
    return refusal(told["message"], "next.json") or told


def refusal(text, name):
    """What a page shows instead of an error: the line itself, as UserError."""
    from claus.utils.runtime import UserError

    if name in text:
        raise UserError(text)


def make_lock(folder):
    path = Path(folder) / "next.lock"
    about = {"pid": 12, "user": "ü", "host": "h", "since": "2026-01-01 10:00:00"}
    path.write_text(json.dumps(about))
    return path


def read_lock(path):
    from claus.artifacts.next_state import _who
    from claus.utils.runtime import UserError, shown

    with open(path, "a+", encoding="utf-8") as file:
        try:
            return shown(_who(file))
        except UnicodeDecodeError:
            raise UserError("another process") from None


def make_label_page(folder):
    path = Path(folder) / "label.json"
    about = {"key": "k" * 32, "port": 8123, "dataset": "ucf101", "data": "data/ü"}
    path.write_text(json.dumps(about))
    return path


def read_label_page(path):
    from claus.datasets import table
    from claus.steps import label

    known = label.known_before(a_run(path, "label.json"))
    f"{int(known.get('port') or 0):d}{known.get('key')}".encode()
    if "dataset" in known:
        table.data_folder(known["dataset"])
    return known


def make_review(folder):
    from claus.artifacts.cycle import Cycle
    from claus.steps.second_look import write_review

    cycle = Cycle.of(str(folder) + "/r", 0)
    cycle.folder.mkdir(parents=True)
    seen = {"A/a": {2: [], 5: [{"box": [0, 0, 3, 3], "class": "B", "score": 0.5}]}}
    write_review(cycle, small_labels(), seen)
    return cycle.review


def read_review(path):
    from claus.artifacts.cycle import Run
    from claus.datasets.labels import annotations
    from claus.steps.label import look_desk

    run = Run(Path(path).parent / "look")
    cycle = run.cycle(0)
    if not cycle.annotations.exists():
        cycle.folder.mkdir(parents=True)
        boxes = small_labels()
        boxes.videos.pop("B/ü")
        annotations.save(boxes, cycle.annotations)
    shutil.copyfile(path, cycle.review)
    desk = look_desk(run)
    if desk is None:
        return None
    view = desk.view("eve")
    json.dumps(view, allow_nan=False).encode()
    return view


def make_curve(folder):
    path = Path(folder) / "curve.json"
    point = {"cycle": 0, "frames": 20, "score": 10.5, "low": 5.0, "high": 20.0}
    content = {
        "source": "test labels",
        "points": [point, {**point, "frames": 40}],
        "next": {"frames": 60, "low": 10.0, "high": 30.0},
        "choice": [],
        "message": "score 10.5",
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def read_curve(path):
    from claus.steps.label import read_curve

    told = read_curve(a_run(path, path.name))
    json.dumps(told, allow_nan=False).encode()
    return refusal(told["message"], path.name) or told


def make_page_results(folder):
    path = Path(folder) / "results.csv"
    path.write_text("cycle,frames,f-mAP@.5\n0,22,49.5\n1,44,\n2,66,51.0\n")
    return path


def make_intake(folder):
    from claus.steps.intake import intake_of

    path = Path(folder) / "intake.json"
    path.write_text(json.dumps({**intake_of(answered()), "problems": 2, "seconds": 4.5}))
    return path


def read_intake(path):
    from claus.artifacts.ledger import _more
    from claus.steps.intake import open_problems

    cycle = a_run(path, "cycle0/intake.json").cycle(0)
    return [open_problems(cycle) + 0, _more(cycle)]


def make_proposals(folder):
    from claus.datasets.labels.masks import encode_rle
    from claus.steps.proposals import save_predictions

    mask = np.ones((12, 16), bool)
    actor = {"box": [1, 1, 7, 9], "class": "A", "score": 0.25, "rle": encode_rle(mask)}
    found = {"A/a": {0: [actor], 4: []}, "A/d": {0: [actor, actor], 4: [actor]}}
    save_predictions(found, Path(folder) / "proposals.json")
    return Path(folder) / "proposals.json"


def read_proposals(path):
    """As the page, the tools' exports and the curve read it."""
    from claus.annotators import cvat
    from claus.annotators.page.desk import Desk
    from claus.steps.label import read_proposals
    from claus.steps.proposals import load_predictions

    run = a_run(path, "cycle0/proposals.json")
    proposals = read_proposals(run.cycle(1))
    desk = Desk("answers", small_request(), small_labels(), run.folder, proposals=proposals)
    view = desk.view("eve")
    json.dumps(view, allow_nan=False).encode()
    for kind in ("boxes", "masks"):
        form = small_request(kind)
        sizes = {entry["video"]: (12, 16) for entry in form["videos"]}
        cvat.write_tasks(form, run.folder, run.folder, sizes, proposals)
    found = load_predictions(run.cycle(0).proposals)
    return [view["items"], sorted(map(str, found.items()))]


# ------------------------------------------------------------------------- beside the cycles


def make_changes(folder):
    from claus.artifacts.changes import add_change, video_record
    from claus.artifacts.cycle import Run

    run, videos = Run(Path(folder)), small_labels().videos
    new = replace(videos["A/d"], name="A/e")
    part = replace(videos["B/c_f000010-000019"], name="B/d_f000010-000019")
    for change in (
        {"change": "start", "cycle": 0, "any_folder": False, "segment": None, "segments": None}
        | {"masks": False, "passed_over": ["A/x"]},
        {"change": "imported", "cycle": 0, "free": [1, 2, 2, 0], "from": "a.json"},
        {"change": "added", "cycle": 1, "videos": [video_record(new), video_record(part)]},
        {"change": "withdrawn", "cycle": 1, "videos": ["A/d"], "reason": "by --withdraw"}
        | {"paid": [0, 0, 0, 0]},
        {"change": "none", "cycle": 1, "videos": ["A/e"], "paid": [-1, -2, 0, 0]},
        {"change": "classes", "cycle": 1, "classes": ["C"]},
        {"change": "corrected", "cycle": 1, "frames": 2, "videos": ["A/a"]}
        | {"paid": [0, 1, -1, 0], "weights": ["0" * 16]},
    ):
        add_change(run, change)
    return run.changes


def read_changes(path):
    from claus.annotators.form import request_form
    from claus.artifacts import changes
    from claus.datasets.labels import annotations
    from claus.steps.grow import start_of

    run = a_run(path, "changes.jsonl")
    found = [changes.with_changes(small_labels(), run, cycle) for cycle in (0, 1)]
    annotations.save(found[1], run.folder / "annotations.pkl")
    again = annotations.load(run.folder / "annotations.pkl")
    picks = [{"video": name, "frames": [0]} for name in again.videos]
    form = request_form(again, picks, "r", 1) if "B/ü" not in again.videos else None
    said = [changes.in_words(run, cycle) for cycle in (0, 1)]
    counts = [changes.counts_of(run, key, 1).tolist() for key in ("paid", "free")]
    late = changes.corrected_since(run.cycle(1).detector, "0" * 16)
    start = start_of(run.cycle(1))
    "".join(said + [str(late)]).encode()
    return [
        [[one.classes, [plain_video(v) for v in one.videos.values()]] for one in found],
        [form, said, counts, late is None, start, sorted(changes.withdrawn(run))],
    ]


def make_toy(folder):
    from claus.datasets import toy

    with QUIET(io.StringIO()):
        toy.make(Path(folder) / "toy", seed=0, train=6, test=6)
    return Path(folder) / "toy" / "toy.json"


def read_toy(path):
    from claus.datasets import toy

    with QUIET(io.StringIO()):
        toy.make(Path(path).parent, seed=0, train=6, test=6)
    return "there"


def make_silhouettes(folder):
    from claus.experiments.silhouettes.make import write_about

    path = Path(folder) / "silhouettes.json"
    write_about(path, {"seed": 0}, {"a/b": {"domain": 2, "cover": 0.25}})
    return path


def read_silhouettes(path):
    from claus.experiments.silhouettes.make import read_finished

    return read_finished(path, {"seed": 0})


def make_segments(folder):
    path = Path(folder) / "segments.csv"
    path.write_text('video,start,end\nA/a,0:10,0:20.5\n"B/b",300f,420f\n# x\nA/a,30s,1:02:03\n')
    return path


def read_segments(path):
    from claus.datasets import segments

    cut = segments.read_cut(None, str(path))
    rows = segments.rows_by_video(cut, ["A/a", "B/b"])
    return {name: list(map(str, found)) for name, found in rows.items()}


# ------------------------------------------------------------------------- annotation tools


def make_tool(tool, kind, folder):
    """A form's answers as a tool exports them."""
    from claus.annotators import cvat, label_studio

    module = {"cvat": cvat, "label_studio": label_studio}[tool]
    form = answered(kind)
    sizes = {entry["video"]: (12, 16) for entry in form["videos"]}
    return Path(module.write_tasks(form, Path(folder), Path(folder) / "frames", sizes)[0])


def read_tool(kind, path):
    from claus.annotators.answers import merge_answers
    from claus.annotators.mend import answered_part
    from claus.annotators.readers import read_answers

    form, notes = read_answers([path], small_request(kind), small_labels())
    merged = merge_answers(small_labels(), answered_part(form))
    return [form, str(notes), [plain_video(video) for video in merged.videos.values()]]


def make_given(tool, folder):
    """Labels that were there already, as a tool has them."""
    from claus.annotators import coco, cvat_video, mot

    module = {"coco": coco, "mot": mot, "cvat_video": cvat_video}[tool]
    form = answered()
    if tool != "coco":
        form["videos"] = form["videos"][:1]
    sizes = {entry["video"]: (12, 16) for entry in form["videos"]}
    return Path(module.write_labels(form, Path(folder), sizes)[-1])


def read_given(path):
    """As claus_select.py --import."""
    from claus.annotators.answers import merge_answers
    from claus.annotators.found import Found
    from claus.annotators.mend import answered_part, fit
    from claus.annotators.pictures import VideoNames
    from claus.artifacts.cycle import Cycle
    from claus.datasets.labels.annotations import Annotations, Video
    from claus.steps import import_labels

    videos = {name: Video(name, 20, 12, 16) for name in ("A/a", "A/d", "a")}
    pool = Annotations("own", ("A", "B"), videos)
    found = Found(VideoNames({name: 20 for name in videos}))
    import_labels.read_labels(Path(path), found, "boxes", None)
    request, answers = import_labels.forms_of(found, pool, Cycle.of("r", 0), "boxes")
    form, notes = fit(request, answers, pool)
    part = answered_part(form)
    merged = merge_answers(pool, part) if part["videos"] else pool
    problems = str([found.problems, found.warnings, str(notes)])
    return [form, problems, [plain_video(video) for video in merged.videos.values()]]


def of_text(content, rng):
    """Of XML or lines of text: a word replaced, a line left out or twice, or bytes."""
    import re

    if rng.random() < 0.3:
        return mutate.of_bytes(content, rng)
    text = content.decode()
    lines = text.splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    choice = int(rng.integers(8))
    if choice == 0:
        return "line left out", "".join(lines[:at] + lines[at + 1 :]).encode()
    if choice == 1:
        return "line twice", "".join(lines[:at] + [lines[at]] + lines[at:]).encode()
    words = list(re.finditer(r"[\w.]+", text))
    word = words[int(rng.integers(len(words)))]
    kinds = {
        "NaN": "nan",
        "Infinity": "inf",
        "1e999": "1e999",
        "2**63 and more": str(2**63),
        "integer of 4,300 digits": "9" * 4400,
        "negative": "-3",
        "wrong type": "x",
        "empty": "",
        "fraction": "0.37",
        "entity": "&x;",
        "NUL": "\0",
        "line break in text": "a\nb",
    }
    kind = list(kinds)[int(rng.integers(len(kinds)))]
    return kind, (text[: word.start()] + kinds[kind] + text[word.end() :]).encode()


# ------------------------------------------------------------------------------ detections


def make_detections(folder):
    from claus.datasets.labels.masks import encode_rle
    from claus.detection import files

    mask = encode_rle(np.ones((12, 16), bool))
    tube = {
        "tube": 1,
        "class": "A",
        "score": 0.5,
        "scores": {"A": 0.5, "B": 0.25},
        "frames": [1, 2],
        "times": [0.04, None],
        "boxes": [[0.5, 1, 9, 8.25], [1, 1, 9, 9]],
        "foreground": [0.5, 0.75],
        "frame_scores": [0.5, None],
        "masks": [mask, None],
    }
    content = {
        **{"format": files.FORMAT, "version": files.VERSION, "bytes": 5, "modified": 6},
        **{"source": "s", "settings": {"masks": True}, "video": "A/a", "file": "A/a.avi"},
        **{"claus": "0.2", "width": 16, "height": 12, "nominal_fps": 25.0},
        **{"classes": ["A", "B"], "tubes": [tube], "frames": 8, "clip_scores": [[0.5, 0.5]]},
    }
    path = Path(folder) / "a.json"
    path.write_text(json.dumps(content))
    return path


def read_detections(path):
    """As detect.py, which makes damaged ones again."""
    from claus.detection import files
    from claus.detection.formats import FORMATS

    whole = json.loads(make_detections(Path(path).parent / "..").read_text())
    finished = files.is_finished(path, {name: whole[name] for name in files.MADE_BY})
    content = files.read(path)
    said = []
    for kind in FORMATS:
        target = Path(path).with_suffix(FORMATS[kind].suffix)
        FORMATS[kind].write(content, target)
        said.append(target.read_text(encoding="utf-8"))
    return [finished, content, said]


# ------------------------------------------------------------------------------ training.pt


@functools.cache
def training_of(folder, model="small"):
    """(settings, Videos, Cycle) of a small training that was stopped, as train.py has them."""
    import claus_select
    import train_ucf101
    from claus.artifacts.cycle import Cycle
    from claus.steps import train
    from tests.faults import tiny, works

    tiny.add()
    data = works.make_data(Path(folder) / "data")
    run = Path(folder) / "run"
    with QUIET(io.StringIO()):
        claus_select.main(works.SELECT.flags(run, data))
        flags = [*works.TRAINING.flags(run, data), "--model", model, "--resume"]
        settings = train_ucf101.parse_args(flags)
        cycle = Cycle.of(run, 0)
        found = train.read_labels(settings, cycle)
        settings = train.with_crop(settings, found)
        return settings, train.labeled_videos(settings, found, cycle), cycle


def trainer_of(settings, videos, cycle):
    from claus.training import Claus, Trainer

    with QUIET(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return Trainer(settings, videos, cycle, Claus(settings))


def make_training(folder, model="small"):
    from claus.artifacts import checkpoint

    settings, videos, cycle = training_of(str(folder), model)
    trainer = trainer_of(settings, videos, cycle)
    with QUIET(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.run_epoch(0, None)
    trainer.best, trainer.best_score = trainer.snapshot(), 0.25
    checkpoint.save(trainer.state_dict(1), Path(folder) / "training.pt")
    return Path(folder) / "training.pt"


def read_training(path, model="small"):
    import torch

    settings, videos, cycle = training_of(str(Path(path).parent), model)
    shutil.copyfile(path, cycle.training)
    trainer = trainer_of(settings, videos, cycle)
    if not trainer.epoch:
        raise AssertionError("it was not resumed")
    weights = [float(t.double().sum()) for t in trainer.detector.state_dict().values()]
    moments = [
        float(value.double().sum())
        for state in trainer.optimizer.state.values()
        for value in state.values()
    ]
    return [
        weights,
        moments,
        [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizer.param_groups],
        trainer.clusters.centers.tolist(),
        trainer.clusters.counts.tolist(),
        trainer.clusters.assignment,
        trainer.names,
        trainer.validation,
        [trainer.epoch, trainer.step, trainer.all_steps, trainer.best_score],
        trainer.history,
        trainer.failed,
        len(trainer.batches.sampler),
        torch.get_rng_state().sum().item(),
        str(trainer.best["about"]),
    ]


JSON_FILE, LINES = mutate.of_json_file, mutate.of_lines
KINDS = [
    Kind("journal.jsonl", make_journal, read_journal, LINES),
    Kind(
        "journal.jsonl of masks",
        lambda folder: make_journal(folder, "masks"),
        lambda path: read_journal(path, "masks"),
        LINES,
        share=0.5,
    ),
    Kind("changes.jsonl", make_changes, read_changes, LINES),
    Kind("next.json", make_next, read_next, JSON_FILE),
    Kind("next.lock.json", make_lock, read_lock, JSON_FILE),
    Kind("label.json", make_label_page, read_label_page, JSON_FILE),
    Kind("review.json", make_review, read_review, JSON_FILE),
    Kind("curve.json", make_curve, read_curve, JSON_FILE),
    Kind("results.csv of the page", make_page_results, read_curve, mutate.of_table),
    Kind("intake.json", make_intake, read_intake, JSON_FILE),
    Kind("proposals.json", make_proposals, read_proposals, JSON_FILE),
    Kind("toy.json", make_toy, read_toy, JSON_FILE),
    Kind("silhouettes.json", make_silhouettes, read_silhouettes, JSON_FILE),
    Kind("segments.csv", make_segments, read_segments, mutate.of_table),
    Kind("detections.json", make_detections, read_detections, JSON_FILE),
    Kind(
        "answers of Label Studio",
        functools.partial(make_tool, "label_studio", "boxes"),
        functools.partial(read_tool, "boxes"),
        JSON_FILE,
    ),
    Kind(
        "answers of CVAT",
        functools.partial(make_tool, "cvat", "boxes"),
        functools.partial(read_tool, "boxes"),
        of_text,
    ),
    Kind(
        "answers of CVAT in masks",
        functools.partial(make_tool, "cvat", "masks"),
        functools.partial(read_tool, "masks"),
        of_text,
        share=0.5,
    ),
    Kind("answers given in COCO", functools.partial(make_given, "coco"), read_given, JSON_FILE),
    Kind("answers given in MOT", functools.partial(make_given, "mot"), read_given, of_text),
    Kind(
        "answers given in CVAT for video",
        functools.partial(make_given, "cvat_video"),
        read_given,
        of_text,
    ),
    Kind("training.pt", make_training, read_training, of_checkpoint, share=0.03),
    Kind(
        "training.pt of few tensors",
        functools.partial(make_training, model="tiny"),
        functools.partial(read_training, model="tiny"),
        of_checkpoint,
    ),
]
