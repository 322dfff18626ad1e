"""What one script leaves for the next: where the files of a cycle lie, and the form of what
is in them.

    files/<run>/cycle<k>/   annotations.pkl  request.json  answers.json  selection.json  clusters.png   claus_select.py
                            detector.pt  tensorboard/                                                   train_ucf101.py
                            features.pkl  uncertainty.pkl                                             cluster_extract.py
                            evaluation.json  pictures/  tensorboard/                                        evaluate.py
    files/<run>/ledger.csv  what was labelled in every cycle and what it cost, counted in
                            the annotation files

features.pkl     {"format": "claus-features", "version": 1, "source": str, "videos": [str] (N),
                  "latents": (N, D) float32, "clusters": (N,) int32 in [0, K), "centres":
                  (K, D) float32, "failed": {name: reason}}
uncertainty.pkl  {"format": "claus-uncertainty", "version": 1, "source": str, "settings":
                 {...}, "videos": [str] (N),
                  "offsets": (N+1,) int64, and (offsets[N],) float32 each: "paper" >= 0,
                  "authors", "area" >= 0, "entropy", "local_entropy"}; frame f of video i:
                  offsets[i] + f
`source` is the fingerprint of the checkpoint both were made with, and must agree. Needs
NumPy, not torch.
"""

import csv
import hashlib
import io
import json
import os
import pickle
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from claus.datasets.labels import annotations as annotation_file
from claus.selection.budget import price
from claus.utils.runtime import UserError, atomic_write, read_json, write_text

VERSION = 1
FRAME_ARRAYS = ("paper", "authors", "area", "entropy", "local_entropy")
FRAME_SCORES = (*FRAME_ARRAYS, "per-pixel")
LEDGER_COLUMNS = (
    "cycle",
    "videos",
    "frames",
    "boxes",
    "cost",
    "total_videos",
    "total_frames",
    "total_boxes",
    "total_cost",
    "percent_of_frames",
)


# ------------------------------------------------------------------------------------ paths


def run_dir(run, root="files"):
    """Folder of a run: `root`/<run> for a name, the path itself where `run` has a separator
    in it.
    """
    run = str(run)
    if run in ("", ".", ".."):
        raise UserError(
            f"--run {run!r} is no name for a run: give a name, or a path with a / in it"
        )
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return Path(run) if any(separator in run for separator in separators) else Path(root) / run


def cycle_dir(run, cycle, root="files"):
    """Folder of cycle `cycle` (0, 1, ...) of a run, see run_dir. Nothing is created."""
    if cycle < 0:
        raise UserError(f"--cycle must be 0 or more, not {cycle}")
    return run_dir(run, root) / f"cycle{cycle}"


def existing_cycles(run, root="files"):
    """Numbers of the run's cycles that have an annotation file, rising."""
    names = [path.parent.name for path in run_dir(run, root).glob("cycle*/annotations.pkl")]
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"cycle(0|[1-9]\d*)", name))


def fingerprint(path):
    """First 16 hex digits of the file's SHA-256: says which checkpoint a pickle came from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# ------------------------------------------------------------------------------------ parts


def parts_dir(folder, made_from):
    """Folder below `folder` for what is finished of a long work, its name changing with all
    that the work depends on.

    made_from: anything json can write. Nothing is created.
    """
    return (
        Path(folder)
        / hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    )


def save_part(path, arrays):
    """Write a dict of arrays atomically as .npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


# --------------------------------------------------------------------------------- features


@dataclass(frozen=True, eq=False)
class Features:
    """Latent and cluster of every video that could be read; see the module's head for
    shapes. Checked when made.
    """

    source: str
    videos: list[str]
    latents: np.ndarray
    clusters: np.ndarray
    centres: np.ndarray
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        _check_names(self.source, self.videos)
        count = len(self.videos)
        _check_array(self.latents, "latents", (count, None), np.floating)
        _check_array(self.centres, "centres", (None, self.latents.shape[1]), np.floating)
        _check_array(self.clusters, "clusters", (count,), np.integer)
        if count and not (self.clusters.min() >= 0 and self.clusters.max() < len(self.centres)):
            raise UserError(f"clusters must lie in 0..{len(self.centres) - 1}, one centre each")
        if not isinstance(self.failed, dict) or not all(
            isinstance(text, str) for item in self.failed.items() for text in item
        ):
            raise UserError("failed must be a dict of video name to reason")
        if both := sorted(set(self.failed) & set(self.videos)):
            raise UserError(f"{both[0]} is among the videos and among the failed ones")


def save_features(features, path):
    """Write features.pkl atomically; the same features give the same bytes."""
    _save(
        path,
        {
            "format": "claus-features",
            "version": VERSION,
            "source": features.source,
            "videos": list(features.videos),
            "latents": _plain(features.latents, np.float32),
            "clusters": _plain(features.clusters, np.int32),
            "centres": _plain(features.centres, np.float32),
            "failed": dict(features.failed),
        },
    )


def load_features(path):
    """Read and check features.pkl -> Features; UserError naming the file."""
    content = _load(
        path, "claus-features", ("source", "videos", "latents", "clusters", "centres", "failed")
    )
    with annotation_file.naming(str(path)):
        return Features(**content)


# ------------------------------------------------------------------------------ uncertainty


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Scores of every frame of every video that could be read; see the module's head.
    Checked when made.
    """

    source: str
    settings: dict
    videos: list[str]
    offsets: np.ndarray
    paper: np.ndarray
    authors: np.ndarray
    area: np.ndarray
    entropy: np.ndarray
    local_entropy: np.ndarray

    def __post_init__(self):
        _check_names(self.source, self.videos)
        if not isinstance(self.settings, dict):
            raise UserError("settings must be a dict")
        _check_array(self.offsets, "offsets", (len(self.videos) + 1,), np.integer)
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 1).any():
            raise UserError(
                "offsets must start at 0 and rise: every video has a frame at least"
            )
        for name in FRAME_ARRAYS:
            _check_array(getattr(self, name), name, (int(self.offsets[-1]),), np.floating)
        for name in ("paper", "area"):
            if (getattr(self, name) < 0).any():
                raise UserError(f"{name} must not be negative")

    def frame_score(self, name):
        """One of FRAME_SCORES (total,). per-pixel: U_f of `paper` by the share of the
        picture that is foreground, so the mean -ln M over the foreground but for a
        constant; 0 without any. Unlike U_f it does not grow with the actor.
        """
        if name != "per-pixel":
            return getattr(self, name)
        return np.divide(
            self.paper, self.area, out=np.zeros_like(self.paper), where=self.area > 0
        )


def save_uncertainty(uncertainty, path):
    """Write uncertainty.pkl atomically; the same scores give the same bytes."""
    arrays = {name: _plain(getattr(uncertainty, name), np.float32) for name in FRAME_ARRAYS}
    _save(
        path,
        {
            "format": "claus-uncertainty",
            "version": VERSION,
            "source": uncertainty.source,
            "settings": dict(uncertainty.settings),
            "videos": list(uncertainty.videos),
            "offsets": _plain(uncertainty.offsets, np.int64),
            **arrays,
        },
    )


def load_uncertainty(path):
    """Read and check uncertainty.pkl -> Uncertainty; UserError naming the file."""
    content = _load(
        path, "claus-uncertainty", ("source", "settings", "videos", "offsets", *FRAME_ARRAYS)
    )
    with annotation_file.naming(str(path)):
        return Uncertainty(**content)


def check_same_source(
    features, uncertainty, features_path="features.pkl", uncertainty_path="uncertainty.pkl"
):
    """Raise UserError unless both come from one checkpoint and list the same videos in the
    same order.
    """
    pair = f"{features_path} and {uncertainty_path}"
    mend = "make both anew with cluster_extract.py"
    if features.source != uncertainty.source:
        raise UserError(
            f"{pair} come from different checkpoints ({features.source[:16]} and "
            f"{uncertainty.source[:16]}): {mend}"
        )
    if list(features.videos) != list(uncertainty.videos):
        raise UserError(f"{pair} do not list the same videos: {mend}")


# -------------------------------------------------------------------------------- selection


def save_selection(content, path):
    """Write selection.json atomically: what was chosen and why, a line for every video, as
    claus_select.py makes it.
    """
    content = {"format": "claus-selection", "version": VERSION, **content}
    lines = [
        f" {json.dumps(key)}: {_json(value)}"
        for key, value in content.items()
        if key != "videos"
    ]
    videos = ",\n".join(f"  {_json(video)}" for video in content["videos"])
    write_text(path, "{\n" + ",\n".join(lines) + f',\n "videos": [\n{videos}\n ]\n}}\n')


def load_selection(path):
    """Read selection.json -> dict; UserError naming the file."""
    mend = "make it anew with claus_select.py --force"
    content = read_json(path, mend)
    if content.get("format") != "claus-selection":
        raise UserError(f"{path}: this is not a selection; {mend}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: selection of version {content.get('version')}, this program "
            f"reads {VERSION}; {mend}"
        )
    if missing := [key for key in ("run", "cycle", "prices", "videos") if key not in content]:
        raise UserError(f"{path}: {missing[0]} is missing; {mend}")
    if not isinstance(content["prices"], dict) or set(content["prices"]) != {
        "video",
        "frame",
        "box",
    }:
        raise UserError(f"{path}: prices must name video, frame and box; {mend}")
    return content


def _json(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# ----------------------------------------------------------------------------------- ledger


@dataclass(frozen=True)
class Prices:
    """C_v per labelled video, C_f per labelled frame, C_box per actor in a frame beyond the
    first. Exact.
    """

    video: Fraction = Fraction(1)
    frame: Fraction = Fraction(1)
    box: Fraction = Fraction(0)

    def __post_init__(self):
        for name in ("video", "frame", "box"):
            object.__setattr__(self, name, price(getattr(self, name), f"--{name}-cost"))


def write_ledger(run, root="files", known=None):
    """Write ledger.csv of what the annotation files of a run hold -> its rows, see
    count_ledger.
    """
    rows = count_ledger(run, root, known)
    table = io.StringIO()
    writer = csv.DictWriter(table, LEDGER_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run_dir(run, root) / "ledger.csv", table.getvalue())
    return rows


def count_ledger(run, root="files", known=None):
    """Count what the annotation files of cycles 0, 1, ... hold -> rows, dicts of
    LEDGER_COLUMNS.

    A row says what its cycle added and, in total_*, what is labelled after it;
    percent_of_frames is total_frames in percent of all frames of the pool. Only the prices
    come from a cycle's selection.json (without one: Prices()). known: {cycle: Annotations}
    of files that need not be read again, being in memory as they were just read or written.
    """
    rows, before, total_cost = [], np.zeros(4, np.int64), Fraction(0)
    for expected, cycle in enumerate(existing_cycles(run, root)):
        path = cycle_dir(run, cycle, root) / "annotations.pkl"
        if cycle != expected:
            raise UserError(
                f"{path} is there and cycle {expected} before it is not: restore it, "
                f"or start another run"
            )
        annotations = (known or {}).get(cycle) or annotation_file.load(path)
        after = paid_for(annotations)
        videos, frames, boxes, extra = (after - before).tolist()
        if min(videos, frames, boxes, extra) < 0:
            raise UserError(
                f"{path} holds fewer labels than the cycle before: restore it, or "
                f"choose anew with --force"
            )
        selection = cycle_dir(run, cycle, root) / "selection.json"
        paid = Prices(**load_selection(selection)["prices"]) if selection.exists() else Prices()
        cost = paid.video * videos + paid.frame * frames + paid.box * extra
        total_cost += cost
        percent = 100 * after[1] / max(annotations.total_frames(), 1)
        values = (
            cycle,
            videos,
            frames,
            boxes,
            money(cost),
            *after[:3].tolist(),
            money(total_cost),
            f"{percent:.4f}",
        )
        rows.append(dict(zip(LEDGER_COLUMNS, values, strict=True)))
        before = after
    return rows


def paid_for(annotations):
    """Labelled (videos, frames, boxes, boxes beyond the first of their frame) of an
    annotation file, int64 (4,).
    """
    counts = annotations.counts()
    extra = 0
    for video in annotations.labelled():
        seen = [tube.frames for tube in video.tubes]
        if len(seen) > 1:
            frames = np.concatenate(seen)
            extra += len(frames) - len(np.unique(frames))
    return np.array(
        [counts["videos"], counts["frames"], counts["boxes"], extra], dtype=np.int64
    )


def money(cost):
    """An exact cost as short text: "1103", "12.5", "0.3333" (four decimals at most)."""
    text = f"{float(cost):.4f}"
    return text.rstrip("0").rstrip(".")


# ----------------------------------------------------------------------------------- checks


def _save(path, content):
    with atomic_write(path) as file:
        pickler = pickle.Pickler(file, protocol=4)
        # no back references: the bytes depend on the values, not on which objects are
        # shared
        pickler.fast = True
        pickler.dump(content)


def _load(path, form, keys):
    content = annotation_file.safe_load(path)
    mend = "make it anew with cluster_extract.py"
    if not isinstance(content, dict) or content.get("format") != form:
        raise UserError(f"{path}: this is not a {form} file; {mend}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: version {content.get('version')} of {form}, this program reads "
            f"{VERSION}; {mend}"
        )
    if missing := [key for key in keys if key not in content]:
        raise UserError(f"{path}: {missing[0]} is missing; {mend}")
    return {key: content[key] for key in keys}


def _plain(array, dtype):
    """A contiguous array that owns its memory, so that equal content is equal bytes."""
    return np.array(array, dtype=dtype, order="C", copy=True)


def _check_names(source, videos):
    if not isinstance(source, str) or not source:
        raise UserError("source must be the fingerprint of a checkpoint")
    if not isinstance(videos, list) or not all(isinstance(name, str) for name in videos):
        raise UserError("videos must be a list of names")
    if len(set(videos)) != len(videos):
        raise UserError("a video is listed twice")


def _check_array(array, name, shape, kind):
    """Raise UserError unless `array` is a finite array of `kind` with this shape (None: any
    positive length).
    """
    if (
        not isinstance(array, np.ndarray)
        or not np.issubdtype(array.dtype, kind)
        or array.ndim != len(shape)
    ):
        raise UserError(f"{name} must be an array of {kind.__name__} with {len(shape)} axes")
    if any(
        size != want if want is not None else size < 1
        for size, want in zip(array.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise UserError(f"{name} has shape {array.shape}, expected ({wanted})")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not finite")
