"""Proposals in the pixels of the video, and labels for a second look."""

import json

import numpy as np
import pytest

from claus.artifacts.cycle import Run
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.labels.masks import decode_rle, encode_rle
from claus.datasets.labels.segment import Segment
from claus.steps import proposals
from claus.steps.second_look import SHOWN, compare, disagreements, write_review

LABELED = Tube(0, 1, [4, 9], [[10, 10, 20, 30], [12, 10, 22, 30]])


def actor(box, name="run"):
    return {"box": box, "class": name, "score": 0.9}


def labels_of(*videos):
    return Annotations("own", ("run", "jump"), {video.name: video for video in videos})


@pytest.mark.parametrize("geometry", (("small", "whole"), ("small", "letterbox")))
@pytest.mark.parametrize("size", ((120, 160), (160, 90)))
def test_a_region_of_the_map_lies_where_the_video_has_it(geometry, size):
    """A box painted on the video, seen by a perfect network, comes back."""
    geometry, video = GEOMETRY[geometry], Video("a", 30, *size)
    box = np.array([20, 30, 70, 90])
    centers = np.stack(np.meshgrid(*[np.arange(64) + 0.5] * 2), axis=-1)
    x, y = np.moveaxis(geometry.to_video(centers, *size), -1, 0)
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    probs = np.where(inside, 0.9, 0.1)
    pixel = max(size) / 64
    (found,) = proposals._actors(probs, video, geometry, "boxes")
    assert np.abs(np.array(found["box"]) - box).max() <= pixel + 0.5
    assert found["score"] == pytest.approx(0.9)
    (masked,) = proposals._actors(probs, video, geometry, "masks")
    mask = decode_rle(masked["rle"])
    assert mask.shape == size
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    bounds = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert masked["box"] == bounds
    assert np.abs(np.array(bounds) - box).max() <= pixel + 0.5


def test_a_map_that_sees_nothing_gives_nothing():
    geometry, video = GEOMETRY["small", "letterbox"], Video("a", 30, 160, 90)
    for kind in ("boxes", "masks"):
        assert proposals._actors(np.full((64, 64), 0.4), video, geometry, kind) == []


def test_predictions_are_read_as_they_were_written(tmp_path):
    found = {"a b/c": {4: [actor([1, 2, 3, 4])], 9: []}, "unreadable": {}}
    proposals.save_predictions(found, tmp_path / "proposals.json")
    assert proposals.load_predictions(tmp_path / "proposals.json") == found


def test_agreement_of_boxes_of_masks_and_of_no_action():
    video = Video("a", 20, 60, 60, 0, [4, 9, 15], (LABELED,))
    assert compare(video, 4, [actor([10, 10, 20, 30])]) == 1
    assert compare(video, 9, [actor([12, 10, 22, 20])]) == pytest.approx(0.5)
    assert compare(video, 15, []) == 1
    assert compare(video, 15, [actor([1, 1, 5, 5])]) == 0
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 10:20, 10:20] = True
    masked = Video("b", 20, 60, 60, 0, [4], (Tube(0, 1, [4], None, mask),))
    half = {
        **actor([10, 10, 20, 15]),
        "rle": encode_rle(mask[0] & (np.arange(60) < 15)[:, None]),
    }
    assert compare(masked, 4, [half]) == pytest.approx(0.5)
    assert compare(masked, 4, []) == 0


def test_the_worst_labels_come_first_with_the_reason(tmp_path):
    segment = Video(
        "b_f000100-000149",
        50,
        60,
        60,
        1,
        [3],
        (Tube(1, 1, [3], [[0, 0, 9, 9]]),),
        Segment("b", 100, 200),
    )
    labels = labels_of(Video("a", 20, 60, 60, 0, [4, 9, 15], (LABELED,)), segment)
    found = {
        "a": {
            4: [actor([10, 10, 20, 30])],
            9: [actor([12, 10, 22, 20]), actor([40, 40, 50, 50])],
            15: [actor([1, 1, 5, 5]), actor([9, 9, 15, 15])],
        },
        segment.name: {103: [actor([0, 0, 9, 9])]},
    }
    rows = disagreements(labels, found)
    assert [(row["video"], row["frame"]) for row in rows] == [
        ("a", 15),
        ("a", 9),
        (segment.name, 103),
    ], "a label that the detector agrees with is no second look"
    assert rows[0]["why"] == "labeled 'no action here'; the detector sees 2 actors"
    assert rows[1]["why"] == "labeled 1 actor; the detector sees 2 actors"
    assert rows[2]["why"].endswith("it says run, the label jump")
    cycle = Run(tmp_path).cycle(0)
    write_review(cycle, labels, found)
    assert json.loads(cycle.review.read_text()) == rows


def test_twenty_labels_at_most(tmp_path):
    frames = list(range(40))
    tube = Tube(0, 1, frames, [[0, 0, 9, 9]] * 40)
    labels = labels_of(Video("a", 50, 60, 60, 0, frames, (tube,)))
    cycle = Run(tmp_path).cycle(0)
    assert len(write_review(cycle, labels, {"a": {f: [] for f in frames}})) == SHOWN
    assert write_review(cycle, labels, {"a": {}}) == []
    assert json.loads(cycle.review.read_text()) == []
