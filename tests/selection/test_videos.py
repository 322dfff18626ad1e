"""The whole CLAUS choice on arrays: by hand, against a slow plain version, and its promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.reference.selection import claus
from claus.selection.budget import Budget, fit_budget
from claus.selection.claus import cluster_ranks, select_claus, video_scores
from claus.selection.frames import choose_frames


def test_a_video_is_scored_by_its_undamped_chosen_frames():
    # video 0: peak 8, its neighbor 7 is damped to 7 * .07 = .5, so the second frame is the
    # far 2: (8 + 2) / 2 = 5
    scores, offsets = np.array([8, 7, 0, 0, 0, 0, 0, 2.0, 3, 3]), [0, 8, 10]
    picks = choose_frames(scores, offsets, 2)
    assert picks.frames.tolist() == [0, 7, 0, 1]
    np.testing.assert_allclose(video_scores(scores, offsets, picks), [5, 3])
    assert np.isnan(video_scores(scores, offsets, choose_frames(scores, offsets, [1, 0]))[1])


def test_ranks_within_clusters_and_their_ties():
    scores = np.array([5, 9, 5, np.nan, 7, 9.0])
    assert cluster_ranks(scores, np.array([0, 0, 0, 0, 1, 1])).tolist() == [2, 1, 3, 0, 2, 1]


def test_a_selection_worked_out_by_hand():
    # six videos of three frames, A_t = 1, so a video's score is its best frame: 9 8 7 | 3 2
    # 1, two clusters. Two of three go to each: b_v = 4 over 3 and 3 is 2 and 2: videos 0, 1
    # and 3, 4, although 2 beats 3 and 4.
    best = [9, 8, 7, 3, 2, 1]
    scores = np.array([[0, top, 0] for top in best], float).ravel()
    chosen = select_claus(
        scores,
        np.arange(0, 19, 3),
        np.repeat([0, 1], 3),
        2,
        Budget(4, 5),
        candidates_N=np.ones(6, bool),
        ranked_last=scores == 0,
    )
    assert chosen.videos.tolist() == [0, 1, 3, 4]
    assert chosen.quotas.tolist() == [2, 2] and chosen.candidates.tolist() == [3, 3]
    assert chosen.ranks.tolist() == [1, 2, 1, 2] and chosen.scores.tolist() == [9, 8, 3, 2]
    # five frames for four videos: one each, and the best video gets the one left over (0
    # and 2 tie: the earlier)
    assert [frames.tolist() for frames in chosen.frames] == [[1, 0], [1], [1], [1]]
    assert chosen.spent == 5


def test_only_candidates_are_chosen_and_labeled_videos_do_not_count():
    scores = np.arange(12.0)
    candidates = np.array([True, False, True, False])
    chosen = select_claus(
        scores, [0, 3, 6, 9, 12], [0, 0, 1, 1], 2, Budget(2, 2), candidates_N=candidates
    )
    assert sorted(chosen.videos.tolist()) == [0, 2]
    assert chosen.candidates.tolist() == [1, 1]


def test_more_frames_for_labeled_videos():
    # a labeled video may be a candidate again: frame 0 is not chosen and damps frame 1 to
    # 8 * .07 = .5; after frame 6, whose neighbor falls to 2 * .97 * .07 = .1, that is
    # still the best: .5 * .83 = .45
    scores = np.array([9, 8, 1, 1, 1, 1, 5, 2.0])
    labeled = np.arange(8) == 0
    chosen = select_claus(
        scores, [0, 8], [0], 1, Budget(1, 2), candidates_N=[True], labeled=labeled
    )
    assert chosen.frames[0].tolist() == [6, 1]


def test_frames_without_room_go_to_labeled_videos_of_any_cluster_best_first():
    # one new video of two frames, in cluster 1, and three labeled ones, best 4 (cluster 2),
    # 6 (cluster 0), 5 (cluster 1). b_v = 1 by the largest cluster, the four frames that the
    # new video has no room for go as 2, 1, 1 by score, whatever the cluster
    best, clusters = [4, 6, 9, 5], [2, 0, 1, 1]
    scores = np.repeat(np.array(best, float), [6, 6, 2, 6])
    labeled = np.isin(np.arange(20), [0, 6, 14])
    chosen = select_claus(
        scores,
        [0, 6, 12, 14, 20],
        clusters,
        3,
        Budget(1, 6),
        candidates_N=np.ones(4, bool),
        free_N=np.array([True, True, False, True]),
        labeled=labeled,
    )
    assert chosen.videos.tolist() == [2, 1, 3, 0]
    assert [len(frames) for frames in chosen.frames] == [2, 2, 1, 1]


@st.composite
def pools(draw):
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=14))
    values = draw(st.sampled_from([[0.0, 1.0, 2.0], [0.5 * k for k in range(16)]]))
    videos = [draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)) for n in lengths]
    n_clusters = draw(st.integers(1, 4))
    clusters = draw(
        st.lists(st.integers(0, n_clusters - 1), min_size=len(videos), max_size=len(videos))
    )
    b_v = draw(st.integers(1, len(videos)))
    return videos, clusters, n_clusters, Budget(b_v, draw(st.integers(b_v, 40)))


@given(pools(), st.sampled_from(["paper", "authors", "none", "coverage"]))
@settings(deadline=None, max_examples=150)
def test_equals_the_slow_version_and_keeps_its_promises(pool, damping):
    videos, clusters, n_clusters, asked = pool
    budget = fit_budget(asked, len(videos), sum(map(len, videos)), take_rest=True)
    scores = np.concatenate([np.array(video) for video in videos])
    offsets = np.concatenate([[0], np.cumsum([len(video) for video in videos])])
    clusters_N, candidates_N, last = np.array(clusters), np.ones(len(videos), bool), scores == 0
    before = [array.copy() for array in (scores, offsets, clusters_N, candidates_N, last)]
    arguments = (scores, offsets, clusters_N, n_clusters, budget)
    chosen = select_claus(
        *arguments, candidates_N=candidates_N, ranked_last=last, damping=damping
    )
    again = select_claus(
        *arguments, candidates_N=candidates_N, ranked_last=last, damping=damping
    )
    for array, kept in zip(
        (scores, offsets, clusters_N, candidates_N, last), before, strict=True
    ):
        assert array.tobytes() == kept.tobytes(), "an input was changed"

    assert len(set(chosen.videos.tolist())) == len(chosen.videos) == budget.videos
    room = sum(len(videos[video]) for video in chosen.videos)
    assert chosen.spent == min(budget.frames, room), (
        "spent fully where the chosen videos hold enough"
    )
    for video, frames in zip(chosen.videos, chosen.frames, strict=True):
        assert len(set(frames.tolist())) == len(frames) >= 1
        assert (frames >= 0).all() and (frames < len(videos[video])).all()
    assert (
        np.bincount(clusters_N[chosen.videos], minlength=n_clusters).tolist()
        == chosen.quotas.tolist()
    )
    picked = {
        int(video): frames.tolist()
        for video, frames in zip(chosen.videos, chosen.frames, strict=True)
    }
    assert picked == {
        int(v): f.tolist() for v, f in zip(again.videos, again.frames, strict=True)
    }

    slow = claus(
        videos,
        clusters,
        n_clusters,
        budget.videos,
        budget.frames,
        [[f for f, score in enumerate(video) if score == 0] for video in videos],
        damping,
    )
    assert list(picked) == list(slow) and picked == slow


def test_ucf101_sized_pool_spends_exactly_its_budget():
    generator = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(40, 306, 2284))])
    scores = generator.random(offsets[-1]) ** 4
    clusters = generator.integers(0, 5, 2284)
    chosen = select_claus(
        scores, offsets, clusters, 5, Budget(114, 989), candidates_N=np.ones(2284, bool)
    )
    assert (len(chosen.videos), chosen.spent) == (114, 989)


def test_a_budget_beyond_what_is_left_is_the_callers_mistake():
    with pytest.raises(ValueError, match="cannot give 3"):
        select_claus(np.ones(4), [0, 2, 4], [0, 0], 1, Budget(3, 3), candidates_N=[True, True])
