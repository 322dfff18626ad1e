"""What every script is run with in the campaign of kills, full disks and two at once: small
data sets, the command lines, and the runs that they need.
"""

import contextlib
import http.client
import io
import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAIN = "--model small --pretrained none --device cpu --epochs 2 --steps 2 --bn-batches 1"
TRAIN = [*TRAIN.split(), "--batch-size", "2"]
WORDS = " ".join(TRAIN)
CLASSES = "Bounce,Circle,Pulse,Rock,Spin,Sway"
WHO = "ann"  # labels in the browser
PATIENCE = 30.0  # seconds until a server must answer


@dataclass(frozen=True)
class Work:
    """A command of a script. flags: of (run folder, data folder) -> words. needs: the
    commands to be run before. again: flags that the second try has more. prepare: makes, of
    (run folder, data folder), what people would. client: talks with it, of (run folder), in
    a thread of its process; ends: its exit status.
    """

    name: str
    script: str
    flags: Callable
    needs: tuple = ()
    again: tuple = ()
    prepare: Callable | None = None
    client: Callable | None = None
    ends: int = 0


# -------------------------------------------------------------------------------- the data


def make_data(folder):
    """Six training and six test videos; beside them the same and one more, and a set in the
    layout of J-HMDB.
    """
    from claus.datasets import toy

    folder = Path(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        toy.make(folder, seed=3, train=6, test=6)
    more = folder.parent / "more"
    shutil.copytree(folder, more)
    first = sorted(more.rglob("*.avi"))[0]
    shutil.copy(first, first.with_name("v_Later_g99_c01.avi"))
    with open(first.with_name("v_Later_g99_c01.avi"), "ab") as file:
        file.write(b"1")  # another file
    make_clips(folder.parent / "jhmdb")
    return folder


def make_clips(root):
    """Four training and two test clips with masks."""
    from jhmdb_maker import square_masks, write_set

    from claus.datasets.sprites import write_video

    clips, rng = {}, np.random.default_rng(5)
    for number in range(6):
        name = f"{('catch', 'wave')[number % 2]}/clip_{number}"
        masks = square_masks(10, 36, 48, (number, 2 + 2 * number), 14)
        clips[name] = masks, "train" if number < 4 else "test"
        ground = rng.integers(0, 90, (36, 48, 3))
        path = root / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, np.where(masks[..., None], 200, ground).astype(np.uint8))
    write_set(root, clips)


# ---------------------------------------------------------------------- the simulated cycles


def _common(run, data, cycle=0):
    return ["--run", str(run), "--cycle", str(cycle), "--data", str(data)]


def _truth(data):
    return ["--oracle", str(data / "pyannot.pkl"), "--test-list", str(data / "testlist01.txt")]


def _budget(run, data, cycle=0):
    budget = ["--videos-count", "3", "--frames-count", "8"]
    return [*_common(run, data, cycle), *_truth(data), *budget]


def _clips(run, data, cycle=0):
    return [*_common(run, data.parent / "jhmdb", cycle), "--dataset", "jhmdb"]


SELECT = Work("claus_select.py, cycle 0", "claus_select", _budget)
TRAINING = Work(
    "train_ucf101.py",
    "train_ucf101",
    lambda run, data: [*_common(run, data), *TRAIN],
    (SELECT,),
    ("--resume",),
)
EXTRACT = Work(
    "cluster_extract.py",
    "cluster_extract",
    lambda run, data: [*_common(run, data), "--device", "cpu", "--passes", "2"],
    (TRAINING,),
)
NEXT = Work(
    "claus_select.py, cycle 1",
    "claus_select",
    lambda run, data: _budget(run, data, 1),
    (EXTRACT,),
)
EVALUATE = Work(
    "evaluate.py",
    "evaluate",
    lambda run, data: [
        *_common(run, data),
        *["--device", "cpu", "--ground-truth", str(data / "pyannot.pkl")],
        *["--test-list", str(data / "testlist01.txt")],
    ],
    (TRAINING,),
)
SEMI = Work(
    "train_semi.py",
    "train_semi",
    lambda run, data: [*_common(run, data), "--method", "mean-teacher", *TRAIN],
    (SELECT,),
    ("--resume",),
)
CLIPS = Work(
    "claus_select.py, masks",
    "claus_select",
    lambda run, data: [
        *_clips(run, data),
        *["--oracle", str(data.parent / "jhmdb")],
        *["--videos-count", "2", "--frames-count", "4"],
    ],
)
MASKS = Work(
    "train_jhmdb.py",
    "train_jhmdb",
    lambda run, data: [*_common(run, data.parent / "jhmdb"), *TRAIN],
    (CLIPS,),
    ("--resume",),
)
CYCLES = Work(
    "run_cycles.py",
    "run_cycles",
    lambda run, data: [
        *["--run", str(run), "--data", str(data), *_truth(data)],
        *["--cycles", "2", "--device", "cpu", "--train", WORDS],
        *["--extract=--passes 2", "--select", "--videos-count 3 --frames-count 8"],
    ],
)
DETECT = Work(
    "detect.py",
    "detect",
    lambda run, data: [
        *map(str, sorted(data.rglob("*.avi"))[:2]),
        *["--weights", str(run / "cycle0" / "detector.pt"), "--out", str(run / "found")],
        *["--format", "csv,coco", "--device", "cpu"],
    ],
    (TRAINING,),
)
EXPORT = Work(
    "export.py",
    "export",
    lambda run, data: [
        *["--weights", str(run / "cycle0" / "detector.pt"), "--pt2", str(run / "mine.pt2")],
    ],
    (TRAINING,),
)
REPORT = Work(
    "report.py",
    "report",
    lambda run, data: [str(run), "--data", str(data), "--export", str(run / "exported")],
    (CYCLES,),
)
EXPERIMENTS = Work(
    "experiments/run.py",
    "claus.experiments.run",
    lambda run, data: [
        *["spread", "--values", "2x2", "--seeds", "0", "--files", str(run / "cells")],
        *["--data", str(data), *_truth(data), "--model", "small", "--steps", "2"],
        *["--epochs", "1", "--device", "cpu"],
        *["--train", "--pretrained none --bn-batches 1 --batch-size 2"],
    ],
)

# ----------------------------------------------------------------------------- with people


def people(change=0):
    """A prepare function: the request of the last cycle, answered with boxes."""

    def answer(run, data):
        from claus.annotators.form import read_form, write_form

        form = read_form(sorted(run.glob("cycle*/request.json"))[-1])
        for place, video in enumerate(form["videos"]):
            video["class"] = form["classes"][place % 2]
            for number, frame in enumerate(video["frames"]):
                box = [2 + number, 2 + change, 12, 14]
                frame["actors"] = [{"track": 1, "box": box}]
        write_form(run / ("corrected.json" if change else "answers.json"), form)

    return answer


def label(run):
    """Label all that is asked for in the browser's stead, then stop the server."""
    try:
        label_all(Page(run))
    except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
        print(error)
    os.kill(os.getpid(), signal.SIGINT)


def label_all(page):
    seen = page.ask("GET", f"/api/view?d=0&who={WHO}")
    stamp = {"who": WHO, "d": 0, "stamp": seen["stamp"]}
    for place, video in enumerate(seen["videos"]):
        if video.get("class") is None:
            page.act({**stamp, "do": "class", "video": place, "class": seen["classes"][0]})
    for number, item in enumerate(seen["items"]):
        if item["state"] == "open":
            actors = [{"track": 1, "box": [2, 2, 12, 14], "origin": "drawn"}]
            page.act(
                {**stamp, "do": "frame", "item": number, "state": "done", "actors": actors}
            )


class Page:
    """A client of label.py."""

    def __init__(self, run):
        self.place, ends = run / "label.json", time.monotonic() + PATIENCE
        while True:
            try:
                self.known = json.loads(self.place.read_text())
                self.ask("GET", f"/api/poll?d=0&who={WHO}")
                return
            except (OSError, KeyError, ValueError, http.client.HTTPException):
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)

    def ask(self, method, path, body=None):
        port = self.known["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        headers = {"Cookie": f"claus_{port}={self.known['key']}"}
        headers |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            raise ValueError(f"{answer.status}: {told}")
        return told

    def act(self, entry):
        self.ask("POST", "/api/act", json.dumps(entry))


ASK = Work(
    "claus_select.py, own videos",
    "claus_select",
    lambda run, data: [
        *_common(run, data),
        *["--videos-count", "2", "--frames-count", "3", "--classes", CLASSES],
    ],
)
ANSWERS = Work(
    "claus_select.py, answers",
    "claus_select",
    lambda run, data: [*_common(run, data), "--answers", str(run / "answers.json")],
    (ASK,),
    prepare=people(),
)
CORRECT = Work(
    "claus_select.py, corrected labels",
    "claus_select",
    lambda run, data: [*_common(run, data), "--correct", str(run / "corrected.json")],
    (ANSWERS,),
    prepare=people(change=3),
)
OWN_TRAINING = Work(
    "train_ucf101.py, labels of people",
    "train_ucf101",
    TRAINING.flags,
    (ANSWERS,),
    ("--resume",),
)
OWN_EXTRACT = Work(
    "cluster_extract.py, labels of people", "cluster_extract", EXTRACT.flags, (OWN_TRAINING,)
)
ADD = Work(
    "claus_select.py, new videos",
    "claus_select",
    lambda run, data: [
        *_common(run, data.parent / "more", 1),
        *["--videos-count", "1", "--frames-count", "2", "--add-videos"],
    ],
    (OWN_EXTRACT,),
)
LABEL = Work(
    "label.py",
    "label",
    lambda run, data: [
        *["--run", str(run), "--data", str(data), "--no-browser", "--who", WHO],
    ],
    (ASK,),
    client=label,
    ends=130,
)
BEGIN = Work(
    "run_cycles.py, people, first call",
    "run_cycles",
    lambda run, data: [
        *["--run", str(run), "--data", str(data), "--classes", CLASSES, "--device", "cpu"],
        *["--videos", "2", "--frames", "4", "--train", WORDS, "--extract=--passes 2"],
        *["--model", "small"],
    ],
)
PEOPLE = Work(
    "run_cycles.py, people",
    "run_cycles",
    lambda run, data: [
        "--run",
        str(run),
        "--device",
        "cpu",
        "--answers",
        str(run / "answers.json"),
    ],
    (BEGIN,),
    prepare=people(),
)

FIRST = [SELECT, ASK, CLIPS, ANSWERS, CORRECT, ADD, NEXT]
WORKS = [*FIRST, TRAINING, MASKS, SEMI, EXTRACT, EVALUATE, DETECT, LABEL, BEGIN, PEOPLE]
WORKS += [CYCLES, REPORT, EXPORT, EXPERIMENTS]
# this many times fewer places
SLOW = {CYCLES.name: 3, REPORT.name: 2, EXPORT.name: 4, EXPERIMENTS.name: 4}
# at once on a run folder: those of a chain with each other (and themselves), and the first
# two with strangers; what is slow with those that touch the same files
ORACLE = [SELECT, TRAINING, SEMI, EXTRACT, NEXT, EVALUATE, DETECT, CYCLES, REPORT]
OWN = [ASK, ANSWERS, CORRECT, OWN_TRAINING, OWN_EXTRACT, ADD, LABEL, BEGIN, PEOPLE]
CHAINS = [ORACLE, OWN, [CLIPS, MASKS]]
STRANGERS = [SELECT, TRAINING, EXTRACT, EVALUATE], [ANSWERS, CORRECT, LABEL, BEGIN]
EXPORTED = [(TRAINING, EXPORT), (DETECT, EXPORT), (EXPORT, EXPORT)]


def paired():
    """[(work, work)] that are tried at once."""
    found = []
    for chain in CHAINS:
        found += itertools.combinations_with_replacement(chain, 2)
    return [*found, *itertools.product(*STRANGERS), *EXPORTED]


# real kills of those that train or score where all operations are asked for; every signal at
# every operation of the quickest, signals in turn at those of the others
FEW = {CYCLES.name: 12, PEOPLE.name: 12, REPORT.name: 9, EXPORT.name: 3, EXPERIMENTS.name: 3}
FEW |= {work.name: 18 for work in (MASKS, SEMI, EXTRACT, EVALUATE, DETECT)}
QUICKEST = [SELECT, ASK, LABEL]


def fewer(work, places):
    """How many operations of a work to try, of `places` (None: all)."""
    return places and max(places // SLOW.get(work.name, 1), 1)


def kills_of(work, signals, places):
    """(groups of signals, at how many operations): each operation takes the next group."""
    if places or work not in QUICKEST:
        return [[one] for one in signals], fewer(work, places) or FEW.get(work.name)
    return [signals], None
