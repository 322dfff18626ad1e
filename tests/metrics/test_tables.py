"""The tables on screen: the protocol and its switches are named, and every number stands
where its heading says.
"""

import json

import numpy as np
import pytest

from claus.metrics import floor
from claus.metrics.capsule import Switches, VideoOverlap, evaluate, evaluation_clips
from claus.metrics.tables import capsule_table


def result(scores=True, switches=None, pixels=(10, 6)):
    """Class `a`: IoU 1, class right. Class `b`: a frame of IoU .6 and one of 0, class
    wrong. Class `c`: absent.
    """
    videos = []
    for label, n_hit in enumerate(pixels):
        frames = 1 + label
        video = VideoOverlap.empty(str(label), label, frames, 3 if scores else None)
        for clip, frames_T in enumerate(evaluation_clips(frames)):
            gt = np.ones((8, 1, 10), bool)
            pred = (np.arange(10) < n_hit) & (frames_T == 0)[:, None, None]
            video.add_clip(clip, frames_T, pred, gt, [1, 0, 0] if scores else None)
        videos.append(video)
    return evaluate(videos, ("a", "b", "c"), switches or Switches(crop="224x296"))


def a_floor(switches=None):
    return floor.to_dict(floor.Rectangle(0.75, 0.4), result(False, switches, (1, 1)))


def rows_of(table):
    """First words of a line -> its numbers."""
    rows = {}
    for line in filter(None, table.splitlines()):
        head, *cells = [cell for cell in line.split("  ") if cell]
        rows.setdefault(head, [cell.strip() for cell in cells])
    return rows


def test_overall_numbers():
    rows = rows_of(capsule_table(result().to_dict(), a_floor()))
    assert rows["IoU at least"] == [".1", ".2", ".3", ".5", ".75", ".5:.95"]
    assert rows["f-mAP"] == [
        "75.0",
        "75.0",
        "75.0",
        "75.0",
        "50.0",
        "57.5",
    ]  # a: 1 ten times; b: .5 at .5 .55 .6
    assert rows["f-mAP, class-aware"] == ["50.0"] * 6
    assert rows["f-mAP, floor"] == ["75.0", "0.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows["v-mAP"] == [
        "100.0",
        "100.0",
        "100.0",
        "50.0",
        "50.0",
        "50.0",
    ]  # b: 6 of 20 pixels
    assert rows["accuracy"] == ["50.0"]


def test_per_class_numbers():
    rows = rows_of(capsule_table(result().to_dict(), a_floor()))
    assert rows["class"] == [
        "videos",
        "frames",
        "accuracy",
        "f@.5",
        "v@.2",
        "v@.5",
        "f@.5 aware",
        "v@.5 aware",
        "f@.5 floor",
        "v@.2 floor",
        "v@.5 floor",
    ]
    assert rows["a"] == [
        "1",
        "1",
        "100.0",
        "100.0",
        "100.0",
        "100.0",
        "100.0",
        "100.0",
        "0.0",
        "0.0",
        "0.0",
    ]
    assert rows["b"] == [
        "1",
        "2",
        "0.0",
        "50.0",
        "100.0",
        "0.0",
        "0.0",
        "0.0",
        "0.0",
        "0.0",
        "0.0",
    ]
    assert rows["c"] == ["0", "0"] + ["-"] * 9


def test_header_names_protocol_switches_and_floor():
    table = capsule_table(result().to_dict(), a_floor())
    assert table.startswith("protocol: capsule")
    words = " ".join(table.split())
    for text in (
        "crop=224x296",
        "gt=union",
        "absent_class=skip",
        "count_frames_without_gt=False",
        "class_from=kept_clips",
        "scored: 2 videos, 3 frames",
        "75% x 40%",
    ):
        assert text in words
    assert max(map(len, table.splitlines())) <= 120


def test_same_table_after_a_trip_through_json():
    dicts = result().to_dict(), a_floor()
    assert capsule_table(*json.loads(json.dumps(dicts))) == capsule_table(*dicts)


def test_without_classes_and_floor():
    table = capsule_table(result(scores=False).to_dict())
    assert "aware" not in table and "floor" not in table
    assert rows_of(table)["accuracy"] == ["-"] and rows_of(table)["b"] == [
        "1",
        "2",
        "-",
        "50.0",
        "100.0",
        "0.0",
    ]


@pytest.mark.parametrize("absent_class", ["skip", "nan"])
def test_undefined_numbers_are_dashes(absent_class):
    switches = Switches(absent_class=absent_class)
    nothing = evaluate([VideoOverlap.empty("v", 0, 3)], ["a"], switches).to_dict()
    table = capsule_table(nothing)
    assert rows_of(table)["f-mAP"] == rows_of(table)["v-mAP"] == ["-"] * 6
    assert "scored: 0 videos, 0 frames; left out, without ground truth: 1" in table
    absent = rows_of(capsule_table(result(switches=switches).to_dict()))["f-mAP"]
    assert (absent == ["-"] * 6) == (absent_class == "nan")


def test_floor_under_other_switches_is_refused():
    with pytest.raises(ValueError, match="other switches"):
        capsule_table(result().to_dict(), a_floor(Switches(crop="224x224")))
