"""Linking against the field's own tubes, the slow program, and tracks a person can follow."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from claus.metrics import boxes as act_boxes
from claus.metrics.boxes import Boxes
from claus.metrics.linking import RULES, LinkRule, fill_gaps, link, soft_suppression
from claus.reference import metrics as slow

A = [0, 0, 9, 9]


def linked(rows, rule="gaps", **changes):
    """Tubes of (video, frame, class, score, box...) rows as (first frame, number of frames,
    score).
    """
    rule = replace(RULES[rule], **changes)
    return [
        (int(t.frames[0]), len(t.frames), t.score)
        for t in link(Boxes.from_rows(rows, True), rule)
    ]


def track(frames, box=A, scores=None, step=0, video=0, label=0):
    scores = scores or [0.5] * len(frames)
    x0, y0, x1, y1 = box
    return [
        [video, f, label, s, x0 + step * f, y0, x1 + step * f, y1]
        for f, s in zip(frames, scores, strict=True)
    ]


# --- the field's own tubes ----------------------------------------------------------------


def test_golden_tubes(shared_golden):
    data = json.loads((shared_golden / "link_tubes.json").read_text())
    rows = [
        [row["video"], row["frame"], row["cls"], box[4], *box[:4]]
        for row in data["input"]
        for box in row["boxes_scores"]
    ]
    tubes = link(Boxes.from_rows(rows, True), "tubelet")
    expected = sorted(
        data["expected_tubes"], key=lambda tube: (tube["video"], tube["cls"], tube["start"])
    )
    assert [(t.video, t.label, t.frames[0], len(t.frames)) for t in tubes] == [
        (t["video"], t["cls"], t["start"], len(t["boxes"])) for t in expected
    ]
    for tube, known in zip(tubes, expected, strict=True):
        np.testing.assert_allclose(tube.boxes, known["boxes"], atol=1e-5, rtol=0)
        np.testing.assert_allclose(tube.score, known["score"], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(np.diff(tube.frames), 1)


# --- the slow program ---------------------------------------------------------------------


def random_rows(rng, distinct):
    """A few wandering actors and clutter in a small picture; scores in quarters (many ties)
    or all different.
    """
    rows = []
    for _ in range(rng.integers(1, 5)):
        video, label, x, y, w, h = rng.integers([0, 0, 0, 0, 3, 3], [2, 2, 6, 6, 9, 9]).tolist()
        for frame in np.flatnonzero(rng.random(12) < 0.75).tolist():
            x, y = x + int(rng.integers(-1, 2)), y + int(rng.integers(-1, 2))
            for _ in range(rng.integers(1, 3)):
                score = float(rng.random()) if distinct else int(rng.integers(1, 5)) / 4
                rows.append(
                    [video, frame, label, score, x, y, x + w + int(rng.integers(-1, 2)), y + h]
                )
    return [rows[i] for i in rng.permutation(len(rows))]


RULE_CHANGES = [
    ("gaps", {}),
    ("gaps", {"prefer": "score"}),
    ("gaps", {"max_gap": 0}),
    ("gaps", {"max_gap": 1}),
    ("gaps", {"min_iou": 0.25, "min_length": 3, "min_score": 0.5}),
    ("gaps", {"keep": 1}),
    ("tubelet", {"min_length": 1}),
    ("tubelet", {"min_length": 4, "max_gap": 2, "prefer": "iou"}),
    ("tubelet", {"min_length": 2, "keep": 2}),
]


@pytest.mark.parametrize(("rule", "changes"), RULE_CHANGES)
@pytest.mark.parametrize("plus_one", [True, False])
def test_equals_the_slow_program(monkeypatch, rule, changes, plus_one):
    monkeypatch.setattr(act_boxes, "MAX_PAIRS", 50)
    rule, rng = replace(RULES[rule], **changes), np.random.default_rng(0)
    soft_nms = rule.soft_nms and Fraction(rule.soft_nms).limit_denominator(
        100
    )  # IoUs of 3/5 occur
    for _ in range(12):
        rows = random_rows(
            rng, distinct=rule.soft_nms is not None
        )  # weakened scores tie only up to rounding
        tubes = link(Boxes.from_rows(rows, True), rule, plus_one=plus_one)
        expected = slow.link(
            rows,
            rule.min_iou,
            rule.max_gap,
            rule.prefer,
            soft_nms,
            rule.keep,
            rule.min_score,
            rule.min_length,
            int(plus_one),
        )
        key = [(t.video, t.label, *t.frames.tolist()) for t in tubes]
        assert sorted(key) == sorted(
            (video, label, *sorted(boxes)) for video, label, boxes, _ in expected
        )
        found = sorted(
            (t.video, t.label, t.frames[0], round(t.score, 9), t.boxes.round(9).tolist())
            for t in tubes
        )
        known = sorted(
            (
                video,
                label,
                min(boxes),
                round(float(score), 9),
                [[round(float(x), 9) for x in boxes[f]] for f in sorted(boxes)],
            )
            for video, label, boxes, score in expected
        )
        for one, two in zip(found, known, strict=True):
            assert one[:4] == two[:4]
            np.testing.assert_allclose(one[4], two[4], atol=1e-9)


# --- by hand ------------------------------------------------------------------------------


def test_a_gap_of_five_is_bridged_and_one_of_six_is_not():
    assert linked(track([0, 1, 7, 8])) == [(0, 9, 0.5)]  # 2 to 6 are missing
    assert linked(track([0, 1, 8, 9])) == [(0, 2, 0.5), (8, 2, 0.5)]
    assert linked(track([0, 2]), max_gap=0) == [(0, 1, 0.5), (2, 1, 0.5)]


def test_gaps_are_interpolated_and_do_not_enter_the_score():
    (tube,) = link(
        Boxes.from_rows([["v", 3, 1, 0.4, 0, 0, 9, 9], ["v", 7, 1, 0.8, 4, 0, 13, 11]], True),
        LinkRule(0.3),
    )
    assert tube.video == "v" and tube.label == 1 and tube.score == pytest.approx(0.6)
    assert tube.frames.tolist() == [3, 4, 5, 6, 7]
    assert tube.boxes.tolist() == [
        [0, 0, 9, 9],
        [1, 0, 10, 9.5],
        [2, 0, 11, 10],
        [3, 0, 12, 10.5],
        [4, 0, 13, 11],
    ]


def test_filling_one_frame_and_full_tubes_changes_nothing():
    for frames in ([4], [4, 5]):
        filled, boxes = fill_gaps(frames, np.tile(A, (len(frames), 1)))
        assert filled.tolist() == frames and boxes.tolist() == [A] * len(frames)


def test_iou_of_exactly_the_bound_links():
    half = [0, 0, 9, 4]
    assert len(linked(track([0]) + track([1], half))) == 1
    assert len(linked(track([0]) + track([1], half), min_iou=0.51)) == 2


def test_iou_or_score_decides_between_two_boxes():
    rows = track([0]) + track([1], [1, 0, 10, 9], [0.9]) + track([1], A, [0.3])
    assert linked(rows) == [(0, 2, 0.4), (1, 1, 0.9)]
    assert linked(rows, prefer="score") == [(0, 2, 0.7), (1, 1, 0.3)]


def test_the_tube_with_the_higher_mean_score_chooses_first():
    """Two tubes that both overlap the one box of frame 2; order and class of input do not
    matter, scores do.
    """
    weak, strong = track([0, 1], A, [0.2, 0.4]), track([0, 1], [2, 0, 11, 9], [0.6, 0.6])
    for rows in (weak + strong, strong + weak):
        assert (
            linked(rows + track([2], A, [0.9]))
            == [(0, 2, pytest.approx(0.3)), (0, 3, pytest.approx(0.7))][
                :: 1 if rows[0] is weak[0] else -1
            ]
        )


def test_classes_and_videos_do_not_mix():
    rows = track([0, 1]) + track([2], label=1) + track([2], video=1)
    assert linked(rows) == [(0, 2, 0.5), (2, 1, 0.5), (2, 1, 0.5)]
    tubes = link(Boxes.from_rows(rows, True))
    assert [(t.video, t.label) for t in tubes] == [(0, 0), (0, 1), (1, 0)]


def test_short_and_weak_tubes_are_dropped_bounds_inside():
    rows = track(range(14)) + track(range(20, 35)) + track(range(50, 70), scores=[0.004] * 20)
    assert linked(rows, "tubelet") == [(20, 15, 0.5)]
    assert linked(track(range(15), scores=[0.005] * 15), "tubelet") == [
        (0, 15, pytest.approx(0.005))
    ]


def test_soft_suppression_by_hand():
    """Of A, A's near double and its other double: only the first is strong, both others are
    weakened by it alone.
    """
    near, nearer, far = (
        [0, 0, 9, 7],
        [0, 0, 9, 8],
        [50, 0, 59, 9],
    )  # IoU with A .8, .9, 0; of the first two 8/9
    rows = (
        track([0], near, [0.5])
        + track([0], A, [0.9])
        + track([0], nearer, [0.8])
        + track([0], far, [0.09])
    )
    boxes = Boxes.from_rows(rows, True)
    score, used = soft_suppression(boxes, boxes.score, 0.6, 3)
    np.testing.assert_allclose(score, [0.5 * 0.2, 0.9, 0.8 * 0.1, 0.09])
    assert used.tolist() == [True, True, False, True]
    assert boxes.score.tolist() == [0.5, 0.9, 0.8, 0.09]
    score, used = soft_suppression(
        boxes, boxes.score, 0.8, None
    )  # an overlap of .8 is not above .8
    np.testing.assert_allclose(score, [0.5, 0.9, 0.8 * 0.1, 0.09])
    assert used.all()
    same = Boxes.from_rows(track([0], far) * 3, True)
    assert soft_suppression(same, same.score, None, 2)[1].tolist() == [
        True,
        True,
        False,
    ]  # ties: the first given


def test_no_boxes_and_one_box():
    assert link(Boxes.from_rows([], True)) == [] == link(Boxes.from_rows([], True), "tubelet")
    assert linked(track([7])) == [(7, 1, 0.5)]


def test_frame_numbers_may_be_anything():
    assert linked(track([-3, -2, 10**9])) == [(-3, 2, 0.5), (10**9, 1, 0.5)]


def test_refusals():
    with pytest.raises(ValueError, match="without scores cannot be linked"):
        link(Boxes.from_rows([[0, 0, 0, *A]], False))
    with pytest.raises(ValueError, match="link rule 'viterbi', must be one of gaps, tubelet"):
        link(Boxes.from_rows([], True), "viterbi")
    with pytest.raises(ValueError, match="prefer is 'size'"):
        LinkRule(prefer="size")
    with pytest.raises(ValueError, match="min_iou 0 must be above 0"):
        LinkRule(min_iou=0)
