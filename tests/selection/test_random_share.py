"""--random-share: what is drawn at random is a sample of the whole pool, and budgets hold."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from claus.selection.budget import Budget
from claus.selection.pool import FrameScores, Pool
from claus.selection.random_share import read_share, select_with_share, split_budget
from claus.selection.rules import RuleSettings

RULE = RuleSettings("claus-no-clusters", "claus-no-clusters")
THIRD = Fraction(1, 3)


def pool_of(lengths, seed=0, candidates=None):
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = FrameScores(generator.random(offsets[-1]))
    free = np.ones(len(lengths), bool) if candidates is None else candidates
    return Pool(offsets, free, ~free, scores={"paper": scores})


def test_shares_are_read_exactly():
    assert read_share("1/3") == THIRD
    assert read_share("25%") == read_share("0.25") == Fraction(1, 4)
    for wrong in ("0", "1", "-1/3", "third", "1/0", "150%"):
        with pytest.raises(ValueError, match="random share"):
            read_share(wrong)


@pytest.mark.parametrize("videos", range(2, 9))
@pytest.mark.parametrize("more", (0, 1, 5, 40))
def test_the_parts_of_a_budget_are_the_budget(videos, more):
    budget = Budget(videos, videos + more)
    drawn, rest = split_budget(budget, THIRD)
    assert drawn.videos + rest.videos == budget.videos
    assert drawn.frames + rest.frames == budget.frames
    assert 1 <= drawn.videos <= drawn.frames and 1 <= rest.videos <= rest.frames
    assert drawn.videos == max(videos // 3, 1)


def test_a_budget_of_one_video_has_no_random_part():
    drawn, rest = split_budget(Budget(1, 4), THIRD)
    assert drawn is None
    assert (rest.videos, rest.frames) == (1, 4)
    assert "none is drawn at random" in rest.notes[0]


@pytest.mark.parametrize("seed", range(20))
def test_no_video_twice_and_never_above_the_budget(seed):
    generator = np.random.default_rng(seed)
    pool = pool_of(generator.integers(1, 9, 12), seed, generator.random(12) < 0.8)
    videos, frames = pool.left()
    asked = Budget(min(videos, 6), min(frames, 17))
    chosen, drawn = select_with_share(pool, asked, RULE, [0, 1], THIRD)
    both = [*chosen.videos.tolist(), *drawn.videos.tolist()]
    assert len(set(both)) == len(both) <= asked.videos
    assert chosen.spent + drawn.spent <= asked.frames
    assert pool.candidates_N[both].all()


def test_what_is_drawn_does_not_depend_on_the_scores_of_the_rule():
    """Drawn after the rule's choice it would be a sample of what the rule left."""
    lengths = [10] * 30
    first, second = pool_of(lengths, 1), pool_of(lengths, 2)
    parts = [select_with_share(p, Budget(9, 30), RULE, [0, 1], THIRD) for p in (first, second)]
    drawn = [part[1] for part in parts]
    assert drawn[0].videos.tolist() == drawn[1].videos.tolist()
    for one, other in zip(drawn[0].frames, drawn[1].frames, strict=True):
        assert one.tolist() == other.tolist()
    assert parts[0][0].videos.tolist() != parts[1][0].videos.tolist()


def test_every_video_is_drawn_as_often_as_every_other():
    """Those of the highest scores too, which the rule would have taken."""
    pool = pool_of([5] * 10)
    best = replace(pool, scores={"paper": FrameScores(np.repeat(np.arange(10.0), 5))})
    counts = np.zeros(10)
    for seed in range(600):
        _, drawn = select_with_share(best, Budget(6, 12), RULE, [seed, 1], THIRD)
        counts[drawn.videos] += 1
    assert counts.sum() == 1200
    assert abs(counts - 120).max() < 5 * np.sqrt(120 * 0.8)
