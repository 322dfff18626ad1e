"""changes.jsonl: what happened to a run beside its cycles, one JSON line each, only ever
appended to: videos that joined or were withdrawn, classes that were added, labels that were
corrected. What a cycle chose stays as it was chosen; a change counts from its cycle on.

{"change": "start", "cycle": 0, "any_folder", "segment", "segments", "passed_over": [names]}
{"change": "added", "cycle": k, "videos": [{"name", "frames", "height", "width", "segment"}]}
{"change": "withdrawn", "cycle": k, "videos": [names], "reason", "paid": [4 counts]}
{"change": "none", "cycle": k, "videos": [names], "paid": [4 counts]}: show none of the
 classes, by the answers to cycle k; of several lines of a cycle the last counts
{"change": "classes", "cycle": k, "classes": [names]}
{"change": "corrected", "cycle": k, "frames", "videos": [names], "paid": [4 counts],
 "weights": [fingerprints of detectors that were trained on the labels as they were],
 "before": number of the file that keeps these}: of several lines of a cycle with the same
 number the last counts, the others are of calls that were killed
{"change": "imported", "cycle": 0, "free": [4 counts], "from": name of a file}

paid, free: videos, frames, boxes and boxes beyond the first of their frame, see
artifacts/ledger.py: by how much the change made the labels of its cycle differ from what was
paid for; what was there already and is not paid for.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from claus.artifacts.cycle import Run
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.segment import Segment
from claus.utils.runtime import UserError, append_line, check_writable, read_json_lines
from claus.utils.shape import maybe, misfit, whole
from claus.utils.words import many


def four_counts(value):
    """Whether it is four counts, which may be negative."""
    numbers = isinstance(value, list) and all(type(one) is int for one in value)
    return numbers and len(value) == 4 and max(map(abs, value)) < 2**31


def a_length(value):
    """Whether it is a whole number from 1."""
    return whole(value) and value > 0


_VIDEO = {
    "name": str,
    "frames": a_length,
    "height": a_length,
    "width": a_length,
    "segment": (dict, None),
}
SHAPES = {  # what scripts go on with of each kind of change
    "start": {
        "any_folder": maybe(bool),
        "masks": maybe(bool),
        "segment": maybe((str, None)),
        "segments": maybe((str, None)),
        "passed_over": maybe([str]),
    },
    "added": {"videos": [_VIDEO]},
    "withdrawn": {"videos": [str], "reason": maybe(str), "paid": four_counts},
    "none": {"videos": [str], "paid": four_counts},
    "classes": {"classes": [str]},
    "corrected": {
        "frames": whole,
        "videos": [str],
        "paid": four_counts,
        "weights": maybe([str]),
        "none": maybe([str]),
        "before": maybe(whole),
    },
    "imported": {"free": four_counts, "from": maybe(str)},
}
KINDS = tuple(SHAPES)


def read_changes(run: Run, kind: str | None = None, cycle: int | None = None) -> list[dict]:
    """The changes of a Run, of one kind, of one cycle; UserError naming the file and the
    line where one is damaged. An incomplete last line is ignored.
    """
    return [
        change
        for change in _read(run.changes)
        if kind in (None, change["change"]) and cycle in (None, change["cycle"])
    ]


def _read(path):
    """All changes of a file."""
    if not path.exists():
        return []
    changes = _since_start(read_json_lines(path, "restore the file", _wrong))
    last = {_what(place, one): place for place, one in enumerate(changes)}
    return [one for place, one in enumerate(changes) if last[_what(place, one)] == place]


def _what(place, change):
    """What a change is about, where a later one about the same takes its place."""
    if change["change"] == "none":
        return "none", change["cycle"]
    if change["change"] == "corrected" and "before" in change:
        return "corrected", change["cycle"], change["before"]
    return place


def _wrong(number, change):
    """What is wrong with a line, or None."""
    shape = SHAPES.get(change.get("change")) if isinstance(change.get("change"), str) else None
    if shape is None:
        return f"its change is none of {', '.join(KINDS)}"
    problem = misfit(change, {"cycle": whole, **shape})
    for record in () if problem else change.get("videos", ()):
        if isinstance(record, dict) and record["segment"] is not None:
            try:
                Segment.from_dict(record["segment"])
            except UserError as error:
                problem = str(error)
    return problem


def _since_start(changes):
    """The changes since the pool was last made; who was withdrawn before stays so."""
    starts = [place for place, one in enumerate(changes) if one["change"] == "start"]
    if not starts:
        return changes
    gone = [
        {**one, "cycle": 0, "paid": [0, 0, 0, 0]}
        for one in changes[: starts[-1]]
        if one["change"] == "withdrawn"
    ]
    return [*gone, *changes[starts[-1] :]]


def add_change(run: Run, change: dict) -> None:
    """Append a change."""
    if change["change"] not in KINDS:
        raise ValueError(f"{change['change']} is no change")
    check_writable(run.folder, clear=False)
    append_line(run.changes, json.dumps(change, ensure_ascii=False, allow_nan=False))


def with_changes(labels: Annotations, run: Run, cycle: int) -> Annotations:
    """The labels before a cycle, with the videos and classes that join in it and without
    those withdrawn in it.
    """
    for change in read_changes(run, cycle=cycle):
        if change["change"] == "added":
            new = {record["name"]: _video(record) for record in change["videos"]}
            new = {name: video for name, video in new.items() if name not in labels.videos}
            labels = labels.joined(new)
        elif change["change"] == "classes":
            more = [name for name in change["classes"] if name not in labels.classes]
            labels = replace(labels, classes=(*labels.classes, *more))
        elif change["change"] == "withdrawn":
            labels = labels.without(change["videos"])
    return labels


def withdrawn(run: Run) -> set[str]:
    """Names of all videos that were withdrawn or show none of the classes."""
    changes = [*read_changes(run, "withdrawn"), *read_changes(run, "none")]
    return {name for change in changes for name in change["videos"]}


def video_record(video: Video) -> dict:
    """What a change keeps of a video without labels."""
    segment = None if video.segment is None else video.segment.to_dict()
    return {
        "name": video.name,
        "frames": video.frames,
        "height": video.height,
        "width": video.width,
        "segment": segment,
    }


def _video(record):
    segment = record.get("segment")
    segment = None if segment is None else Segment.from_dict(segment)
    return Video(
        record["name"],
        record["frames"],
        record["height"],
        record["width"],
        segment=segment,
    )


def counts_of(run: Run, key: str, cycle: int) -> np.ndarray:
    """Sum of the four counts `key` of all changes up to a cycle, int64 (4,)."""
    total = np.zeros(4, np.int64)
    for change in read_changes(run):
        if change["cycle"] <= cycle and key in change:
            total += np.array(change[key], np.int64)
    return total


def in_words(run: Run, cycle: int) -> str:
    """What the ledger says of the changes of a cycle."""
    texts = []
    for change in read_changes(run, cycle=cycle):
        kind, videos = change["change"], change.get("videos", [])
        if kind == "corrected":
            texts.append(
                f"{many(change['frames'], 'frame')} of {many(len(videos), 'video')} corrected"
            )
        elif kind == "added":
            texts.append(f"{many(len(videos), 'video')} added")
        elif kind == "withdrawn":
            texts.append(f"{many(len(videos), 'video')} withdrawn ({change.get('reason', '')})")
        elif kind == "none" and videos:
            texts.append(f"of none of the classes: {many(len(videos), 'video')}")
        elif kind == "classes":
            texts.append(f"classes added: {' '.join(change['classes'])}")
        elif kind == "imported":
            texts.append(f"{many(change['free'][1], 'frame')} imported, not paid for")
    return "; ".join(texts)


def corrected_since(weights: Path, source: str) -> str | None:
    """What to say of weights whose labels were corrected after their training, None where
    they were not. weights: path of a detector.pt in its cycle's folder. source: its
    fingerprint.
    """
    changes = read_changes(Run(weights.absolute().parent.parent), "corrected")
    late = [change for change in changes if source in change.get("weights", ())]
    frames = sum(change["frames"] for change in late)
    if not frames:
        return None
    return (
        f"note: {weights} was trained before {frames} of its labels were corrected; the next "
        "training has the corrected ones"
    )
