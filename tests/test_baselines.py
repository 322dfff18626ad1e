"""The random rule: spends the budget, honours the masks, and depends on the seed alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selection.baselines import select_random
from selection.budget import Budget, fit_budget


def test_random_takes_only_what_it_may():
    offsets, candidates = np.arange(0, 51, 10), np.array([True, False, True, True, False])
    eligible = np.tile(np.arange(10) >= 6, 5)
    chosen = select_random(offsets, Budget(3, 10), 0, candidates_N=candidates, eligible=eligible)
    assert sorted(chosen.videos.tolist()) == [0, 2, 3]
    assert [len(frames) for frames in chosen.frames] == [4, 3, 3]  # the first video drawn gets the one left over
    assert all((frames >= 6).all() for frames in chosen.frames)


def test_every_video_and_frame_has_the_same_chance():
    offsets, seen = np.arange(0, 21, 5), np.zeros((4, 5))
    for seed in range(2000):
        chosen = select_random(offsets, Budget(2, 4), seed, candidates_N=np.ones(4, bool))
        for video, frames in zip(chosen.videos, chosen.frames, strict=True):
            seen[video, frames] += 1
    assert abs(seen / 2000 - 4 / 20).max() < 0.05  # five standard deviations of 0.009


@given(st.lists(st.integers(1, 12), min_size=1, max_size=10), st.integers(1, 10), st.integers(0, 60),
       st.integers(0, 99))
@settings(deadline=None, max_examples=100)
def test_random_spends_fully_repeats_itself_and_changes_with_the_seed(lengths, b_v, more, seed):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    budget = fit_budget(Budget(b_v, b_v + more), len(lengths), int(offsets[-1]), take_rest=True)
    candidates_N = np.ones(len(lengths), bool)
    chosen, again = (select_random(offsets, budget, [seed, 0], candidates_N=candidates_N) for _ in range(2))
    assert chosen.videos.tolist() == again.videos.tolist()
    assert [f.tolist() for f in chosen.frames] == [f.tolist() for f in again.frames]
    assert len(set(chosen.videos.tolist())) == budget.videos
    assert chosen.spent == min(budget.frames, sum(lengths[video] for video in chosen.videos))
    assert all(len(set(frames.tolist())) == len(frames) for frames in chosen.frames)


def test_another_seed_is_another_choice():
    picks = [select_random(np.arange(0, 1001, 10), Budget(10, 20), [seed, 0], candidates_N=np.ones(100, bool))
             for seed in (0, 1)]
    assert picks[0].videos.tolist() != picks[1].videos.tolist()
