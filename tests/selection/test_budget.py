"""How many videos and frames: exact decimals, money, what is left, and the remainder shared
out.
"""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.selection.budget import (
    Budget,
    BudgetSettings,
    cycle_budget,
    fit_budget,
    read_schedule,
    scheduled_counts,
    share_frames,
)


def ask(pool_videos, pool_frames, *, old_videos=None, **settings_):
    """The budget of cycle 0 by BudgetSettings of these names."""
    return cycle_budget(
        pool_videos, pool_frames, BudgetSettings(**settings_), old_videos=old_videos
    )


def test_ucf101_at_5_and_5_is_114_videos_and_989_frames():
    budget = ask(2284, 395868, videos="5%", frames="5%")
    assert (budget.videos, budget.frames, budget.per_video, budget.notes) == (114, 989, 8, ())


def test_ucf101_budget_from_the_real_annotations(shared_data):
    from claus.datasets.ucf101 import read_ground_truth

    folder = shared_data / "ucf101_24"
    truth = read_ground_truth(folder / "pyannot.pkl", folder / "testlist01.txt", part="train")
    budget = ask(len(truth.videos), truth.total_frames())
    assert (budget.videos, budget.frames, budget.per_video) == (114, 989, 8)


def test_jhmdb_at_5_and_3_from_the_real_split(shared_data):
    from scipy.io import whosmat

    folder = shared_data / "jhmdb"
    clips = (folder / "trainlist_split1.txt").read_text().split()
    masks = folder / "puppet_mask"
    frames = [
        next(
            shape
            for name, shape, _ in whosmat(masks / clip.removesuffix(".avi") / "puppet_mask.mat")
            if name == "part_mask"
        )[2]
        for clip in clips
    ]
    budget = ask(len(clips), sum(frames), videos="5%", frames="3%")
    assert (len(clips), budget.videos, budget.frames, budget.per_video) == (660, 33, 34, 1)


def test_percentages_are_exact_decimals():
    # 0.7% of 1000 videos is 7; the binary 0.7 is a little less than 7/10, and 0.7 / 100 *
    # 1000 < 7
    assert ask(1000, 10**6, videos="0.7%").videos == 7
    # prices too, and a float counts as it prints
    for price in (0.7, Decimal("0.7"), Fraction(7, 10), "0.7"):
        assert ask(100, 10**6, videos=50, video_price=price, video_money="7").videos == 10
    # A% * V% * F with V the percentage, not the floored count: 10% * 15% * 1000 = 15, while
    # 10% * 1/10 * 1000 = 10
    assert ask(10, 1000, videos="15%", frames="10%").frames == 15


def test_counts_replace_percentages():
    budget = ask(100, 10000, videos=7, frames=30)
    assert (budget.videos, budget.frames, budget.per_video) == (7, 30, 4)
    assert ask(100, 10000, videos=10, frames="5%").frames == 50  # 5% of a tenth of 10,000


def test_money_only_lowers_the_counts():
    rich = ask(100, 10000, videos=10, frames=50, video_money="1000", frame_money="1000")
    assert (rich.videos, rich.frames, rich.notes) == (10, 50, ())
    poor = ask(
        100,
        10000,
        videos=10,
        frames=50,
        video_price="1.5",
        video_money="10",
        frame_price="0.1",
        frame_money="2.35",
    )
    assert (poor.videos, poor.frames) == (6, 23)
    assert poor.notes == (
        "video money 10 pays for 6 videos of 10",
        "frame money 2.35 pays for 23 frames of 50",
    )
    assert (
        ask(100, 10000, videos=10, frames=50, video_price=0, video_money=0).videos == 10
    )  # free of charge


def test_a_chosen_video_gets_a_frame_so_few_frames_mean_few_videos():
    budget = ask(100, 10000, videos=10, frames=4)
    assert (budget.videos, budget.frames, budget.per_video) == (4, 4, 1)
    assert budget.notes == (
        "4 frames are enough for 4 videos only, not for 10: every video needs one",
    )


@pytest.mark.parametrize(
    "settings_, named",
    [
        (dict(videos="0%"), "videos: a percentage must be above 0"),
        (dict(videos="-5%"), "videos: a percentage must be above 0"),
        (dict(frames="100.1%"), "frames: a percentage must be above 0 and at most 100"),
        (dict(videos="five%"), "videos must be a number, not 'five'"),
        (dict(videos=float("nan")), "videos must be a number"),
        (dict(videos="inf%"), "videos must be a number"),
        (dict(videos="0.5%"), "0.5% of 100 videos makes 0 videos"),
        (dict(frames="0.1%"), "makes 0 frames"),
        (dict(videos=0), "videos: 0 makes 0 videos"),
        (dict(videos=-1), "videos: -1 makes -1 videos, and a cycle needs one at least"),
        (dict(frames="2.5"), "frames: a count must be a whole number"),
        (dict(frames=0), "raise it"),
        (dict(video_price="-1"), "video price must not be negative"),
        (dict(video_money="0.5"), "video money 0.5 does not pay for one video"),
        (dict(frame_money="0"), "frame money 0 does not pay for one frame"),
    ],
)
def test_impossible_budgets_are_refused_in_one_line(settings_, named):
    with pytest.raises(ValueError) as error:
        ask(100, 10000, **settings_)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_more_than_is_left_is_an_error_or_taken_whole():
    budget = Budget(10, 40)
    assert fit_budget(budget, 10, 40) is not None
    with pytest.raises(ValueError, match="asks for 10 videos, but only 3 videos are left"):
        fit_budget(budget, 3, 100)
    with pytest.raises(
        ValueError, match="asks for 40 frames, but only 39 frames are left.*take-rest"
    ):
        fit_budget(budget, 10, 39)
    rest = fit_budget(budget, 3, 35, take_rest=True)
    assert (rest.videos, rest.frames, rest.per_video) == (3, 35, 11)
    assert rest.notes == (
        "the budget asks for 10 videos, only 3 left: all taken",
        "the budget asks for 40 frames, only 35 left: all taken",
    )
    with pytest.raises(ValueError, match="nothing is left"):
        fit_budget(budget, 0, 0, take_rest=True)


def test_remainder_goes_to_the_best_videos_first():
    # 11 frames, 4 videos: 2 each and 3 left over; the second video is full, so videos 0, 2,
    # 3 get one more
    assert share_frames([9, 2, 9, 9], Budget(4, 11)).tolist() == [3, 2, 3, 3]
    assert share_frames([9, 9, 9, 9], Budget(4, 11)).tolist() == [3, 3, 3, 2]
    # short videos leave 1 + 2 frames of their share; two rounds over the others, best first
    assert share_frames([2, 9, 1, 9], Budget(4, 12)).tolist() == [2, 5, 1, 4]
    assert share_frames([1, 1], Budget(2, 10)).tolist() == [1, 1]  # nothing more to be had


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 200))
@settings(deadline=None, max_examples=150)
def test_shares_are_spent_fully_never_exceeded_and_fair(eligible, more):
    budget = Budget(len(eligible), len(eligible) + more)
    counts = share_frames(np.array(eligible), budget)
    assert counts.sum() == min(budget.frames, sum(eligible))
    assert (counts >= 1).all() and (counts <= eligible).all()
    slow = [min(budget.per_video, places) for places in eligible]
    while sum(slow) < min(budget.frames, sum(eligible)):
        for video, places in enumerate(eligible):
            if slow[video] < places and sum(slow) < budget.frames:
                slow[video] += 1
    assert counts.tolist() == slow


@given(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 10000), st.integers(1, 10000))
@settings(deadline=None, max_examples=150)
def test_counts_are_the_floor_of_the_exact_share(videos, length, v, a):
    total = videos * length
    b_v, b_f = v * videos // 10**4, a * v * total // 10**8
    arguments = dict(videos=f"{v // 100}.{v % 100:02d}%", frames=f"{a / 100:.2f}%")
    if b_v < 1 or b_f < 1:
        with pytest.raises(ValueError):
            ask(videos, total, **arguments)
    else:
        budget = ask(videos, total, **arguments)
        assert (budget.videos, budget.frames) == (min(b_v, b_f), b_f)
        assert budget.videos * budget.per_video <= budget.frames


# --------------------------------------------------------------------------- schedules, A_t


def test_a_schedule_buys_the_difference_of_exact_totals():
    # the paper's curve on UCF-101-24: .25% of the frames in 5% of the videos is 5% of 5%:
    # 114 videos and 989 frames
    pairs = read_schedule("0.25/5, 0.5/10,5/80")
    assert pairs == [
        (Fraction(1, 400), Fraction(1, 20)),
        (Fraction(1, 200), Fraction(1, 10)),
        (Fraction(1, 20), Fraction(4, 5)),
    ]
    counts = [scheduled_counts(pairs, cycle, 2284, 395868) for cycle in range(3)]
    assert counts == [(114, 989), (228 - 114, 1979 - 989), (1827 - 228, 19793 - 1979)]
    assert scheduled_counts(read_schedule("0.15/5"), 0, 660, 22700) == (33, 34)
    with pytest.raises(
        ValueError, match="3 pairs, for cycles 0 to 2; there is none for cycle 3"
    ):
        scheduled_counts(pairs, 3, 2284, 395868)


@pytest.mark.parametrize(
    "text, named",
    [
        ("1", "'1' is not a pair A/V"),
        ("1/2/3", "is not a pair"),
        ("", "is not a pair"),
        ("1/5,", "'' is not a pair"),
        ("1/5,1/10", "1/10 comes after a larger pair"),
        ("1/5,2/4", "2/4 comes after a larger pair"),
        ("0/5", "above 0 and at most 100"),
        ("1/101", "above 0 and at most 100"),
        ("a/5", "must be a number"),
    ],
)
def test_schedules_that_make_no_sense_are_refused_in_one_line(text, named):
    with pytest.raises(ValueError) as error:
        read_schedule(text)
    assert named in str(error.value) and "\n" not in str(error.value)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), min_size=1, max_size=8),
    st.integers(1, 5000),
    st.integers(1, 200),
)
@settings(deadline=None, max_examples=100)
def test_a_schedule_adds_up_to_the_floor_of_its_last_pair(steps, videos, length):
    totals = np.cumsum(steps, axis=0) + [0, 1]
    text = ",".join(f"{a / 100:.2f}/{v / 100:.2f}" for a, v in totals.tolist())
    counts = [
        scheduled_counts(read_schedule(text), cycle, videos, videos * length)
        for cycle in range(len(steps))
    ]
    assert min(min(pair) for pair in counts) >= 0
    a, v = totals[-1].tolist()
    assert tuple(np.sum(counts, axis=0)) == (v * videos // 10**4, a * videos * length // 10**4)


def test_frames_per_video_makes_the_budget_of_frames():
    budget = ask(100, 10000, videos="7%", frames_per_video="3")
    assert (budget.videos, budget.frames, budget.per_video) == (7, 21, 3)
    poor = ask(100, 10000, videos=10, frames_per_video=3, video_money="4")
    assert (poor.videos, poor.frames) == (4, 12), "of the videos that can be paid for"
    with pytest.raises(ValueError, match="0 frames per video"):
        ask(100, 10000, videos=10, frames_per_video=0)


def test_where_no_video_is_bought_the_old_ones_share_the_frames():
    assert ask(100, 10000, videos="5%", frames="4%", old_videos=8) == Budget(8, 20)
    assert ask(10, 1000, frames=30, old_videos=8) == Budget(8, 30), (
        "5% of 10 videos is none, and not needed"
    )
    assert ask(100, 10000, videos=2, frames_per_video=5, old_videos=8).frames == 40
    assert ask(100, 10000, frames=5, old_videos=8).videos == 5
    assert ask(100, 10000, frames=30, old_videos=8, video_money=1).videos == 8, (
        "there is nothing to pay"
    )
