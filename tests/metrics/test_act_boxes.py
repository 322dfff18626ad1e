"""Boxes, their corners and IoU, pairs by key, and the two greedy rules against plain loops."""

from fractions import Fraction

import numpy as np
import pytest

from claus.metrics import boxes as act_boxes
from claus.metrics.boxes import (
    Boxes,
    box_iou,
    common_keys,
    inclusive_corners,
    pair_blocks,
    pair_iou,
    same_key_pairs,
)
from claus.metrics.greedy import suppress_in_turn, take_in_turn
from claus.reference import metrics as slow

# --- corners and IoU ----------------------------------------------------------------------


def test_iou_by_hand():
    a = [0, 0, 9, 9]  # 10 x 10 pixels, corners inclusive
    assert box_iou(a, a) == 1
    assert box_iou(a, [5, 0, 14, 9]) == 50 / 150
    assert box_iou(a, [9, 9, 9, 9]) == 1 / 100  # one pixel, the far corner
    assert box_iou(a, [10, 0, 19, 9]) == 0  # side by side, no pixel in common
    assert (
        box_iou(a, [9, 0, 19, 9], plus_one=False) == 0
    )  # without +1 the shared column has no width
    assert box_iou(a, [0, 0, 9, 4], plus_one=False) == 36 / 81
    assert (
        box_iou([5, 5, 5, 5], [5, 5, 5, 5]) == 1
        and box_iou([5, 5, 5, 5], [5, 5, 5, 5], plus_one=False) == 0
    )
    assert box_iou([5, 5, 3, 9], a) == 0  # turned inside out: no area


def test_half_open_corners_become_inclusive_without_changing_any_iou():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 20, (50, 2, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (50, 2, 2))], axis=2)
    a, b = (inclusive_corners(boxes[:, i]) for i in (0, 1))
    assert inclusive_corners([[2, 3, 10, 20]]).tolist() == [[2, 3, 9, 19]]
    np.testing.assert_array_equal(
        box_iou(a, b), box_iou(boxes[:, 0], boxes[:, 1], plus_one=False)
    )
    for one, two, iou in zip(boxes[:, 0], boxes[:, 1], box_iou(a, b), strict=True):
        one, two = (
            {(x, y) for x in range(x0, x1) for y in range(y0, y1)}
            for x0, y0, x1, y1 in (one, two)
        )
        assert iou == len(one & two) / len(one | two)  # pixels, counted


@pytest.mark.parametrize("plus_one", [True, False])
def test_iou_of_pairs_equals_the_slow_program_across_blocks(monkeypatch, plus_one):
    monkeypatch.setattr(act_boxes, "BLOCK", 7)
    rng = np.random.default_rng(1)
    boxes = rng.integers(0, 12, (30, 4))
    i, j = rng.integers(0, 30, (2, 100))
    expected = [
        float(slow.box_iou(boxes[a].tolist(), boxes[b].tolist(), int(plus_one)))
        for a, b in zip(i, j, strict=True)
    ]
    np.testing.assert_array_equal(pair_iou(boxes, boxes, i, j, plus_one), expected)


# --- pairs by key -------------------------------------------------------------------------


@pytest.mark.parametrize("max_pairs", [1, 5, 1000])
def test_pairs_are_those_of_a_double_loop(monkeypatch, max_pairs):
    monkeypatch.setattr(act_boxes, "MAX_PAIRS", max_pairs)
    rng = np.random.default_rng(2)
    for n, m in ((0, 3), (3, 0), (1, 1), (20, 15)):
        a, b = rng.integers(0, 5, n), rng.integers(0, 5, m)
        pairs = same_key_pairs(a, b)
        assert list(zip(*map(list, pairs), strict=True)) == [
            (i, j) for i in range(n) for j in range(m) if a[i] == b[j]
        ]


def test_blocks_end_at_the_edges_and_are_as_large_as_allowed(monkeypatch):
    monkeypatch.setattr(act_boxes, "MAX_PAIRS", 6)
    a, b = np.array([0, 0, 0, 1, 1, 2, 0]), np.array([0, 0, 1])  # 2 2 2 1 1 0 2 pairs
    assert [block[0].tolist() for block in pair_blocks(a, b)] == [
        [0, 0, 1, 1, 2, 2],
        [3, 4, 6, 6],
    ]
    blocks = [block[0].tolist() for block in pair_blocks(a, b, np.array([0, 2, 5, 7]))]
    assert blocks == [[0, 0, 1, 1], [2, 2, 3, 4, 6, 6]]
    blocks = [block[0].tolist() for block in pair_blocks(a, b, np.array([0, 5, 7]))]
    assert blocks == [[0, 0, 1, 1, 2, 2, 3, 4], [6, 6]]  # one stretch alone may be larger


def test_keys_are_equal_where_rows_are_and_sort_as_rows_do():
    rng = np.random.default_rng(3)
    names = np.array(["b", "a", "long name"])
    for spread in (3, 1 << 40):  # close numbers, and numbers far apart
        tables = [
            [names[rng.integers(0, 3, n)], rng.integers(-2, 3, n) * spread] for n in (30, 10)
        ]
        keys = np.concatenate(common_keys(*tables))
        rows = [
            (str(name), int(number))
            for table in tables
            for name, number in zip(*table, strict=True)
        ]
        for i, row in enumerate(rows):
            assert [key > keys[i] for key in keys] == [other > row for other in rows]
            assert [key == keys[i] for key in keys] == [other == row for other in rows]


# --- greedy rules -------------------------------------------------------------------------


def test_take_in_turn_equals_a_loop():
    rng = np.random.default_rng(4)
    for _ in range(300):
        n, m = rng.integers(1, 9, 2)
        wishes = [rng.permutation(m)[: rng.integers(0, m + 1)] for _ in range(n)]
        taken, expected = set(), []
        for wish in wishes:
            free = [int(item) for item in wish if item not in taken]
            expected.append(free[0] if free else -1)
            taken.update(free[:1])
        taker = np.repeat(np.arange(n), [len(wish) for wish in wishes])
        assert (
            take_in_turn(taker, np.concatenate(wishes).astype(int), n, m).tolist() == expected
        )


def test_suppress_in_turn_equals_a_loop():
    rng = np.random.default_rng(5)
    for _ in range(300):
        n = int(rng.integers(1, 12))
        rivals = np.triu(rng.random((n, n)) < rng.choice([0.1, 0.3, 0.7]), 1)
        kept, expected = [], []
        for j in range(n):
            above = [i for i in kept if rivals[i, j]]
            expected.append(above[0] if above else -1)
            kept += [] if above else [j]
        better, worse = np.nonzero(rivals)
        mixed = rng.permutation(len(better))
        assert suppress_in_turn(better[mixed], worse[mixed], n).tolist() == expected


# --- the container ------------------------------------------------------------------------


def test_lists_rows_and_concatenation():
    rows = [["v", 3, 1, 0.5, 0, 0, 9, 9], ["w", 4, 0, 0.25, 1, 1, 2, 2]]
    boxes = Boxes.from_rows(rows, scored=True)
    same = Boxes(["v", "w"], [3, 4], [1, 0], [[0, 0, 9, 9], [1, 1, 2, 2]], [0.5, 0.25])
    for one, two in zip(boxes.columns(), same.columns(), strict=True):
        np.testing.assert_array_equal(one, two)
    both = Boxes.concat([boxes, Boxes.from_rows([], True), same[1:]], scored=True)
    assert both.video.tolist() == ["v", "w", "w"] and both.score.tolist() == [0.5, 0.25, 0.25]
    assert Boxes.concat([boxes], scored=False).score is None
    for empty in (
        Boxes.concat([], scored=True),
        Boxes.from_rows([], True),
        Boxes([], [], [], [], []),
    ):
        assert len(empty) == 0 and empty.box.shape == (0, 4) and empty.score.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"score": [0.5, np.nan]},
            r"box 1 \(video w, frame 4, class 0\): score nan is not finite",
        ),
        ({"score": [np.inf, 0]}, r"box 0 \(video v, frame 3, class 1\): score inf"),
        (
            {"box": [[0, 0, 9, 9], [1, np.nan, 2, 2]]},
            r"box 1 \(video w, frame 4, class 0\): box \[1.0, nan, 2.0, 2.0\]",
        ),
        (
            {"label": [1, -1]},
            r"box 1 \(video w, frame 4, class -1\): label -1; classes count from 0",
        ),
        ({"label": [1, 0.5]}, "label: give 2 whole numbers"),
        ({"frame": [1]}, "frame: give 2 whole numbers"),
        ({"box": [[0, 0, 9], [1, 1, 2]]}, r"box: give numbers of shape \(2, 4\)"),
        ({"score": ["a", "b"]}, "score: give numbers"),
        ({"video": [0.5, 1.5]}, "video: give one whole number or one name a row"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    good = {
        "video": ["v", "w"],
        "frame": [3, 4],
        "label": [1, 0],
        "box": [[0, 0, 9, 9], [1, 1, 2, 2]],
        "score": [0.5, 0.25],
    }
    with pytest.raises(ValueError, match=message):
        Boxes(**{**good, **change})


def test_rows_of_another_form_are_refused():
    with pytest.raises(ValueError, match="rows of detections have 8 fields"):
        Boxes.from_rows([["v", 3, 1, 0, 0, 9, 9]], scored=True)


def test_the_slow_program_itself():
    assert slow.box_iou((0, 0, 9, 9), (5, 0, 14, 9)) == Fraction(1, 3)
    assert slow.tube_iou(
        {0: (0, 0, 9, 9), 1: (0, 0, 9, 9)}, {1: (5, 0, 14, 9), 2: (0, 0, 9, 9)}
    ) == Fraction(1, 9)
    assert slow.average_precision([True, False, True], 4, False) == Fraction(1, 4) * (
        1 + Fraction(7, 12)
    )
    assert slow.average_precision([True, False, True], 4, True) == Fraction(1, 4) * (
        1 + Fraction(2, 3)
    )
