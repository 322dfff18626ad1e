"""The JSON file of a video's tubes: written tube by tube as they end, read as a whole.

{"format": "claus-detections", "version": 1, "video", "file", "bytes", "modified", "source",
 "claus", "settings", "width", "height", "nominal_fps", "classes", "tubes": [tube],
 "frames", "clip_scores": [[C numbers]]}

tube: {"tube", "class", "score", "scores": {class: number}, "frames", "times", "boxes",
"foreground", "frame_scores", and "masks" where asked for}; see docs/detecting.md. A tube is a
line of the file.
"""

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np

import claus
from claus.datasets.labels.masks import rle_problem
from claus.detection.detector import Detection
from claus.detection.tubes import Tube
from claus.utils.runtime import UserError, atomic_write, read_json
from claus.utils.shape import maybe, misfit, whole

FORMAT, VERSION = "claus-detections", 1
MADE_BY = ("format", "version", "bytes", "modified", "source", "settings")


def box_in_pixels(value: object) -> bool:
    """Whether it is [x0, y0, x1, y1] of a box in a picture."""
    numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
    return numbers and len(value) == 4 and max(map(abs, value)) < 1e6


FIX = "run detect.py again, with --force"
NUMBERS = [(float, None)]
SHAPE = {
    "file": str,
    "source": str,
    "settings": dict,
    "bytes": int,
    "modified": int,
    "claus": str,
    "video": str,
    "width": whole,
    "height": whole,
    "nominal_fps": (float, None),
    "classes": [str],
    "frames": whole,
    "clip_scores": [NUMBERS],
    "tubes": [
        {
            "tube": whole,
            "class": str,
            "score": (float, None),
            "scores": {str: (float, None)},
            "frames": [whole],
            "times": NUMBERS,
            "boxes": [box_in_pixels],
            "foreground": NUMBERS,
            "frame_scores": NUMBERS,
            "masks": maybe(list),
        }
    ],
}


def about(path: Path, source: str, settings: dict) -> dict:
    """What a file is made from: it is made again where one of these differs."""
    state = os.stat(path)
    return {
        "format": FORMAT,
        "version": VERSION,
        "bytes": state.st_size,
        "modified": state.st_mtime_ns,
        "source": source,
        "settings": settings,
    }


def is_finished(place: Path, made_from: dict) -> bool:
    """Whether the file is there, whole, and made from the same."""
    if not place.is_file():
        return False
    try:
        content = read(place)
    except UserError:
        return False
    return all(content.get(key) == made_from[key] for key in MADE_BY)


def read(place: str | Path) -> dict:
    """The content of a file, as it is written; UserError for another kind of file."""
    content = read_json(place, FIX)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(f"{place}: is not a file of detections of this version; {FIX}")
    if problem := misfit(content, SHAPE) or _unequal(content):
        raise UserError(f"{place}: {problem}; {FIX}")
    return content


def _unequal(content):
    """What is wrong where parts of a file do not belong together, or None."""
    classes = content["classes"]
    if any(len(row) != len(classes) for row in content["clip_scores"]):
        return "clip_scores has not a number for each class"
    for tube in content["tubes"]:
        rows = [tube[name] for name in ("times", "boxes", "foreground", "frame_scores")]
        rows += [tube["masks"]] if "masks" in tube else []
        frames = tube["frames"]
        if {len(row) for row in rows} != {len(frames)}:
            return f"tube {tube['tube']} has not the same number of frames everywhere"
        rising = all(a < b for a, b in itertools.pairwise(frames))
        if not (frames and rising and frames[-1] < content["frames"]):
            return f"tube {tube['tube']} has frames that the video does not have"
        if tube["class"] not in classes or set(tube["scores"]) != set(classes):
            return f"tube {tube['tube']} is of other classes"
        for mask in tube.get("masks", ()):
            problem = mask and rle_problem(mask, content["height"], content["width"])
            if problem and not problem.startswith("is empty"):
                return f"tube {tube['tube']} has a mask that {problem}"
    return None


def write(place: Path, name: str, found: Detection, made_from: dict, each=None) -> int:
    """Write the tubes of a Detection as they end -> how many. The file appears whole, or not
    at all where the video cannot be read to its end. each: called with every Tube.
    """
    count = 0
    with atomic_write(place, "w") as file:
        for tube in found:
            if not count:
                file.write(_head(name, found, made_from))
            file.write(("\n" if not count else ",\n") + json.dumps(record(tube)))
            count += 1
            if each is not None:
                each(tube)
        if not count:
            file.write(_head(name, found, made_from))
        clips = [[_digits(x) for x in row] for row in found.clip_scores.tolist()]
        file.write(f'\n],\n"frames": {found.progress.frames},\n"clip_scores": ')
        file.write(json.dumps(clips) + "}\n")
    return count


def _head(name, found, made_from):
    height, width = found.progress.size
    head = {
        **made_from,
        "video": name,
        "file": str(found.path),
        "claus": claus.__version__,
        "width": width,
        "height": height,
        "nominal_fps": found.header.fps,
        "classes": list(found.classes),
    }
    return json.dumps(head)[:-1] + ',\n"tubes": ['


def record(tube: Tube) -> dict:
    """A tube as JSON has it: floats of nine digits at most, null for what is not known."""
    scores = zip(tube.classes, tube.scores.tolist(), strict=True)
    content = {
        "tube": tube.number,
        "class": tube.name,
        "score": _digits(tube.score),
        "scores": {name: _digits(score) for name, score in scores},
        "frames": tube.frames.tolist(),
        "times": [_number(time, 6) for time in tube.times.tolist()],
        "boxes": np.round(tube.boxes, 3).tolist(),
        "foreground": [_digits(x) for x in tube.foreground.tolist()],
        "frame_scores": [_digits(x) for x in tube.frame_scores[:, tube.label].tolist()],
    }
    if tube.masks is not None:
        content["masks"] = tube.masks
    return content


def _number(value, decimals):
    return round(value, decimals) if math.isfinite(value) else None


def _digits(value):
    """Nine digits, which a float32 needs to come back."""
    return float(f"{value:.9g}") if math.isfinite(value) else None
