"""Inter and intra: whole videos, and frames over all videos; which of them, never too many,
and what is said.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, make_task

from claus.reference.selection import evened_out
from claus.selection.baselines import random_frames, spaced_frames
from claus.selection.budget import Budget
from claus.selection.strategies import level_shares, select_every_video, select_whole_videos


def whole(lengths, budget, seed=0, candidates=None):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return select_whole_videos(make_task(make_pool(offsets, candidates), budget, seed))


def test_inter_takes_every_video_that_still_fits_in_random_order():
    lengths = [5, 40, 7, 9, 3]
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(5).tolist()
        chosen = whole(lengths, Budget(5, 20), seed)
        expected, left = [], 20
        for video in order:  # 40 never fits; the others as long as there is room
            if lengths[video] <= left:
                expected.append(video)
                left -= lengths[video]
        assert chosen.videos.tolist() == expected
        assert [frames.tolist() for frames in chosen.frames] == [
            list(range(lengths[video])) for video in expected
        ]


def test_inter_keeps_to_the_number_of_videos_and_to_candidates():
    assert len(whole([2] * 9, Budget(3, 100)).videos) == 3
    assert whole(
        [2, 2, 2], Budget(3, 100), candidates=[False, True, False]
    ).videos.tolist() == [1]


def test_inter_says_when_no_video_fits():
    with pytest.raises(
        ValueError, match="4 frames do not hold one whole video, the shortest has 5"
    ):
        whole([5, 6], Budget(2, 4))


def every(lengths, frames, seed=0, labeled=(), equidistant=False, candidates=None):
    """Intra on videos of these lengths; labeled: (video, frame) pairs."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    eligible = np.ones(offsets[-1], bool)
    for video, frame in labeled:
        eligible[offsets[video] + frame] = False
    pool = make_pool(offsets, candidates, labeled=~eligible)
    task = make_task(pool, Budget(1, frames), seed)
    return select_every_video(task, spaced_frames if equidistant else random_frames)


def test_intra_gives_every_video_a_frame_before_any_gets_a_second():
    chosen = every([9, 9, 9, 1], 7)
    shares = dict(zip(chosen.videos.tolist(), map(len, chosen.frames), strict=True))
    assert shares == {0: 2, 1: 2, 2: 2, 3: 1} and chosen.budget.videos == 4
    assert chosen.budget.notes == (
        "every video gets a frame: 4 new videos are paid for, outside the budget of videos",
    )
    # eight: one of the three long ones gets a third; the fourth has no more
    assert sorted(map(len, every([9, 9, 9, 1], 8).frames)) == [1, 2, 2, 3]


def test_intra_with_fewer_frames_than_videos_gives_one_each_to_random_ones():
    seen = set()
    for seed in range(30):
        chosen = every([5] * 6, 4, seed)
        assert len(chosen.videos) == len(set(chosen.videos.tolist())) == 4
        assert all(len(frames) == 1 for frames in chosen.frames)
        assert chosen.budget.notes == (
            "4 frames do not reach all 6 videos: one frame each of 4 drawn at random",
        )
        seen |= {(int(v), int(f[0])) for v, f in zip(chosen.videos, chosen.frames, strict=True)}
    assert len(seen) == 30, "in thirty draws of four, each of the 6 x 5 frames came up"


def test_intra_evens_out_what_earlier_cycles_labeled():
    # videos 0, 1, 2 have three labels, one and none; of five frames 2 gets one, then 1 and
    # 2 one, then both once more
    labeled = [(0, 0), (0, 4), (0, 8), (1, 3)]
    chosen = every([9, 9, 9], 5, labeled=labeled)
    assert dict(zip(chosen.videos.tolist(), map(len, chosen.frames), strict=True)) == {
        1: 2,
        2: 3,
    }
    picked = {
        (video, frame)
        for video, frames in zip(chosen.videos.tolist(), chosen.frames, strict=True)
        for frame in frames.tolist()
    }
    assert len(picked) == 5 and not picked & set(labeled)
    assert chosen.budget.notes[0].startswith("every video gets a frame: 1 new videos")


def test_intra_with_equidistant_frames():
    chosen = every([8, 8], 4, equidistant=True)
    assert [frames.tolist() for frames in chosen.frames] == [[2, 6], [2, 6]]


def test_intra_leaves_out_what_is_no_candidate():
    assert every([3, 3, 3], 2, candidates=[False, True, False]).videos.tolist() == [1]


videos = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9)


@given(videos, st.integers(0, 90))
@settings(deadline=None, max_examples=200)
def test_shares_equal_the_slow_version(pairs, frames):
    have, room = np.array(pairs).T
    counts = level_shares(have, room, frames)
    assert counts.tolist() == evened_out(have.tolist(), room.tolist(), frames)
    assert (
        counts.sum() == min(frames, room.sum())
        and (counts <= room).all()
        and (counts >= 0).all()
    )


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=9),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_budgets_are_kept_and_choices_distinct(lengths, frames, b_v, seed):
    total = sum(lengths)
    chosen = every(lengths, frames, seed)
    assert chosen.spent == min(frames, total) and len(set(chosen.videos.tolist())) == len(
        chosen.videos
    )
    assert all(
        len(set(f.tolist())) == len(f) and f.max() < lengths[v]
        for v, f in zip(chosen.videos, chosen.frames, strict=True)
    )
    budget = Budget(b_v, frames)
    if min(lengths) > frames:
        with pytest.raises(ValueError):
            whole(lengths, budget, seed)
        return
    chosen = whole(lengths, budget, seed)
    assert chosen.spent <= frames and 1 <= len(chosen.videos) <= b_v
    left = [length for video, length in enumerate(lengths) if video not in chosen.videos]
    assert len(chosen.videos) == b_v or all(
        length > frames - chosen.spent for length in left
    ), "one more would fit"
