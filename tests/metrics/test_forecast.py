"""What more labels may bring."""

import numpy as np
import pytest

from claus.metrics.agreement import mean_interval
from claus.metrics.forecast import predict_score

EXACT = [(0.5, 0.5)] * 9  # points without noise


def curve(frames):
    return 1 - 1.2 * np.asarray(frames, float) ** -0.25


def test_a_power_law_without_noise_is_continued_exactly():
    frames = [20, 40, 60, 100]
    low, high = predict_score(frames, curve(frames), EXACT[:4], 200)
    assert low == pytest.approx(high) == pytest.approx(curve([200])[0])


def test_nothing_is_said_from_two_points_or_from_one_place():
    assert predict_score([20, 40], [0.3, 0.4], EXACT[:2], 60) is None
    assert predict_score([20, 20, 20], [0.3, 0.4, 0.5], EXACT[:3], 60) is None


def test_points_on_a_line_by_luck_are_no_certainty():
    frames = [20, 40, 60]
    noisy = [mean_interval(score, 6) for score in curve(frames)]
    low, high = predict_score(frames, curve(frames), noisy, 80)
    assert high - low > 0.2


def test_the_further_away_the_wider():
    frames, scores = [20, 40, 60, 80], [0.3, 0.42, 0.38, 0.5]
    widths = [np.diff(predict_score(frames, scores, EXACT[:4], n))[0] for n in (100, 400)]
    assert widths[0] < widths[1]


def test_scores_of_nought_and_one_stay_inside():
    for scores in ([0, 0, 0], [1, 1, 1], [0, 1, 0]):
        limits = [mean_interval(score, 3) for score in scores]
        low, high = predict_score([10, 20, 30], scores, limits, 40)
        assert 0 <= low <= high <= 1


@pytest.mark.parametrize(("points", "videos"), [(3, 10), (4, 40), (9, 10)])
def test_four_of_five_next_points_lie_inside(points, videos):
    """Of noise as large as a score in [0, 1] can have: each video right or wrong."""
    generator, inside, width = np.random.default_rng(1), [], []
    frames = 20 * np.arange(1, points + 2)
    for _ in range(300):
        truth = 1 - generator.uniform(0.8, 1.5) * frames ** -generator.uniform(0.05, 0.4)
        shown = (generator.random((points + 1, videos)) < truth[:, None]).mean(axis=1)
        limits = [mean_interval(score, videos) for score in shown[:-1]]
        low, high = predict_score(frames[:-1], shown[:-1], limits, frames[-1])
        inside.append(low <= shown[-1] <= high)
        width.append(high - low)
    assert 0.75 < np.mean(inside) < 0.97
    assert np.mean(width) < 0.75
