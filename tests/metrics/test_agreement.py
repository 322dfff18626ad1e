"""Agreement of labels and detections in a frame, and intervals of means of few numbers."""

import numpy as np
import pytest

from claus.metrics.agreement import (
    box_table,
    frame_agreement,
    mask_table,
    match,
    mean_interval,
)


def test_iou_of_half_open_boxes_by_hand():
    table = box_table([[0, 0, 10, 10], [20, 20, 30, 40]], [[0, 0, 10, 20], [5, 0, 15, 10]])
    assert table == pytest.approx(np.array([[0.5, 50 / 150], [0, 0]]))


def test_masks_and_the_boxes_that_they_fill_agree():
    corners = np.array([[0, 0, 4, 6], [2, 3, 8, 8], [9, 9, 10, 10]])
    masks = np.zeros((3, 12, 12), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    assert mask_table(masks, masks[:2]) == pytest.approx(box_table(corners, corners[:2]))
    assert mask_table(np.zeros((0, 12, 12)), masks).shape == (0, 3)


def test_the_best_pairs_together_not_one_after_the_other():
    # greedy would give the first label 0.9 and leave nothing to the second
    assert match([[0.9, 0.8], [0.85, 0.0]]).tolist() == [1, 0]
    assert match([[0.0, 0.0]]).tolist() == [-1], "what does not overlap is no pair"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1.0]], 1.0),
        ([[0.4]], 0.4),
        ([[0.0]], 0.0),  # two different actors
        ([[0.8, 0.0]], 0.4),  # a false one
        ([[0.6], [0.0]], 0.3),  # a missed one
    ],
)
def test_a_missed_and_a_false_actor_count_alike(table, expected):
    assert frame_agreement(np.array(table)) == pytest.approx(expected)


def test_nothing_there_and_nothing_seen_is_full_agreement():
    assert frame_agreement(np.zeros((0, 0))) == 1
    assert frame_agreement(np.zeros((0, 2))) == 0
    assert frame_agreement(np.zeros((2, 0))) == 0


def test_an_interval_is_never_empty_and_narrows_with_more_numbers():
    for mean in (0.0, 0.3, 1.0):
        low, high = mean_interval(mean, 1)
        assert 0 <= low <= mean <= high <= 1 and high - low > 0.3
        widths = [np.diff(mean_interval(mean, count))[0] for count in (1, 5, 50)]
        assert widths == sorted(widths, reverse=True)
    with pytest.raises(ValueError, match="no interval"):
        mean_interval(0.5, 0)


@pytest.mark.parametrize("spread", (1e-3, 1, 4))  # nearly yes or no, even, near the mean
@pytest.mark.parametrize("count", (3, 12))
def test_about_four_of_five_intervals_or_more_hold_the_mean(spread, count):
    generator = np.random.default_rng(0)
    samples = generator.beta(0.4 * spread, 0.6 * spread, (800, count)).mean(axis=1)
    intervals = [mean_interval(sample, count) for sample in samples]
    assert np.mean([low <= 0.4 <= high for low, high in intervals]) > 0.72
