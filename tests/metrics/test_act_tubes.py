"""Overlap of tubes and the suppression of doubles, by hand and against the slow program."""

import numpy as np
import pytest

from claus.metrics import boxes as act_boxes
from claus.metrics.tubes import Tube, tube_iou, tube_nms, tube_overlaps, tube_rows
from claus.reference import metrics as slow

A, B = (0, 0, 9, 9), (5, 0, 14, 9)  # IoU 1/3


def tube(frames, box, score=None, video=0, label=0):
    return Tube(
        video, label, np.array(frames), np.tile(np.array(box, float), (len(frames), 1)), score
    )


def test_iou_by_hand():
    assert tube_iou(tube([1, 2, 3], A), tube([1, 2, 3], A)) == 1
    assert tube_iou(tube([1, 2, 3], A), tube([2, 3, 4], A)) == 0.5  # 2 shared frames of 4
    assert tube_iou(tube([0, 1], A), tube([1, 2], B)) == pytest.approx(
        1 / 9
    )  # 1/3 on 1 frame of 3
    assert tube_iou(tube([0, 1], A), tube([2, 3], A)) == 0  # no shared frame
    assert tube_iou(tube([5], A), tube([5], B)) == pytest.approx(1 / 3)  # one frame each
    assert tube_iou(tube([0, 9], A), tube([0, 5, 9], A)) == pytest.approx(
        2 / 3
    )  # gaps: frames are sets
    assert (
        tube_iou((0, 0, [0], [A]), ("other", 3, [0], [A], 0.5)) == 1
    )  # tuples; video and class are ignored
    assert tube_iou(
        tube([0], (0, 0, 9, 9)), tube([0], (0, 0, 9, 4)), plus_one=False
    ) == pytest.approx(4 / 9)


def random_tubes(rng, n):
    tubes = []
    for _ in range(n):
        frames = np.flatnonzero(rng.random(6) < 0.6)
        frames = frames if len(frames) else np.array([2])
        low = rng.integers(0, 4, (len(frames), 2))
        boxes = np.concatenate([low, low + rng.integers(0, 6, (len(frames), 2))], axis=1)
        tubes.append(
            Tube(
                int(rng.integers(2)),
                int(rng.integers(2)),
                frames,
                boxes,
                int(rng.integers(4)) / 4,
            )
        )
    return tubes


def as_slow(tube):
    boxes = {int(f): tuple(map(int, b)) for f, b in zip(tube.frames, tube.boxes, strict=True)}
    return tube.video, tube.label, boxes, tube.score


@pytest.mark.parametrize("max_pairs", [3, 40, 1 << 20])
@pytest.mark.parametrize("plus_one", [True, False])
def test_overlaps_equal_the_slow_program(monkeypatch, max_pairs, plus_one):
    monkeypatch.setattr(act_boxes, "MAX_PAIRS", max_pairs)
    rng = np.random.default_rng(0)
    for _ in range(10):
        one, two = (
            random_tubes(rng, rng.integers(0, 12)),
            random_tubes(rng, rng.integers(0, 12)),
        )
        a, b = tube_rows(one, True), tube_rows(two, True)
        found = [(i, j, v) for i, j, v in zip(*tube_overlaps(a, b, plus_one), strict=True)]
        ious = {
            (i, j): float(slow.tube_iou(as_slow(s)[2], as_slow(t)[2], int(plus_one)))
            for i, s in enumerate(one)
            for j, t in enumerate(two)
            if s[:2] == t[:2]
        }
        ious = {pair: iou for pair, iou in ious.items() if iou}
        assert [pair[:2] for pair in found] == sorted(ious)
        np.testing.assert_allclose(
            [pair[2] for pair in found], [ious[pair] for pair in sorted(ious)], atol=1e-11
        )
        both = {(i, j): v for i, j, v in zip(*tube_overlaps(a, a, plus_one), strict=True)}
        once = {
            (i, j): v
            for i, j, v in zip(*tube_overlaps(a, a, plus_one, later_only=True), strict=True)
        }
        assert once == {pair: v for pair, v in both.items() if pair[0] < pair[1]}


@pytest.mark.parametrize("max_pairs", [5, 1 << 20])
def test_suppression_equals_the_slow_program(monkeypatch, max_pairs):
    monkeypatch.setattr(act_boxes, "MAX_PAIRS", max_pairs)
    rng = np.random.default_rng(1)
    for _ in range(30):
        tubes = random_tubes(rng, rng.integers(0, 20))
        for threshold in (0.1, 0.25, 0.5):
            kept = [as_slow(tubes[i]) for i in tube_nms(tubes, threshold)]
            assert kept == slow.tube_nms([as_slow(tube) for tube in tubes], threshold)


def test_suppression_by_hand():
    near = (1, 0, 10, 9)  # IoU with A 90/110, with B 60/140
    tubes = [
        tube([0], A, 0.7),
        tube([0], near, 0.8),
        tube([0], B, 0.6),
        tube([0], A, 0.9, video=1),
    ]
    assert tube_nms(tubes, 0.5).tolist() == [1, 2, 3]  # another video is no rival
    assert tube_nms(tubes, 0.3).tolist() == [1, 3]
    assert tube_nms([t._replace(label=i) for i, t in enumerate(tubes)], 0.3).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_the_suppressed_suppress_nobody():
    """B overlaps A and C; A removes B, so C stays."""
    tubes = [
        tube([0], (0, 0, 9, 9), 0.9),
        tube([0], (4, 0, 13, 9), 0.8),
        tube([0], (8, 0, 17, 9), 0.7),
    ]
    assert tube_nms(tubes, 0.3).tolist() == [0, 2]


def test_overlap_equal_to_the_threshold_is_kept_and_ties_go_to_the_first():
    tubes = [tube([0, 1], A, 0.5), tube([1], A, 0.5)]  # IoU 1/2
    assert tube_nms(tubes, 0.5).tolist() == [0, 1]
    assert tube_nms(tubes, 0.49).tolist() == [0]
    assert tube_nms(tubes[::-1], 0.49).tolist() == [0]
    third = [
        tube(range(7), (0, 0, 9, 9), 0.5),
        tube(range(7), (0, 0, 9, 2), 0.4),
    ]  # seven times .3
    assert tube_nms(third, 0.3).tolist() == [0, 1]


def test_no_tubes():
    assert tube_nms([]).tolist() == []
    assert [
        part.tolist()
        for part in tube_overlaps(tube_rows([], False), tube_rows([tube([0], A)], False))
    ] == [[]] * 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tube([0, 1], A, np.nan), r"tube 1 \(video 0, class 0\): score nan is not finite"),
        (tube([0, 1], A, None), r"tube 1 \(video 0, class 0\) has no score"),
        (
            tube([0, 1], (0, 0, np.nan, 9), 1),
            r"tube 1 \(video 0, class 0\), frame 0: box .*nan.* is not finite",
        ),
        (
            tube([1, 1], A, 1),
            r"tube 1 \(video 0, class 0\): frames are not strictly increasing",
        ),
        (tube([], A, 1), r"tube 1 \(video 0, class 0\): give at least one frame"),
        (
            tube([0], A, 1)._replace(boxes=np.zeros((2, 4))),
            r"give at least one frame, and a box .* for each",
        ),
        (
            tube([0], A, 1, label=-1),
            r"tube 1 \(video 0, class -1\): label -1; classes count from 0",
        ),
        (tube([0.5], A, 1), "frames of the tubes: give 2 whole numbers"),
    ],
)
def test_what_is_not_a_tube_is_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        tube_rows([tube([0], A, 0.5), bad], scored=True)
