"""The rules CLAUS is compared with: hand-worked choices, slow plain versions, budgets and
masks honored.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import select_from_pool, select_random

from claus.reference.selection import entropy_frames, greedy, pool
from claus.selection.baselines import equidistant_frames
from claus.selection.budget import Budget, fit_budget


def test_random_takes_only_what_it_may():
    offsets, candidates = np.arange(0, 51, 10), np.array([True, False, True, True, False])
    eligible = np.tile(np.arange(10) >= 6, 5)
    chosen = select_random(
        offsets, Budget(3, 10), 0, candidates_N=candidates, eligible=eligible
    )
    assert sorted(chosen.videos.tolist()) == [0, 2, 3]
    assert [len(frames) for frames in chosen.frames] == [
        4,
        3,
        3,
    ]  # the first video drawn gets the one left over
    assert all((frames >= 6).all() for frames in chosen.frames)


def test_every_video_and_frame_has_the_same_chance():
    offsets, seen = np.arange(0, 21, 5), np.zeros((4, 5))
    for seed in range(2000):
        chosen = select_random(offsets, Budget(2, 4), seed, candidates_N=np.ones(4, bool))
        for video, frames in zip(chosen.videos, chosen.frames, strict=True):
            seen[video, frames] += 1
    assert abs(seen / 2000 - 4 / 20).max() < 0.05  # five standard deviations of 0.009


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=10),
    st.integers(1, 10),
    st.integers(0, 60),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_random_spends_fully_repeats_itself_and_changes_with_the_seed(lengths, b_v, more, seed):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    budget = fit_budget(Budget(b_v, b_v + more), len(lengths), int(offsets[-1]), take_rest=True)
    candidates_N = np.ones(len(lengths), bool)
    chosen, again = (
        select_random(offsets, budget, [seed, 0], candidates_N=candidates_N) for _ in range(2)
    )
    assert chosen.videos.tolist() == again.videos.tolist()
    assert [f.tolist() for f in chosen.frames] == [f.tolist() for f in again.frames]
    assert len(set(chosen.videos.tolist())) == budget.videos
    assert chosen.spent == min(budget.frames, sum(lengths[video] for video in chosen.videos))
    assert all(len(set(frames.tolist())) == len(frames) for frames in chosen.frames)


@pytest.mark.parametrize("equidistant", [False, True])
def test_frames_without_room_in_the_drawn_videos_go_to_paid_ones(equidistant):
    """Six old videos with 2 frames left, two with 39, eight new ones of 10: 4 videos, 32
    frames, whatever is drawn.
    """
    offsets = np.concatenate([[0], np.cumsum([10] * 6 + [40] * 2 + [10] * 8)])
    eligible = np.ones(offsets[-1], bool)
    for v in range(8):
        eligible[offsets[v] : offsets[v] + (8 if v < 6 else 1)] = False
    for seed in range(8):
        chosen = select_random(
            offsets,
            Budget(4, 32),
            seed,
            candidates_N=np.ones(16, bool),
            free_N=np.arange(16) < 8,
            eligible=eligible,
            equidistant=equidistant,
        )
        assert sum(map(len, chosen.frames)) == 32 and (chosen.videos >= 8).sum() <= 4
        assert len(set(chosen.videos.tolist())) == len(chosen.videos)
        assert all(
            eligible[offsets[v] + f].all()
            for v, f in zip(chosen.videos, chosen.frames, strict=True)
        )


def test_another_seed_is_another_choice():
    picks = [
        select_random(
            np.arange(0, 1001, 10), Budget(10, 20), [seed, 0], candidates_N=np.ones(100, bool)
        )
        for seed in (0, 1)
    ]
    assert picks[0].videos.tolist() != picks[1].videos.tolist()


# ------------------------------------------------------------------------------ equidistant


def test_equidistant_frames_by_hand():
    every = np.ones(10, bool)
    # floor((k + 1/2) * 10 / 4) = floor(1.25, 3.75, 6.25, 8.75)
    assert equidistant_frames(every, 4).tolist() == [1, 3, 6, 8]
    assert equidistant_frames(every, 1).tolist() == [5]
    assert equidistant_frames(every, 3).tolist() == [1, 5, 8]
    assert equidistant_frames(every, 10).tolist() == list(range(10))
    assert equidistant_frames(every, 0).tolist() == []


def test_equidistant_frames_of_a_labeled_video_fill_its_gaps():
    # frames 2 and 5 of 10 are labeled: 9 is four from 5, then 0 (two away; 7 as well, but
    # 0 is earlier), then 7
    free = ~np.isin(np.arange(10), [2, 5])
    assert equidistant_frames(free, 1).tolist() == [9]
    assert equidistant_frames(free, 3).tolist() == [0, 7, 9]


def test_equidistant_draws_the_videos_that_random_draws():
    offsets, candidates = np.arange(0, 101, 10), np.arange(10) != 3
    chosen, random = (
        select_random(
            offsets, Budget(4, 9), [5, 1], candidates_N=candidates, equidistant=equidistant
        )
        for equidistant in (True, False)
    )
    assert chosen.videos.tolist() == random.videos.tolist() and 3 not in chosen.videos
    # 9 frames for 4 videos: the first drawn gets three (1.67, 5, 8.33), the others two
    # (2.5, 7.5)
    assert [frames.tolist() for frames in chosen.frames] == [[1, 5, 8], [2, 7], [2, 7], [2, 7]]
    assert any(
        a.tolist() != sorted(b.tolist())
        for a, b in zip(chosen.frames, random.frames, strict=True)
    )


# --------------------------------------------------------------------------------- by score

TWO = np.array(
    [9, 8, 1, 1, 1, 1, 1, 1, 7, 1.0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5.0]
)  # two videos of ten frames


def test_uncertainty_takes_neighbors_and_claus_without_clusters_does_not():
    everything = dict(candidates_N=np.ones(2, bool))
    plain = select_from_pool(TWO, [0, 10, 20], Budget(1, 2), damping="none", **everything)
    assert (plain.videos.tolist(), plain.frames[0].tolist(), plain.scores.tolist()) == (
        [0],
        [0, 1],
        [8.5],
    )
    damped = select_from_pool(TWO, [0, 10, 20], Budget(1, 2), **everything)
    assert (damped.videos.tolist(), damped.frames[0].tolist(), damped.scores.tolist()) == (
        [0],
        [0, 8],
        [8],
    )
    assert (
        plain.quotas is None
        and plain.ranks.tolist() == [1]
        and plain.candidates.tolist() == [2]
    )


def test_the_pool_has_no_quotas():
    # best frames 9 8 7 | 3 2 1 in two clusters: CLAUS takes two of each (test_videos.py),
    # the pool the four best
    scores = np.array([[0, top, 0] for top in (9, 8, 7, 3, 2, 1)], float).ravel()
    chosen = select_from_pool(
        scores, np.arange(0, 19, 3), Budget(4, 4), candidates_N=np.ones(6, bool)
    )
    assert chosen.videos.tolist() == [0, 1, 2, 3] and chosen.ranks.tolist() == [1, 2, 3, 4]


def drop(scores, count, nearest=5, **masks):
    chosen = select_from_pool(
        np.array(scores, float),
        [0, len(scores)],
        Budget(1, count),
        candidates_N=[True],
        damping="drop",
        nearest=nearest,
        **masks,
    )
    return chosen.frames[0].tolist()


def test_entropy_drops_the_five_nearest_frames():
    # after frame 6 the nearest five are 5, 7, 4, 8 and, of 3 and 9, the earlier 3; so 9 is
    # next. Its nearest five are 8, 10, 7, 11 and 6, so of 0, 1, 2, 12 and 13 the best is
    # left: 12
    scores = [1, 1, 2, 8, 9, 9, 10, 9, 9, 8, 7, 7, 6, 1]
    assert drop(scores, 3) == [6, 9, 12]
    assert drop(scores, 2, nearest=0) == [
        6,
        4,
    ]  # 4, 5, 7, 8 tie at 9: the farthest, of 4 and 8 the earlier
    assert drop(scores, 2, nearest=6) == [
        6,
        11,
    ]  # 9 is dropped as well; 10 and 11 tie: the farther
    # at the border all five lie on one side: 1..5 are dropped, 6 is not
    assert drop([9, 8, 8, 8, 8, 8, 1, 2], 3) == [
        0,
        7,
        3,
    ]  # then only dropped ones are left: the farthest from both
    # a labeled frame drops its neighbors too: 0..3 and 5, but not 6
    assert drop([9, 9, 9, 9, 9, 1, 2, 3, 1, 1], 1, labeled=np.arange(10) == 2) == [7]


def test_entropy_still_spends_the_budget_of_a_short_video():
    assert sorted(drop([1, 2, 3], 3)) == [0, 1, 2]


@st.composite
def pools(draw):
    lengths = draw(st.lists(st.integers(1, 18), min_size=1, max_size=9))
    values = draw(st.sampled_from([[1.0, 2.0], [0.25 * k for k in range(1, 16)]]))
    videos = [draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)) for n in lengths]
    b_v = draw(st.integers(1, len(videos)))
    return videos, fit_budget(
        Budget(b_v, draw(st.integers(b_v, 50))), len(videos), sum(lengths), take_rest=True
    )


@given(pools(), st.sampled_from(["paper", "none", "drop", "coverage"]), st.integers(0, 6))
@settings(deadline=None, max_examples=150)
def test_rules_of_the_pool_equal_the_slow_versions(given_pool, damping, nearest):
    videos, budget = given_pool
    scores = np.concatenate([np.array(video) for video in videos])
    offsets = np.concatenate([[0], np.cumsum([len(video) for video in videos])])
    chosen = select_from_pool(
        scores,
        offsets,
        budget,
        candidates_N=np.ones(len(videos), bool),
        damping=damping,
        nearest=nearest,
    )
    assert chosen.spent == min(
        budget.frames, sum(len(videos[video]) for video in chosen.videos)
    )

    def choices(video, count):
        if damping == "drop":
            return [
                (frame, None) for frame in entropy_frames(videos[video], count, drop=nearest)
            ]
        return greedy(videos[video], count, damping=damping)

    slow = pool(videos, budget.videos, budget.frames, choices, damped=damping == "coverage")
    assert {
        int(v): frames.tolist() for v, frames in zip(chosen.videos, chosen.frames, strict=True)
    } == slow
    assert chosen.videos.tolist() == list(slow)


@pytest.mark.parametrize("damping", ["paper", "none", "drop"])
def test_frames_that_paid_videos_can_hold_are_spent_on_them(damping):
    # b_v = 1: the best video (the second) holds two frames; the other six of eight go to
    # the old videos 0 and 3, best first and evenly: 3 and 3, never to the unlabeled video
    # 2
    scores = np.repeat([3.0, 9, 5, 2], [10, 2, 10, 10])
    labeled = np.zeros(32, bool)
    labeled[[4, 25]] = True
    old = np.array([True, False, False, True])
    chosen = select_from_pool(
        scores,
        [0, 10, 12, 22, 32],
        Budget(1, 8),
        candidates_N=np.ones(4, bool),
        free_N=old,
        labeled=labeled,
        damping=damping,
    )
    assert chosen.videos.tolist() == [1, 0, 3]
    assert [len(frames) for frames in chosen.frames] == [2, 3, 3]
    assert 4 not in chosen.frames[1] and 3 not in chosen.frames[2]


def test_fewer_frames_than_paid_videos_go_to_the_best_of_these():
    # b_v = 1: the best video holds 2 of 3 frames; the one left is not enough for both old
    # videos: it goes to the better one, the last
    scores = np.repeat([2.0, 9, 5, 3], [10, 2, 10, 10])
    labeled = np.isin(np.arange(32), [4, 25])
    chosen = select_from_pool(
        scores,
        [0, 10, 12, 22, 32],
        Budget(1, 3),
        candidates_N=np.ones(4, bool),
        free_N=np.array([True, False, False, True]),
        labeled=labeled,
    )
    assert chosen.videos.tolist() == [1, 3] and list(map(len, chosen.frames)) == [2, 1]


def test_fewer_frames_than_paid_videos_go_to_the_first_drawn():
    # every video holds one frame, all but the last are labeled elsewhere: b_v = 1, 3 frames
    offsets, old = np.arange(0, 13, 2), np.arange(6) < 5
    eligible = np.tile([False, True], 6) | (np.arange(12) >= 10)
    for seed in range(6):
        chosen = select_random(
            offsets,
            Budget(1, 3),
            seed,
            candidates_N=np.ones(6, bool),
            free_N=old,
            eligible=eligible,
        )
        order = np.random.default_rng(seed).permutation(6).tolist()
        if order[0] == 5:  # it holds two frames
            assert chosen.videos.tolist() == order[:2]
        else:
            assert chosen.videos.tolist() == [v for v in order if v != 5][:3]
        assert chosen.spent == 3


@given(pools(), st.data(), st.sampled_from(["paper", "none", "drop"]))
@settings(deadline=None, max_examples=80)
def test_with_old_videos_the_budget_is_kept_and_spent_wherever_it_can_be(
    given_pool, data, damping
):
    videos, asked = given_pool
    scores = np.concatenate([np.array(video) for video in videos])
    offsets = np.concatenate([[0], np.cumsum([len(video) for video in videos])])
    labeled = np.array(
        data.draw(
            st.lists(
                st.sampled_from([False, False, True]),
                min_size=len(scores),
                max_size=len(scores),
            )
        )
    )
    marked = np.add.reduceat(labeled, offsets[:-1], dtype=int)
    room, old = np.diff(offsets) - marked, marked > 0
    if not room.any():
        return
    budget = fit_budget(asked, int((room > 0).sum()), int(room.sum()), take_rest=True)
    chosen = select_from_pool(
        scores,
        offsets,
        budget,
        candidates_N=room > 0,
        free_N=old,
        labeled=labeled,
        damping=damping,
    )
    assert len(set(chosen.videos.tolist())) == len(chosen.videos)
    for video, frames in zip(chosen.videos, chosen.frames, strict=True):
        assert (
            len(set(frames.tolist())) == len(frames) >= 1
            and not labeled[offsets[video] + frames].any()
        )
    first, more = chosen.videos[: budget.videos], chosen.videos[budget.videos :]
    assert old[more].all(), "beyond b_v only videos that are paid for"
    others = old.copy()
    others[first] = False
    assert chosen.spent == min(budget.frames, room[first].sum() + room[others].sum())
