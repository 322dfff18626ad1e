"""The field's list format: what is read from it, what is written to it, and what a round
trip loses.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from test_annotations import same, videos

from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.labels.list_format import from_records, to_records
from claus.losses.stew import clip_weight
from claus.utils.runtime import UserError
from claus.utils.safe_pickle import safe_load

SIZES = {"A/v": (20, 240, 320), "B/w": (9, 240, 320)}


def dense(start, end, dtype=np.uint8):
    """Boxes x, y, w, h = frame, 2, 250, 10 for frames start to end (inclusive), in a type
    where x + w wraps.
    """
    return np.array([[frame, 2, 250, 10] for frame in range(start, end + 1)], dtype)


def test_only_really_labeled_frames_are_kept():
    records = [
        ("A/v", [(4, 12, 0, dense(4, 12), [6, 12]), (0, 19, 0, dense(0, 19), np.array([6]))]),
        ("B/w", []),
    ]
    annotations = from_records(records, ("A", "B"), SIZES, "x")
    video = annotations.videos["A/v"]
    assert video.label == 0 and video.labeled_frames.tolist() == [6, 12]
    assert [tube.frames.tolist() for tube in video.tubes] == [[6, 12], [6]]
    assert video.tubes[0].boxes.tolist() == [[6, 2, 256, 12], [12, 2, 262, 12]]  # 256: no wrap
    assert not annotations.videos["B/w"].is_labeled
    assert annotations.counts() == {"videos": 1, "frames": 2, "boxes": 3}


def test_tubes_that_are_not_labeled_are_left_out():
    records = [
        ("A/v", [(14, 19, 0, dense(14, 19), [16], 0), (0, 2, 0, dense(0, 2), [1], 1)]),
        ("B/w", [(0, 3, 1, dense(0, 3), []), (0, 3, 1, dense(0, 3), [2], 0)]),
    ]
    annotations = from_records(records, ("A", "B"), SIZES, "x")
    assert [(t.track, t.frames.tolist()) for t in annotations.videos["A/v"].tubes] == [(2, [1])]
    assert not annotations.videos["B/w"].is_labeled and annotations.videos["B/w"].label is None


def test_of_a_tube_that_is_not_labeled_only_the_time_is_looked_at():
    """Neither class nor boxes nor labeled frames, be they what they may."""
    nonsense = [
        (15, 19, "x", dense(0, 1), [99], 0),
        (15, 19, 7, None, None, 0),
        (15, 19, -1, dense(0, 1), []),
    ]
    videos = [
        from_records(
            [("A/v", [(0, 2, 0, dense(0, 2), [1]), tube])], ("A", "B"), SIZES, "x"
        ).videos["A/v"]
        for tube in nonsense
    ]
    assert [
        (video.label, video.labeled_frames.tolist(), len(video.tubes)) for video in videos
    ] == [(0, [1], 1)] * 3


@pytest.mark.parametrize(
    "hidden", [(12, 14, 1, None, None, 0), (12, 14, 1, None, [])], ids=["flag 0", "no frame"]
)
def test_frames_near_a_tube_that_is_not_labeled_are_dropped(hidden):
    """Else its actor would be learnt as background: no clip gives weight to a frame that it
    is in.
    """
    sizes = {"A/v": (40, 240, 320)}
    records = [
        (
            "A/v",
            [(0, 39, 0, dense(0, 39), range_of(0, 39)), hidden, (5, 9, 0, dense(5, 9), [5, 9])],
        )
    ]
    video = from_records(records, ("A", "B"), sizes, "x").videos["A/v"]
    assert video.labeled_frames.tolist() == [
        0,
        1,
        2,
        3,
        *range(23, 40),
    ]  # more than 8 frames from 12 to 14
    assert [tube.track for tube in video.tubes] == [1]
    weight = clip_weight(np.zeros((8, 1, 1), np.uint8), video.labeled_frames, np.arange(10, 18))
    assert not weight[2:5].any()
    all_near = from_records(
        [("A/v", [(5, 9, 0, dense(5, 9), [5, 9]), hidden])], ("A", "B"), sizes, "x"
    ).videos["A/v"]
    assert not all_near.is_labeled and all_near.label is None


def range_of(first, last):
    return list(range(first, last + 1))


def test_one_based_boxes():
    records = [("A/v", [(0, 0, 0, np.array([[1, 1, 319, 239]], np.uint16), [0])])]
    assert from_records(records, ("A",), SIZES, "x", one_based=True).videos["A/v"].tubes[
        0
    ].boxes.tolist() == [[0, 0, 320, 240]]
    assert from_records(records, ("A",), SIZES, "x").videos["A/v"].tubes[0].boxes.tolist() == [
        [1, 1, 320, 240]
    ]


@pytest.mark.parametrize(
    "records, words",
    [
        ([("C/u", [])], "video C/u: its length and size are not known"),
        ([("A/v", []), ("A/v", [])], "video A/v is listed twice"),
        (
            [("A/v", [(4, 12, 0, dense(4, 11), [6])])],
            "video A/v: tube 1 has 8 boxes for frames 4 to 12 inclusive; give 9",
        ),
        (
            [("A/v", [(4, 12, 0, dense(4, 12), [0])])],
            "labeled at frames 0 to 0, outside 4 to 12",
        ),
        ([("A/v", [(4, 12, 0, dense(4, 12))])], "tube 1 is not"),
        (
            [("A/v", [(15, 20, 0, dense(15, 20), [20])])],
            "labeled frame 20 is not in the video",
        ),
        ([("A/v", [(0, 0, 2, dense(0, 0), [0])])], "label 2 is not a class"),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), [0]), (0, 0, 1, dense(0, 0), [0])])],
            "tubes of several classes",
        ),
        ([("A/v", [(0, 0, 0, [[300, 2, 250, 10]], [0])])], "extends outside the picture"),
        ([("A/v", [(0, 0, 0, [[3, 2, 0, 10]], [0])])], "has no area"),
        (
            [("A/v", [(0, 0, 0, [[3, 2, 4]], [0])])],
            r"video A/v: tube 1: boxes have shape \(1, 3\)",
        ),
        (["A/v"], "not the list format"),
        ([("A/v", None)], "video A/v: its tubes are a NoneType; give a list"),
        ([("A/v", 3)], "video A/v: its tubes are a int; give a list"),
        ([("A/v", [None])], "video A/v: tube 1 is not .*: it is a NoneType; give these"),
        ([("A/v", [(0, 0)])], "video A/v: tube 1 is not .*: it has 2 fields; give these"),
        ([("A/v", [(0, 0, 0, None, [0])])], "video A/v: tube 1: boxes is None; give an array"),
        (
            [("A/v", [(0, 0, 0, np.arange(4), [0])])],
            r"video A/v: tube 1: boxes have shape \(4,\); expected \(any, 4\)",
        ),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), 0)])],
            "video A/v: tube 1: labeled_frames is 0; give an array",
        ),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), None)])],
            "video A/v: tube 1: labeled_frames is None; give an array",
        ),
        (
            [("A/v", [(None, 0, 0, dense(0, 0), [0])])],
            "video A/v: tube 1: start is None; give a whole number",
        ),
        (
            [("A/v", [(0, 0, None, dense(0, 0), [0])])],
            "video A/v: tube 1: label is None; give a whole number",
        ),
        (
            [("A/v", [(5, 3, 0, dense(5, 3), [4])])],
            "video A/v: tube 1 ends at frame 3, before its start 5",
        ),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), [0], "yes")])],
            "video A/v: tube 1: the sixth field is a str; give 1",
        ),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), [0], 2)])],
            "video A/v: tube 1: the sixth field is 2; give 1",
        ),
        (
            [("A/v", [(0, 0, 0, dense(0, 0), [0], np.ones(2))])],
            "tube 1: the sixth field is a ndarray; give 1",
        ),
    ],
)
def test_bad_records_are_refused_by_name(records, words):
    with pytest.raises(UserError, match=words) as error:
        from_records(records, ("A", "B"), SIZES, "x")
    assert "\n" not in str(error.value)


def example():
    tubes = (
        Tube(0, 3, [2, 4, 8], [[0, 0, 10, 10], [4, 0, 15, 11], [4, 8, 15, 21]]),
        Tube(0, 7, [8], [[1, 2, 3, 4]]),
    )
    videos = {
        "A/v": Video("A/v", 20, 240, 320, 0, [2, 4, 6, 8], tubes),  # 6: labeled, no actor
        "B/w": Video("B/w", 9, 240, 320, 1, [5]),
    }  # labeled, no action
    return Annotations("x", ("A", "B"), videos)


def test_written_boxes_are_dense_and_linear():
    (name, tubes), rest = to_records(example())
    start, end, label, boxes, labeled = tubes[0]
    assert (name, start, end, label) == ("A/v", 2, 8, 0) and labeled.tolist() == [2, 4, 8]
    assert boxes.tolist() == [
        [0, 0, 10, 10],
        [2, 0, 11, 11],
        [4, 0, 11, 11],
        [4, 2, 11, 12],
        [4, 4, 11, 12],
        [4, 6, 11, 13],
        [4, 8, 11, 13],
    ]  # by hand; .5 goes up: 12.5 -> 13, 10.5 -> 11
    assert boxes.dtype == np.int32
    assert tubes[1][:3] == (8, 8, 0) and tubes[1][3].tolist() == [[1, 2, 2, 2]]
    assert rest == ("B/w", [])


def test_a_box_of_one_pixel_never_loses_its_area():
    """Rounding half to even would give x0 = x1 = 2 at 1.5 and 2.5."""
    tube = Tube(0, 1, [0, 2], [[1, 0, 2, 1], [2, 1, 3, 2]])
    annotations = Annotations(
        "x", ("A",), {"A/v": Video("A/v", 20, 240, 320, 0, [0, 2], (tube,))}
    )
    assert to_records(annotations)[0][1][0][3].tolist() == [
        [1, 0, 1, 1],
        [2, 1, 1, 1],
        [2, 1, 1, 1],
    ]


def test_what_a_round_trip_loses_is_what_the_docstring_says():
    again = from_records(to_records(example()), ("A", "B"), SIZES, "x")
    video = again.videos["A/v"]
    assert video.labeled_frames.tolist() == [
        2,
        4,
        8,
    ]  # the labeled frame without action is lost
    assert not again.videos["B/w"].is_labeled and again.videos["B/w"].label is None
    assert [tube.track for tube in video.tubes] == [1, 2]
    for new, old in zip(video.tubes, example().videos["A/v"].tubes, strict=True):
        assert (
            new.frames.tolist() == old.frames.tolist()
            and new.boxes.tolist() == old.boxes.tolist()
        )
    for lost in ("labeled frames without action", "track", "absent"):
        assert lost in from_records.__doc__


@settings(max_examples=60, deadline=None)
@given(videos())
def test_actors_come_back_exactly(one):
    """What the list format can say at all (one class, frames with an actor) survives; a
    second trip loses nothing.
    """
    tubes = tuple(Tube(1, tube.track, tube.frames, tube.boxes) for tube in one.tubes)
    one = Video(
        one.name,
        one.frames,
        one.height,
        one.width,
        1 if one.is_labeled else None,
        one.labeled_frames,
        tubes,
    )
    sizes = {one.name: (one.frames, one.height, one.width)}
    first = from_records(
        to_records(Annotations("x", ("a", "b"), {one.name: one})), ("a", "b"), sizes, "x"
    )
    got = first.videos[one.name]
    assert [(t.frames.tolist(), t.boxes.tolist()) for t in got.tubes] == [
        (t.frames.tolist(), t.boxes.tolist()) for t in tubes
    ]
    assert got.labeled_frames.tolist() == sorted({f for t in tubes for f in t.frames.tolist()})
    assert same(from_records(to_records(first), ("a", "b"), sizes, "x"), first)


def test_masks_cannot_be_written():
    masked = Video("A/v", 3, 4, 4, 0, [1], (Tube(0, 1, [1], None, np.ones((1, 4, 4), bool)),))
    with pytest.raises(UserError, match="video A/v: tube 1 has masks"):
        to_records(Annotations("x", ("A",), {"A/v": masked}))


def test_records_survive_a_pickle(tmp_path):
    import pickle

    (tmp_path / "old.pkl").write_bytes(pickle.dumps(to_records(example()), protocol=2))
    again = from_records(safe_load(tmp_path / "old.pkl"), ("A", "B"), SIZES, "x")
    assert again.counts() == {"videos": 1, "frames": 3, "boxes": 4}
