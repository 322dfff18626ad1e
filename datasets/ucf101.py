"""UCF-101-24: its corrected ground truth (pyannot.pkl) and where its videos lie on disk.

The pickle maps a name "Class/v_Class_gXX_cYY" to {"numf", "label", "annotations": [{"sf",
"ef", "label", "boxes"}]}: sf 0-based, ef exclusive, boxes (ef - sf, 4) x, y, width, height,
1-based with inclusive corners. Boxes and numf are uint8 or uint16, in which x + w would
wrap around: everything is cast to int32 before any arithmetic. Optional keys "height" and
"width" of a video give a picture size other than UCF-101's 240 x 320.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from claus.datasets.labels.annotations import (
    Annotations,
    Tube,
    Video,
    corners_from_xywh,
    int32_array,
    naming,
    safe_load,
    whole_number,
)
from claus.datasets.labels.name_list import Names, find_names
from claus.datasets.layouts import Survey, find_below, scan_below, survey_below
from claus.utils.runtime import UserError

CLASSES = (
    "Basketball",
    "BasketballDunk",
    "Biking",
    "CliffDiving",
    "CricketBowling",
    "Diving",
    "Fencing",
    "FloorGymnastics",
    "GolfSwing",
    "HorseRiding",
    "IceDancing",
    "LongJump",
    "PoleVault",
    "RopeClimbing",
    "SalsaSpin",
    "SkateBoarding",
    "Skiing",
    "Skijet",
    "SoccerJuggling",
    "Surfing",
    "TennisSwing",
    "TrampolineJumping",
    "VolleyballSpiking",
    "WalkingWithDog",
)
NAME, DATA, ANSWERS = "ucf101-24", "data/UCF101", "boxes"
TRUTH = "pyannot.pkl"
# V and A of a cycle (paper): 114 videos and 989 frames
VIDEOS_PERCENT, FRAMES_PERCENT = "5", "5"
CROPS = ("wide", "square", "whole", "letterbox")  # of clips.geometry.GEOMETRY
SPLITS = ()  # a list of test videos instead
HEIGHT, WIDTH = 240, 320
# folders that may lie between the root and <Class>/<name>.avi
LAYOUTS = ("", "UCF-101", "UCF101_Videos", "videos")


def read_ground_truth(
    pickle_path: str | Path,
    test_list: str | Path | None = None,
    part: str = "all",
    split: None = None,
) -> Annotations:
    """Dense ground truth: every frame of every video is labeled (no tube in it = no action
    there).

    pickle_path: pyannot.pkl, or a file of the same form. test_list: text file, one test
    video a line, see labels/name_list.py. part: "test" takes the
    listed videos, "train" the others, "all" both. Returns Annotations, videos sorted by
    name. A tube's track is its place (from 1) in the pickle's list, in the pickle's order
    (not always that of time); exact duplicates are kept. split: None, this data set has a
    list instead. Raises UserError naming file and video.
    """
    if split is not None:
        raise UserError(f"split {split!r}: {NAME} has none; give a list of test videos")
    if Path(pickle_path).suffix.lower() == ".mat":
        raise UserError(
            f"{pickle_path} is a MATLAB file, as J-HMDB has them: give --dataset jhmdb and the "
            "folder above puppet_mask/; --dataset ucf101 reads pyannot.pkl"
        )
    if Path(pickle_path).is_dir():
        raise UserError(
            f"{pickle_path} is a folder, --dataset ucf101 reads the file pyannot.pkl; "
            "give that, or --dataset jhmdb for a folder with puppet_mask/"
        )
    if part not in ("train", "test", "all"):
        raise UserError(f"part {part!r}: give train, test or all")
    if part != "all" and test_list is None:
        raise UserError(
            f"the {part} part of {pickle_path} needs the list of test videos; "
            "give testlist01.txt"
        )
    truth = safe_load(pickle_path)
    with naming(str(pickle_path)):
        named = isinstance(truth, dict) and all(isinstance(name, str) for name in truth)
        if not named or not truth:
            raise UserError(
                "is not ground truth in the pyannot form (video name -> numf, label, "
                "annotations); give the corrected UCF-101-24 annotations, pyannot.pkl"
            )
        # the names are numpy's string type
        truth = {str(name): entry for name, entry in truth.items()}
        classes = classes_of({name: _get(truth[name], "label", name) for name in truth})
    names = sorted(truth)
    if test_list is not None:
        listed = _read_list(test_list, truth, pickle_path)
        if part != "all":
            names = [name for name in names if (name in listed) == (part == "test")]
    with naming(str(pickle_path)):
        return Annotations(NAME, classes, {name: _video(name, truth[name]) for name in names})


def _video(name, entry):
    """Video, all its frames labeled, from one entry of the pickle."""
    frames, label, tubes = (_get(entry, key, name) for key in ("numf", "label", "annotations"))
    with naming(f"video {name}"):
        frames, label = whole_number(frames, "numf", least=1), whole_number(label, "label")
        if not isinstance(tubes, list | tuple):
            raise UserError(f"annotations is a {type(tubes).__name__}; give a list of tubes")
        tubes = tuple(_tube(tube, i + 1, frames, label) for i, tube in enumerate(tubes))
    size = entry.get("height", HEIGHT), entry.get("width", WIDTH)
    return Video(name, frames, *size, label, np.arange(frames), tubes)


def _tube(entry, track, numf, label):
    """Tube from {"sf", "ef", "label", "boxes"}; numf and label are its video's."""
    if not isinstance(entry, dict) or not {"sf", "ef", "label", "boxes"} <= entry.keys():
        raise UserError(
            f"tube {track} lacks the keys sf, ef, label, boxes; use the corrected annotations"
        )
    start = whole_number(entry["sf"], f"tube {track}: sf")
    end = whole_number(entry["ef"], f"tube {track}: ef")
    if not start < end <= numf:
        raise UserError(
            f"tube {track} covers frames {start} to {end} (exclusive) of {numf}; "
            "correct sf, ef or numf"
        )
    if whole_number(entry["label"], f"tube {track}: label") != label:
        raise UserError(
            f"tube {track} has label {entry['label']}, the video {label}; a video has one class"
        )
    boxes = int32_array(entry["boxes"], f"tube {track}: boxes", (None, 4))
    if len(boxes) != end - start:
        raise UserError(
            f"tube {track} has {len(boxes)} boxes for the {end - start} frames {start} "
            f"to {end} (exclusive); give one box a frame"
        )
    return Tube(label, track, np.arange(start, end), corners_from_xywh(boxes, one_based=True))


def _get(entry, key, name):
    """entry[key] of the video `name`; UserError where it is missing."""
    if not isinstance(entry, dict) or key not in entry:
        raise UserError(
            f"video {name}: has no '{key}'; use the corrected annotations, pyannot.pkl"
        )
    return entry[key]


def classes_of(labels: Mapping[str, int]) -> tuple[str, ...]:
    """Class names in label order, from name -> label: the folder in front of a video's name
    is its class.

    Any part of UCF-101-24 keeps all 24 classes. Elsewhere labels count from 0 without a
    gap. Raises UserError.
    """
    folder_of, label_of = {}, {}
    for name, label in labels.items():
        label = whole_number(label, f"video {name}: label")
        folder, slash, _ = name.partition("/")
        if not folder or not slash:
            raise UserError(f"video {name}: has no class folder in front; name it Class/{name}")
        if folder_of.setdefault(label, folder) != folder:
            raise UserError(
                f"video {name}: label {label} is {folder_of[label]} in other videos; "
                "correct the label"
            )
        if label_of.setdefault(folder, label) != label:
            raise UserError(
                f"video {name}: has label {label}, other videos of {folder} have "
                f"{label_of[folder]}; correct the label"
            )
    if folder_of.items() <= dict(enumerate(CLASSES)).items():
        return CLASSES
    if max(folder_of) >= len(folder_of):
        name = max(labels, key=labels.get)
        raise UserError(
            f"video {name}: unknown label {labels[name]}; the {len(folder_of)} classes "
            f"of this file have labels 0 to {len(folder_of) - 1}"
        )
    return tuple(folder_of[label] for label in range(len(folder_of)))


def _read_list(path, truth, pickle_path):
    """Set of the video names in a test list; UserError where the file or a video is missing."""
    where, fix = f"of {pickle_path}", "give the list that belongs to it, testlist01.txt"
    names = Names(truth)
    return set(find_names(path, names, what="list of test videos", where=where, fix=fix))


# --------------------------------------------------------------------------- videos on disk


def find_video(root: str | Path, name: str) -> Path:
    """Path of a video, `<root>/<layout>/<name>.avi` for the first of LAYOUTS that has it;
    UserError otherwise.
    """
    return find_below(root, name, LAYOUTS)


def scan_videos(root: str | Path, any_folder: bool = False) -> list[str]:
    """Sorted names "Class/v_Class_gXX_cYY" of the videos in the first of LAYOUTS that has any
    .avi; any_folder, and what else: see layouts.survey_below. UserError if none.
    """
    return scan_below(root, LAYOUTS, any_folder=any_folder)


def survey_videos(root: str | Path, any_folder: bool = False) -> Survey:
    """scan_videos, with what was passed over."""
    return survey_below(root, LAYOUTS, any_folder=any_folder)
