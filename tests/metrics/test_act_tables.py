"""The table of the `act` protocol: names and switches, numbers under their headings,
nothing mixed.
"""

import json

import numpy as np
import pytest

from claus.metrics.act import frame_ap, video_ap
from claus.metrics.boxes import Boxes
from claus.metrics.capsule import VideoOverlap, evaluate
from claus.metrics.tables import act_table, capsule_table
from claus.metrics.tubes import Tube

CLASSES = ("a", "b", "c")
WHOLE, PART = [0, 0, 19, 0], [0, 0, 6, 0]  # IoU .35


def results(made_by=None, linked_by=None, **switches):
    """Class a: a box found exactly, another at IoU .35, the tube at their mean .675. b:
    missed. c: absent.
    """
    truth = Boxes.from_rows(
        [[0, 0, 0, *WHOLE], [0, 1, 0, *WHOLE], [0, 0, 1, *WHOLE]], scored=False
    )
    found = Boxes.from_rows([[0, 0, 0, 0.9, *WHOLE], [0, 1, 0, 0.8, *PART]], scored=True)
    tubes = [Tube(0, 0, [0, 1], [WHOLE, WHOLE]), Tube(0, 1, [0], [WHOLE])]
    frame = frame_ap(truth, found, CLASSES, made_by=made_by, **switches)
    video = video_ap(
        tubes,
        [Tube(0, 0, [0, 1], [WHOLE, PART], 0.8)],
        CLASSES,
        **switches,
        made_by={**(made_by or {}), **(linked_by or {})},
    )
    return frame.to_dict(), video.to_dict()


def rows_of(table):
    rows = {}
    for line in filter(None, table.splitlines()):
        head, *cells = [cell for cell in line.split("  ") if cell]
        rows.setdefault(head, [cell.strip() for cell in cells])
    return rows


def test_numbers_stand_under_their_headings():
    rows = rows_of(act_table(*results()))
    assert rows["IoU at least"] == [".1", ".2", ".3", ".5", ".75", ".5:.95"]
    assert rows["frame-mAP"] == ["50.0", "50.0", "50.0", "25.0", "25.0", "25.0"]
    assert rows["video-mAP"] == [
        "50.0",
        "50.0",
        "50.0",
        "50.0",
        "0.0",
        "20.0",
    ]  # hits at .5 .55 .6 .65
    assert rows["class"] == [
        "boxes",
        "found",
        "tubes",
        "found",
        "frame@.5",
        "video@.2",
        "video@.5",
    ]
    assert rows["a"] == ["2", "2", "1", "1", "50.0", "100.0", "100.0"]
    assert rows["b"] == ["1", "0", "1", "0", "0.0", "0.0", "0.0"]
    assert rows["c"] == ["0", "0", "0", "0", "-", "-", "-"]


def test_header_names_protocol_and_switches():
    table = act_table(*results({"threshold": 0.5}, {"link": {"max_gap": 5}}, strict=True))
    assert table.startswith("protocol: act")
    words = " ".join(table.split())
    for text in (
        "plus_one=True",
        "strict=True",
        "voc_matching=False",
        "envelope=False",
        "all_classes=False",
        "nms=0.3",
        "made_by.threshold=0.5",
        "made_by.link.max_gap=5",
        "scored: 2 boxes against 3",
        "1 tubes against 2",
    ):
        assert text in words
    assert "IoU above" in table and "IoU at least" not in table
    assert max(map(len, table.splitlines())) <= 120


def test_same_table_after_a_trip_through_json():
    pair = results()
    assert act_table(*json.loads(json.dumps(pair))) == act_table(*pair)


def test_what_was_not_computed_is_a_dash():
    nothing = Boxes.from_rows([], False), Boxes.from_rows([], True)
    rows = rows_of(
        act_table(
            frame_ap(*nothing, CLASSES, (0.5,)).to_dict(), video_ap([], [], CLASSES).to_dict()
        )
    )
    assert rows["frame-mAP"] == rows["video-mAP"] == ["-"] * 6
    truth = Boxes.from_rows([[0, 0, 0, *WHOLE]], False)
    rows = rows_of(
        act_table(frame_ap(truth, nothing[1], CLASSES, (0.5,)).to_dict(), results()[1])
    )
    assert rows["frame-mAP"] == ["-", "-", "-", "0.0", "-", "-"]


def test_nothing_is_mixed():
    frame, video = results()
    with pytest.raises(ValueError, match="another envelope"):
        act_table(frame, results(envelope=True)[1])
    with pytest.raises(ValueError, match="another made_by.threshold"):
        act_table(results({"threshold": 0.5})[0], results({"threshold": 0.4})[1])
    with pytest.raises(ValueError, match="needs a frame-AP and a video-AP"):
        act_table(frame, frame)
    with pytest.raises(ValueError, match="other classes"):
        act_table(frame, {**video, "per_class": video["per_class"][:2]})
    capsule = evaluate([VideoOverlap("v", 0, *np.ones((3, 1), int))], CLASSES).to_dict()
    with pytest.raises(ValueError, match="act cannot show numbers of the protocol capsule"):
        act_table(capsule, capsule)
    with pytest.raises(ValueError, match="capsule cannot show numbers of the protocol act"):
        capsule_table(frame)
    with pytest.raises(ValueError, match="capsule cannot show numbers of the protocol act"):
        capsule_table(capsule, frame)
