"""Every file that a script reads: a good one, how scripts read and use it, and how it is
mutated.

A reader takes a path and gives what scripts make of the file; it goes as far as the scripts
do with what they have read, so that a value that nobody checks shows where it is used.
"""

import contextlib
import csv
import functools
import io
import json
import lzma
import math
import os
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from . import mutate

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUN = GOLDEN / "run_0_1"


@dataclass(frozen=True)
class Kind:
    """A kind of file. make(folder) -> its path, whole; read(path) -> what scripts make of it;
    mutations(content, rng) -> (kind, bytes).

    sealed: the file holds a checksum of itself, so that any other content that is read
    without a word is wrong. Of others a changed number may be another number.
    """

    name: str
    make: Callable
    read: Callable
    mutations: Callable
    sealed: bool = False
    share: float = 1.0  # of the inputs of other kinds: slow readers get fewer


def _copied(source, folder):
    target = Path(folder) / Path(source).name
    shutil.copyfile(source, target)
    return target


def _golden(place):
    return functools.partial(_copied, RUN / place)


@functools.cache
def labels(cycle=0):
    from claus.datasets.labels import annotations

    return annotations.load(RUN / f"cycle{cycle}" / "annotations.pkl")


def small_labels():
    """Six videos: labeled with boxes and with masks, a segment, one without labels."""
    from claus.datasets.labels.annotations import Annotations, Tube, Video
    from claus.datasets.labels.segment import Segment

    masks = np.zeros((2, 12, 16), bool)
    masks[:, 2:5, 3:9] = True
    tubes = (
        Tube(0, 1, [2, 5], boxes=[[1, 1, 5, 6], [2, 2, 6, 7]]),
        Tube(0, 2, [5], boxes=[[0, 0, 16, 12]]),
    )
    videos = [
        Video("A/a", 20, 12, 16, 0, [2, 5, 7], tubes),
        Video("B/ü", 9, 12, 16, 1, [1, 3], (Tube(1, 1, [1, 3], masks=masks),)),
        Video("B/c_f000010-000019", 10, 12, 16, segment=Segment("B/c", 10, 30, (0.4, 0.8))),
        Video("A/d", 5, 12, 16),
    ]
    return Annotations("own", ("A", "B"), {video.name: video for video in videos})


# ------------------------------------------------------------------------ annotation files


def make_annotations(folder):
    from claus.datasets.labels import annotations

    annotations.save(small_labels(), Path(folder) / "annotations.pkl")
    return Path(folder) / "annotations.pkl"


def read_annotations(path):
    from claus.annotators.simulated import strip_labels
    from claus.artifacts.ledger import paid_for
    from claus.artifacts.pool_reader import pool_of_labels
    from claus.datasets.labels import annotations

    found = annotations.load(path)
    strip_labels(found)
    pool_of_labels(found, {}, "frames") if found.total_frames() < 10**7 else None
    for video in found.labeled():
        for tube in video.tubes:
            tube.masks is None or tube.masks[0].any()
    return [
        found.dataset,
        found.classes,
        paid_for(found).tolist(),
        [plain_video(video) for video in found.videos.values()],
    ]


def plain_video(video):
    tubes = [
        (
            t.label,
            t.track,
            t.frames.tolist(),
            None if t.boxes is None else t.boxes.tolist(),
            None if t.masks is None else t.masks.tolist(),
        )
        for t in video.tubes
    ]
    return [
        video.name,
        video.frames,
        video.height,
        video.width,
        video.label,
        video.labeled_frames.tolist(),
        tubes,
        str(video.segment),
        video.first,
    ]


def make_pyannot(folder):
    boxes = np.full((10, 4), 5, np.uint8)
    tube = {"sf": 0, "ef": 10, "label": 1, "boxes": boxes}
    truth = {
        "Sit/a": {"numf": 12, "label": 1, "annotations": [tube]},
        "Run/b": {"numf": 9, "label": 0, "annotations": [], "height": 40, "width": 50},
    }
    path = Path(folder) / "pyannot.pkl"
    path.write_bytes(pickle.dumps(truth, 2))
    return path


def read_pyannot(path):
    from claus.datasets import ucf101

    truth = ucf101.read_ground_truth(path)
    return [truth.classes, [plain_video(video) for video in truth.videos.values()]]


def make_list(folder):
    boxes = np.array([[1, 2, 3, 4]] * 6, np.int32)
    records = [
        ("A/a", [(0, 5, 0, boxes, np.array([1, 4])), (2, 7, 0, boxes, [], 0)]),
        ["B/b", []],
    ]
    path = Path(folder) / "list.pkl"
    path.write_bytes(pickle.dumps(records, 2))
    return path


def read_list(path):
    from claus.datasets.labels.annotations import naming
    from claus.datasets.labels.list_format import from_records
    from claus.semi.lists import read_records

    sizes = {"A/a": (20, 30, 40), "B/b": (5, 30, 40)}
    records = read_records(path)
    with naming(str(path)):
        found = from_records(records, ("A", "B"), sizes, "own")
    return [plain_video(video) for video in found.videos.values()]


# ------------------------------------------------------------------------------- pickles


def read_features(path):
    from claus.artifacts.cycle import Run
    from claus.artifacts.pool_reader import _latents, _places
    from claus.artifacts.scores import load_features

    assert Run
    found = load_features(path)
    _latents(found, _places(found.videos, list(reversed(found.videos))))
    return [
        found.source,
        found.videos,
        found.latents.tolist(),
        found.clusters.tolist(),
        found.centers.tolist(),
        sorted(found.failed.items()),
    ]


def read_uncertainty(path):
    from claus.artifacts.pool_reader import _frame_scores, _frames_in_order
    from claus.artifacts.scores import FRAME_SCORES, load_uncertainty
    from claus.artifacts.selection_report import settings_record
    from claus.selection.rules import RuleSettings

    found = load_uncertainty(path)
    frames = _frames_in_order(found.offsets, np.arange(len(found.videos))[::-1])
    for name in FRAME_SCORES:
        _frame_scores(found, name, frames)
    json.dumps(
        settings_record(RuleSettings("claus", "claus"), 1, 0, found.settings), allow_nan=False
    )
    values = [getattr(found, name).tolist() for name in ("paper", "authors", "area", "entropy")]
    return [
        found.source,
        found.videos,
        found.offsets.tolist(),
        sorted(found.settings.items()),
        values,
    ]


# --------------------------------------------------------------------------------- JSON


def read_selection(path):
    from claus.annotators.form import request_form
    from claus.artifacts.ledger import Prices
    from claus.artifacts.selection_file import load_selection
    from claus.artifacts.selection_report import request_picks

    report = load_selection(path)
    Prices(**report["prices"])
    asked, settings = report.get("asked", {}), report.get("settings", {})
    more = [
        asked.get("videos"),
        asked.get("frames"),
        settings.get("strategy"),
        settings.get("seed"),
    ]
    form = request_form(labels(), request_picks(report), report["run"], report["cycle"])
    json.dumps(form, allow_nan=False)
    return [report, form, more]


def read_answers(path):
    from claus.annotators.answers import check_answers, merge_answers
    from claus.annotators.form import read_form
    from claus.datasets.labels.annotations import naming

    request, answers = read_form(RUN / "cycle1" / "request.json"), read_form(path)
    with naming(str(path)):
        check_answers(request, answers, labels())
        merged = merge_answers(labels(), answers)
    return [plain_video(video) for video in merged.videos.values()]


def make_mask_answers(folder):
    """The answers of a form for masks."""
    from claus.annotators.form import request_form, write_form
    from claus.datasets.labels.masks import encode_rle

    form = request_form(small_labels(), [{"video": "B/ü", "frames": [5, 6]}], "r", 1, "masks")
    mask = np.zeros((12, 16), bool)
    mask[3:5, 4:8] = True
    for frame in form["videos"][0]["frames"]:
        frame["actors"] = [{"track": 1, "mask": encode_rle(mask)}]
    write_form(Path(folder) / "masks.json", form)
    return Path(folder) / "masks.json"


def read_mask_answers(path):
    from claus.annotators.answers import check_answers, merge_answers
    from claus.annotators.form import read_form, request_form
    from claus.datasets.labels.annotations import naming

    request = request_form(
        small_labels(), [{"video": "B/ü", "frames": [5, 6]}], "r", 1, "masks"
    )
    answers = read_form(path)
    with naming(str(path)):
        check_answers(request, answers, small_labels())
        merged = merge_answers(small_labels(), answers)
    return [plain_video(video) for video in merged.videos.values()]


def _as_cycle(path, needed):
    """A Cycle whose one file this is."""
    from claus.artifacts.cycle import Run

    cycle = Run(Path(path).parent / "as_run").cycle(0)
    cycle.folder.mkdir(parents=True, exist_ok=True)
    target = cycle.folder / needed
    target.unlink(missing_ok=True)
    shutil.copyfile(path, target)
    return cycle


def read_evaluation(path):
    from claus.artifacts.cycle_row import cycle_row
    from claus.artifacts.evaluation_file import load_evaluation
    from claus.experiments.table import more_of
    from claus.steps.evaluate import evaluated_already, print_kept

    cycle = _as_cycle(path, "evaluation.json")
    ledger = [
        {
            "cycle": 0,
            **dict.fromkeys(
                (
                    "total_videos",
                    "total_frames",
                    "total_boxes",
                    "percent_of_frames",
                    "total_cost",
                ),
                1,
            ),
        }
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        evaluated_already(cycle.evaluation, path)
        content = load_evaluation(cycle.evaluation)
        print_kept(cycle.evaluation)
    return [content, out.getvalue(), cycle_row(cycle, ledger), more_of(cycle.run.folder, 0)]


def make_seconds(folder):
    path = Path(folder) / "seconds.json"
    path.write_text(json.dumps({"select": 1.5, "train": 30, "evaluate": 7.25}) + "\n")
    return path


def read_seconds(path):
    from claus.artifacts.cycle_row import minutes_of
    from claus.experiments.runner import seconds_of
    from claus.steps.cycles import timed

    cycle = _as_cycle(path, "seconds.json")
    found = [minutes_of(cycle), seconds_of(cycle.run.folder)]
    assert timed
    return found


def make_run_json(folder):
    path = Path(folder) / "run.json"
    content = {
        "claus": "0.2.0",
        "run": "r",
        "files": "files",
        "dataset": "ucf101",
        "data": "data",
        "oracle": "pyannot.pkl",
        "test_list": "l.txt",
        "split": None,
        "seed": 0,
        "cycles": 3,
        "schedule": "1/5,2/5",
        "method": "claus",
        "strategy": None,
        "increment": None,
        "semi": None,
        "select": "",
        "train": "--model small --steps 3",
        "extract": "",
        "evaluate": "",
        "budget": None,
        "target": 40.5,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read_run_json(path):
    from claus.artifacts.cycle import Run
    from claus.artifacts.run_settings import load_settings
    from claus.experiments.report.gather import read_run
    from claus.steps.cycles import check_same_settings

    assert check_same_settings
    folder = Path(path).parent
    settings = load_settings(Run(folder)) if path.name == "run.json" else None
    (settings.get("schedule") or "").startswith("x,")
    (folder / "results.csv").write_text(
        "cycle,videos,frames,boxes,% of frames,cost,f-mAP@.5,minutes\n0,1,2,3,4.5,6,7.8,9\n"
    )
    rows = read_run(folder)
    return [settings, [{**row, "run": "", "place": ""} for row in rows]]


def make_start_json(folder):
    path = Path(folder) / "start.json"
    files = ["annotations.pkl", "detector.pt"]
    other = Path(folder) / "other"
    for run in (Path(folder), other):
        (run / "cycle0").mkdir(parents=True, exist_ok=True)
        for name in files:
            (run / "cycle0" / name).write_text(name)
    from claus.artifacts.parts import fingerprint

    prints = {name: fingerprint(other / "cycle0" / name) for name in files}
    record = {
        "claus": "0.2.0",
        "from": str(other.resolve()),
        "fingerprints": prints,
        "files": files,
    }
    path.write_text(json.dumps(record, indent=1))
    return path


def read_start_json(path):
    from claus.artifacts.cycle import Run
    from claus.artifacts.shared_start import take_start

    folder = Path(path).parent
    take_start(Run(folder), Run(folder / "other"), {}, None, {})
    return sorted(p.relative_to(folder).as_posix() for p in folder.glob("cycle0/*"))


def make_cell(folder):
    path = Path(folder) / "cell.json"
    content = {
        "settings": {"dataset": "ucf101", "schedule": "1/5,2/5", "seed": 0},
        "commands": ["python run_cycles.py --run x --oracle y"],
        "began": "2026-01-01 10:00:00",
        "machine": {"cpu": "x", "torch": "2"},
        "goes_on_from": None,
        "finished": "2026-01-01 11:00:00",
        "seconds": 3600.5,
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def read_cell(path):
    from claus.experiments import runner

    folder = Path(path).parent
    task = runner.Task(folder, [["python", "x"]], {"schedule": "1/5"}, needs=folder, link=True)
    record = task.record()
    assert task.finished in (True, False)
    runner.estimate(
        [task, runner.Task(folder / "none", [], {"schedule": "1/5"}, folder, True)], 1
    )
    task.write_record(finished=None)
    " ".join(record.get("commands", [])).split()
    again = task.record()
    for key in ("machine", "commands", "settings"):
        again.pop(key, None)
    return [record, again]


# -------------------------------------------------------------------------------- tables


def make_results(folder):
    path = Path(folder) / "results.csv"
    path.write_text(
        "cycle,videos,frames,boxes,% of frames,cost,f-mAP@.5,v-mAP@.5,minutes\n"
        "0,6,22,19,0.4462,28,49.5,40.0,1.5\n1,12,44,49,0.8925,56,49.3,36.7,\n"
    )
    return path


def read_results(path):
    from claus.experiments.report.gather import read_run

    (Path(path).parent / "run.json").unlink(missing_ok=True)
    return [{**row, "run": "", "place": ""} for row in read_run(Path(path).parent)]


def make_experiments(folder):
    from claus.experiments import table

    path = Path(folder) / "experiments.csv"
    what = dict.fromkeys(table.WHAT, "x")
    rows = [
        what | {"cycle": str(k), "seed": "0", "capsule f-mAP@.5": "40.5", "run": "r"}
        for k in (0, 1)
    ]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_experiments(path):
    from claus.experiments.report.gather import (
        budgets_of,
        experiments_of,
        metrics_of,
        read_table,
    )

    rows = read_table(path)
    for variants in experiments_of(rows).values():
        budgets_of(variants)
    metrics_of(rows)
    return rows


# ------------------------------------------------------------------------------ JSON lines


def make_counts(folder):
    path, videos = Path(folder) / "frame_counts.jsonl", []
    for name in ("a", "b", "c"):
        video = Path(folder) / f"{name}.avi"
        video.write_bytes(name.encode())
        os.utime(video, ns=(10**18, 10**18))
        videos.append([f"A/{name}", 1, 10**18, 20, 30, 40])
    path.write_text("".join(json.dumps(row) + "\n" for row in videos))
    return path


def read_counts(path):
    from claus.datasets import own_videos
    from claus.datasets.labels.annotations import Video
    from claus.datasets.video import reader

    probe, reader.probe = reader.probe, lambda path: (20, 30, 40)
    try:
        folder = Path(path).parent
        names = ["A/a", "A/b", "A/c"]
        copy = Path(path).with_suffix(".copy")
        shutil.copyfile(path, copy)
        sizes, failed = own_videos.count_frames(
            names, lambda name: folder / f"{name[2:]}.avi", copy
        )
        return [
            sorted(failed),
            [plain_video(Video(name, *size)) for name, size in sizes.items()],
        ]
    finally:
        reader.probe = probe


def make_identities(folder):
    from claus.artifacts.identities import IdentifiedVideos
    from claus.datasets.sprites import write_video

    made = Path(folder) / "a.avi"
    write_video(made, np.zeros((3, 16, 16, 3), np.uint8))
    IdentifiedVideos(lambda name: made, Path(folder) / "identities.jsonl")("A/a")
    return Path(folder) / "identities.jsonl"


def read_identities(path):
    from claus.artifacts.identities import IdentifiedVideos

    copy = Path(path).with_suffix(".copy")
    shutil.copyfile(path, copy)
    with contextlib.redirect_stderr(io.StringIO()):
        return str(IdentifiedVideos(lambda name: Path(path).parent / "a.avi", copy)("A/a"))


# --------------------------------------------------------------------------------- arrays


def make_part(folder):
    from claus.artifacts.part_log import PartLog
    from claus.selection.uncertainty import SCORES

    rng = np.random.default_rng(0)
    arrays = {name: rng.random(20, np.float32) for name in SCORES}
    arrays["latents"] = rng.random((2, 4), np.float32)
    with PartLog(folder, "0", "parts") as log:
        log.append(0, arrays)
    return log.path


def read_part(path):
    """As cluster_extract.py: whether there is one, else it is made again."""
    from claus.artifacts.part_log import Parts
    from claus.steps import extract

    parts = copied_to_parts(path)
    if extract.unscored(parts, [0]):
        return REMADE
    with Parts(parts, parts.name, check=False) as found:
        part = found.arrays(0)
    return {name: part[name].tolist() for name in sorted(part)}


def copied_to_parts(path):
    """The folder `parts` beside a log, with a copy of the log."""
    parts = Path(path).parent / "parts"
    parts.mkdir(exist_ok=True)
    shutil.copyfile(path, parts / "0-0.log")
    return parts


REMADE = "made again"


def make_three_parts(folder):
    from claus.artifacts.part_log import PartLog

    with PartLog(folder, "0", "parts") as log:
        for number in range(3):
            log.append(number, {"latents": np.full((2, 4), number, np.float32)})
    return log.path


def read_three_parts(path):
    """The parts that are whole, each of which says its number."""
    from claus.artifacts.part_log import Parts

    parts = copied_to_parts(path)
    with Parts(parts, parts.name) as found:
        kept = {int(number): found.arrays(number) for number in found.numbers()}
        assert found.failures() == {}
    for number, arrays in kept.items():
        assert arrays["latents"].tolist() == [[number] * 4] * 2
    return "three" if len(kept) == 3 else REMADE


def make_unfinished(folder):
    from claus.artifacts.parts import save_part

    path = Path(folder) / "0.unfinished.npz"
    save_part(path, {"values": np.arange(20, dtype=np.float32)})
    return path


def read_unfinished(path):
    from claus.artifacts.parts import load_unfinished

    found = load_unfinished(Path(path).parent)
    return {k: v.tolist() for k, v in found[0].items()} if found else REMADE


def make_evaluated(folder):
    from claus.artifacts.part_log import PartLog
    from claus.steps.evaluate import OVERLAP, REGIONS

    arrays = {name: np.arange(20, dtype=np.float32) for name in (*OVERLAP, *REGIONS)}
    with PartLog(folder, "0", "parts") as log:
        log.append(0, arrays)
    return log.path


def read_evaluated(path):
    from claus.steps import evaluate

    parts = copied_to_parts(path)
    if evaluate.unscored(1, parts):
        return REMADE
    settings = SimpleNamespace(protocol="capsule")
    found = evaluate.gather_parts([SimpleNamespace(name="a", label=0)], parts, {}, settings)
    return [
        str(np.asarray(getattr(found.overlaps[0], name)).tolist()) for name in evaluate.OVERLAP
    ]


def make_index(folder):
    from claus.datasets.sprites import write_video
    from claus.datasets.video.frame_index import IndexedVideos

    video = Path(folder) / "a.avi"
    write_video(video, np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), np.uint8))
    IndexedVideos(folder).index(video)
    (found,) = (Path(folder) / "index").rglob("*.json")
    return found


def read_index(path):
    from claus.datasets.video.frame_index import _load

    found = _load(path)
    return REMADE if found is None else str(found)


def make_times(folder):
    from claus.datasets.sprites import write_video
    from claus.datasets.video.times import read_times

    write_video(Path(folder) / "a.avi", np.zeros((5, 16, 16, 3), np.uint8))
    read_times(Path(folder) / "a.avi", folder)
    (found,) = (Path(folder) / "times").rglob("*.npz")
    return found


def read_times_file(path):
    from claus.datasets.video.times import _load

    found = _load(path)
    return REMADE if found is None else [str(found.base), found.ticks.tolist(), found.height]


def make_clip(folder):
    from claus.datasets.video.disk_cache import write_checked

    write_checked(
        Path(folder) / "clip", np.arange(8 * 4 * 4 * 3, dtype=np.int64).astype(np.uint8)
    )
    return Path(folder) / "clip"


def read_clip(path):
    from claus.datasets.video.frame_cache import FrameCache

    found = FrameCache(Path(path).parent, 1).load(path, (8, 4, 4, 3))
    return REMADE if found is None else found.tolist()


def make_records(folder):
    from claus.datasets.video.disk_cache import SUM_BYTES, checksum

    records = np.arange(5 * 6, dtype=np.float16).reshape(5, 6)
    sums = b"".join(checksum(row.view(np.uint8)) for row in records)
    assert len(sums) == 5 * SUM_BYTES
    (Path(folder) / "records").write_bytes(sums + records.tobytes())
    return Path(folder) / "records"


def read_records(path):
    from claus.datasets.video.feature_cache import FeatureCache

    found = FeatureCache._read(SimpleNamespace(length=6), path, 5, [0, 1, 2, 3, 4])
    return REMADE if found is None else found.tolist()


def make_mat(folder):
    import scipy.io

    masks = np.zeros((12, 16, 4), np.uint8)
    masks[3:6, 4:9] = 1
    path = Path(folder) / "puppet_mask.mat"
    scipy.io.savemat(path, {"part_mask": masks}, do_compression=True)
    return path


def read_mat(path):
    from claus.datasets import jhmdb

    video = jhmdb._video("run/x", path, jhmdb.CLASSES)
    return [plain_video(video), video.tubes[0].masks[0].tolist()]


# ------------------------------------------------------------------------------ checkpoints


def make_detector(folder):
    import torch

    path = Path(folder) / "detector.pt"
    path.write_bytes(lzma.decompress((RUN / "cycle0" / "detector.pt.xz").read_bytes()))
    state = torch.load(path, map_location="cpu", weights_only=True)
    torch.save(state, path)
    return path


def make_tiny_detector(folder):
    """The same of a network of few tensors, with six classes and two clusters."""
    import torch

    from claus.artifacts import checkpoint
    from claus.datasets.clips.geometry import GEOMETRY
    from claus.losses.cluster import Clusters
    from claus.models.detector import Detector

    torch.manual_seed(0)
    network = Detector(_config("tiny"))
    clusters = Clusters(
        np.zeros((2, network.config.latent_size), np.float32), np.ones(2), {"A/a": 0, "A/b": 1}
    )
    classes = tuple("ABCDEF")
    about = {"arguments": {"train_encoder": True, "seed": 0}, "steps": 3, "failed": {}}
    about["license"] = "MIT"
    state = checkpoint.detector_state(
        network, clusters, classes, "own", GEOMETRY["small", "wide"], "-1..1", about
    )
    path = Path(folder) / "detector.pt"
    torch.save(state, path)
    return path


def read_detector(path):
    from claus.artifacts import checkpoint

    found = checkpoint.load(path)
    weights = sum(float(t.double().abs().sum()) for t in found.detector.state_dict().values())
    if not math.isfinite(weights):
        raise AssertionError("weights that are not finite were read")
    return [
        weights,
        found.classes,
        found.dataset,
        str(found.geometry),
        found.pixel_range,
        repr(found.about),  # shown to people, and the license written elsewhere
        found.about.get("license", ""),
        np.asarray(found.clusters.centers).tolist(),
        sorted(found.clusters.assignment.items()),
    ]


def read_pretrained(path, model="small"):
    from claus.artifacts import checkpoint
    from claus.models.detector import Detector

    network = Detector(_config(model))
    counts = checkpoint.load_pretrained(network, path)
    weights = sum(float(t.double().abs().sum()) for t in network.state_dict().values())
    if not math.isfinite(weights):
        raise AssertionError("weights that are not finite were read")
    return [counts]


@functools.cache
def _config(model):
    from claus.models.detector import PRESETS, DetectorConfig

    from . import tiny

    tiny.add()
    return DetectorConfig(6, **PRESETS[model])


@functools.lru_cache(maxsize=2)
def _loaded(content):
    """What a checkpoint holds; not to be changed."""
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def of_checkpoint(content, rng):
    """Bytes of the file, or what it holds."""
    import torch

    if rng.random() < 0.5:
        return mutate.of_bytes(content, rng)
    state = dict(_loaded(content))
    state["detector"] = dict(state["detector"])
    if rng.random() < 0.3:
        names = [name for name, t in state["detector"].items() if t.is_floating_point()]
        name = names[int(rng.integers(len(names)))]
        kind = ("NaN", "Infinity", "wrong shape", "wrong type")[int(rng.integers(4))]
        tensor = state["detector"][name].clone()
        if kind == "wrong shape":
            tensor = tensor[None]
        elif kind == "wrong type":
            tensor = tensor.to(torch.complex64)
        elif tensor.numel():
            tensor.view(-1)[0] = math.nan if kind == "NaN" else math.inf
        state["detector"][name] = tensor
        mutated = state
    else:
        kind, mutated = mutate.of_object(
            {k: v for k, v in state.items() if k != "detector"}, rng
        )
        if isinstance(mutated, dict):
            mutated["detector"] = state["detector"]
    buffer = io.BytesIO()
    torch.save(mutated, buffer)
    return kind, buffer.getvalue()


KINDS = [
    Kind("annotations.pkl", make_annotations, read_annotations, mutate.of_pickle),
    Kind(
        "annotations.pkl of 80 videos",
        _golden("cycle0/annotations.pkl"),
        read_annotations,
        mutate.of_pickle,
        share=0.3,
    ),
    Kind("pyannot.pkl", make_pyannot, read_pyannot, mutate.of_pickle),
    Kind("older list", make_list, read_list, mutate.of_pickle),
    Kind("features.pkl", _golden("cycle0/features.pkl"), read_features, mutate.of_pickle),
    Kind(
        "uncertainty.pkl",
        _golden("cycle0/uncertainty.pkl"),
        read_uncertainty,
        mutate.of_pickle,
        share=0.5,
    ),
    Kind(
        "selection.json", _golden("cycle1/selection.json"), read_selection, mutate.of_json_file
    ),
    Kind("answers.json", _golden("cycle1/answers.json"), read_answers, mutate.of_json_file),
    Kind("answers.json of masks", make_mask_answers, read_mask_answers, mutate.of_json_file),
    Kind(
        "evaluation.json",
        _golden("cycle0/evaluation.json"),
        read_evaluation,
        mutate.of_json_file,
    ),
    Kind("seconds.json", make_seconds, read_seconds, mutate.of_json_file),
    Kind("run.json", make_run_json, read_run_json, mutate.of_json_file),
    Kind("start.json", make_start_json, read_start_json, mutate.of_json_file),
    Kind("cell.json", make_cell, read_cell, mutate.of_json_file),
    Kind("results.csv", make_results, read_results, mutate.of_table),
    Kind("experiments.csv", make_experiments, read_experiments, mutate.of_table),
    Kind("frame_counts.jsonl", make_counts, read_counts, mutate.of_lines),
    Kind("identities.jsonl", make_identities, read_identities, mutate.of_lines),
    Kind("extract.parts", make_part, read_part, mutate.of_bytes, sealed=True),
    Kind(
        "extract.parts of three",
        make_three_parts,
        read_three_parts,
        mutate.of_bytes,
        sealed=True,
    ),
    Kind("evaluate.parts", make_evaluated, read_evaluated, mutate.of_bytes, sealed=True),
    Kind("unfinished part", make_unfinished, read_unfinished, mutate.of_bytes, sealed=True),
    Kind("frame index", make_index, read_index, mutate.of_bytes, sealed=True),
    Kind("frame times", make_times, read_times_file, mutate.of_bytes, sealed=True),
    Kind("clip cache", make_clip, read_clip, mutate.of_bytes, sealed=True),
    Kind("feature cache", make_records, read_records, mutate.of_bytes, sealed=True),
    Kind("puppet_mask.mat", make_mat, read_mat, mutate.of_bytes),
    Kind("detector.pt", make_detector, read_detector, of_checkpoint, share=0.05),
    Kind("pretrained weights", make_detector, read_pretrained, of_checkpoint, share=0.05),
    Kind("detector.pt of few tensors", make_tiny_detector, read_detector, of_checkpoint),
    Kind(
        "pretrained weights of few tensors",
        make_tiny_detector,
        functools.partial(read_pretrained, model="tiny"),
        of_checkpoint,
    ),
]
assert time
