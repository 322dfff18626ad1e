"""Greedy choice of frames: hand-worked answers, a slow plain version, and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.reference.selection import greedy
from claus.selection import frames as module
from claus.selection.frames import choose_frames, eligible_frames


def pick(scores, count, labeled=(), eligible=None, last=(), **rule):
    """Frames chosen in one video, masks given as lists of frame numbers."""

    def mask(frames):
        return np.isin(np.arange(len(scores)), list(frames))

    picks = choose_frames(
        np.array(scores, float),
        [0, len(scores)],
        count,
        labeled=mask(labeled),
        eligible=None if eligible is None else mask(eligible),
        ranked_last=mask(last),
        **rule,
    )
    return picks.frames.tolist()


def test_a_peak_damps_its_neighbors():
    # sigma 1: next to the best frame the factor is 1 - exp(-1/2) = 0.39, two away 1 -
    # exp(-2) = 0.86, 3 away 0.989. After frame 2: 9 * .39 = 3.5, 8 * .86 = 6.9, 5 * .989 =
    # 4.9 -> frame 4 (8), then 6 (5 * .86 = 4.3 twice damped)
    scores = [1, 9, 10, 9, 8, 5, 5]
    assert pick(scores, 3, sigma=1) == [2, 4, 6]
    assert pick(scores, 3, damping="none") == [2, 1, 3]


def test_damped_scores_are_those_at_the_moment_of_choice():
    picks = choose_frames(np.array([4.0, 3.0, 2.0]), [0, 3], 3, sigma=1)
    near, far = 1 - math.exp(-0.5), 1 - math.exp(-2)
    assert picks.frames.tolist() == [0, 2, 1]  # 3 * near = 1.18 < 2 * far = 1.73
    np.testing.assert_allclose(picks.damped, [4, 2 * far, 3 * near * near], rtol=1e-12)


def test_authors_damping_subtracts():
    # after frame 0: 0.95 - exp(-1/2) = .343 and 0.5 - exp(-2) = .365, so frame 2 comes
    # before frame 1
    scores = [1.0, 0.95, 0.5]
    assert pick(scores, 3, damping="authors", sigma=1) == [0, 2, 1]
    picks = choose_frames(np.array(scores), [0, 3], 2, damping="authors", sigma=1)
    np.testing.assert_allclose(picks.damped, [1.0, 0.5 - math.exp(-2)], rtol=1e-12)
    # large scores make the two rules differ: the subtraction hardly shows, the factor does
    assert pick([100, 99, 50], 2, damping="authors", sigma=1) == [0, 1]
    assert pick([100, 99, 50], 2, damping="paper", sigma=1) == [0, 2]


def test_authors_damping_takes_scores_below_zero_and_paper_refuses_them():
    assert pick([-10, 0.2, -10, 0.3], 2, damping="authors", last=[0, 2]) == [3, 1]
    assert pick([-10, 0.2, -10, 0.3], 2, damping="paper", last=[0, 2]) == [3, 1]
    with pytest.raises(ValueError, match="below zero"):
        pick([-1, 0.2], 1)


def test_coverage_counts_what_a_label_newly_covers():
    # sigma 1: tau is 1, .607, .135, .011 at 0, 1, 2, 3 frames, then 0. Of 8 equal frames a
    # middle one covers most: 1 + 2 (.607 + .135 + .011) = 2.505; a frame at the end covers
    # 1.753
    near, far, last = (math.exp(-(gap**2) / 2) for gap in (1, 2, 3))
    picks = choose_frames(np.ones(8), [0, 8], 2, sigma=1, damping="coverage")
    assert picks.frames.tolist() == [
        3,
        6,
    ]  # frame 3 of the middle ones 3 and 4; then frame 6, as far as 0 from it
    np.testing.assert_allclose(picks.damped[0], 1 + 2 * (near + far + last), rtol=1e-12)
    # a lone peak does not outweigh a stretch; a label on either covers its surroundings for
    # the next
    assert pick(
        [3, 0.1, 0, 0, 0, 0, 2, 2, 2, 2], 2, damping="coverage", sigma=1, last=[2, 3, 4, 5]
    ) == [7, 0]
    # after a label on 1, frame 5 adds 1 + .607 (6) + .607 - .011 (4) + 0 (3) = 2.203, frame
    # 4 adds 2.202
    assert pick([1, 1, 1, 1, 1, 1, 1], 1, damping="coverage", sigma=1, labeled=[1]) == [5]
    with pytest.raises(ValueError, match="below zero cannot be damped by coverage"):
        pick([-1, 0.2], 1, damping="coverage")


def test_labeled_frames_damp_and_are_not_chosen():
    assert pick([10, 9, 8, 7, 1, 1], 1, labeled=[0], sigma=1) == [
        3
    ]  # 9 * .39, 8 * .86, 7 * .989 = 6.92 > 6.9
    assert pick([10, 9, 8, 7], 4, labeled=[1, 2]) == [0, 3]


def test_only_eligible_frames_and_no_more_than_there_are():
    assert pick([5, 9, 7, 8], 3, eligible=[0, 2], damping="none") == [2, 0]
    assert pick([5, 9], 0) == []


def test_frames_without_score_come_last_and_spread_out():
    # the only frame with a score first, then the frame farthest from it, then the middle of
    # the larger gap
    assert pick([0, 0, 0, 5, 0, 0, 0, 0, 0, 0], 3, last=[0, 1, 2, 4, 5, 6, 7, 8, 9]) == [
        3,
        9,
        0,
    ]
    # a damped score of nearly zero still goes before a frame that has none
    assert pick([0, 5, 1e-9, 0, 0, 0, 0, 0], 2, last=[0, 3, 4, 5, 6, 7]) == [1, 2]
    # nothing seen at all: 0, the far end, the middle, and so on; never 0, 1, 2
    assert pick([0] * 9, 4, last=range(9)) == [0, 8, 4, 2]
    assert pick([-10] * 9, 4, last=range(9), damping="authors") == [0, 8, 4, 2]
    # a labeled frame counts as a place already seen
    assert pick([0] * 9, 1, last=range(9), labeled=[0]) == [8]


def test_ties_go_to_the_farthest_then_to_the_earlier():
    # all 60 frames equal: 24 frames off the factor rounds to exactly 1, so many tie; the
    # farthest wins
    assert pick([1.0] * 60, 3) == [0, 59, 29]
    assert pick([1.0, 3.0, 1.0], 2) == [1, 0]  # both neighbors damped alike: the earlier
    assert pick([7, 7, 7], 1) == [0]
    assert pick([1.0] * 7, 2, labeled=[3], damping="none") == [0, 6]


def test_many_videos_of_many_lengths_keep_their_own_frames():
    offsets = np.array([0, 3, 3, 7, 8])
    scores = np.array([1, 2, 9, 4, 3, 8, 1, 6.0])
    picks = choose_frames(scores, offsets, [1, 4, 2, 3], damping="none")
    assert picks.offsets.tolist() == [
        0,
        1,
        1,
        3,
        4,
    ]  # the empty video and the one-frame video give what they have
    assert picks.frames.tolist() == [2, 2, 0, 0]
    assert picks.videos().tolist() == [0, 2, 2, 3]
    assert eligible_frames(scores > 2, offsets).tolist() == [1, 0, 3, 1]


def test_small_blocks_give_the_same_choice(monkeypatch):
    generator = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(1, 60, 80))])
    scores = generator.random(offsets[-1])
    whole = choose_frames(scores, offsets, 5)
    monkeypatch.setattr(module, "BLOCK", 64)
    pieces = choose_frames(scores, offsets, 5)
    assert pieces.frames.tolist() == whole.frames.tolist()
    assert pieces.damped.tobytes() == whole.damped.tobytes()


@st.composite
def videos(draw):
    """A few short videos with few distinct scores, so that ties are common, and masks."""
    lengths = draw(st.lists(st.integers(1, 26), min_size=1, max_size=6))
    total = sum(lengths)
    values = draw(
        st.sampled_from([[0.0, 1.0], [0.0, 0.5, 1.0, 2.0], [0.1 * k for k in range(12)]])
    )
    scores = np.array(draw(st.lists(st.sampled_from(values), min_size=total, max_size=total)))
    masks = [
        np.array(draw(st.lists(st.sampled_from(weights), min_size=total, max_size=total)))
        for weights in ([True, True, True, False], [False] * 5 + [True])
    ]
    return lengths, scores, *masks, draw(st.integers(0, 8))


@given(
    videos(),
    st.sampled_from(["paper", "authors", "none", "coverage"]),
    st.sampled_from([0.7, 8 / 3, 6.0]),
)
@settings(deadline=None, max_examples=200)
def test_equals_the_slow_version_and_keeps_its_promises(given_videos, damping, sigma):
    lengths, scores, eligible, labeled, count = given_videos
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    last = scores == 0
    before = [array.copy() for array in (scores, eligible, labeled, last, offsets)]
    rule = dict(
        eligible=eligible, labeled=labeled, ranked_last=last, damping=damping, sigma=sigma
    )
    picks = choose_frames(scores, offsets, count, **rule)
    for array, kept in zip((scores, eligible, labeled, last, offsets), before, strict=True):
        assert array.tobytes() == kept.tobytes(), "an input was changed"
    fewer = choose_frames(scores, offsets, max(count - 1, 0), **rule)
    for video, (start, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        chosen = picks.frames[picks.offsets[video] : picks.offsets[video + 1]].tolist()
        allowed = eligible[start:end] & ~labeled[start:end]
        assert len(set(chosen)) == len(chosen) == min(count, allowed.sum())
        assert allowed[chosen].all()
        slow = greedy(
            scores[start:end],
            count,
            np.flatnonzero(labeled[start:end]).tolist(),
            np.flatnonzero(eligible[start:end]).tolist(),
            np.flatnonzero(last[start:end]).tolist(),
            damping,
            sigma,
        )
        assert chosen == [frame for frame, _ in slow]
        np.testing.assert_allclose(
            picks.damped[picks.offsets[video] : picks.offsets[video + 1]],
            [damped for _, damped in slow],
            rtol=1e-12,
            atol=1e-12,
        )
        assert (
            fewer.frames[fewer.offsets[video] : fewer.offsets[video + 1]].tolist()
            == chosen[: max(count - 1, 0)]
        )


def covered(frame, labeled=()):
    """What a label on `frame` adds where frame 8 of nine is all there is to know, sigma 1."""
    nine = np.arange(9)
    picks = choose_frames(
        (nine == 8).astype(float),
        [0, 9],
        1,
        eligible=nine == frame,
        labeled=np.isin(nine, labeled),
        damping="coverage",
        sigma=1,
    )
    assert picks.frames.tolist() == [frame]
    return float(picks.damped[0])


def test_a_label_reaches_three_sigma_and_no_farther():
    near = math.exp(-9 / 2)
    assert covered(5) == pytest.approx(near, rel=1e-12) and covered(4) == 0
    # and so does the trust in what is labeled already: three frames off it takes away its
    # part, four frames off nothing
    assert covered(8, labeled=[5]) == pytest.approx(1 - near, rel=1e-12)
    assert covered(8, labeled=[4]) == 1


def test_bad_arguments_are_named():
    good = np.ones(4)
    with pytest.raises(ValueError, match="unknown damping 'gauss'"):
        choose_frames(good, [0, 4], 1, damping="gauss")
    with pytest.raises(ValueError, match="sigma must be above 0"):
        choose_frames(good, [0, 4], 1, sigma=0)
    with pytest.raises(ValueError, match="finite"):
        choose_frames(np.array([1.0, np.nan]), [0, 2], 1)
    with pytest.raises(ValueError, match="offsets"):
        choose_frames(good, [0, 3], 1)
    with pytest.raises(ValueError, match="boolean"):
        choose_frames(good, [0, 4], 1, eligible=np.ones(4, int))
