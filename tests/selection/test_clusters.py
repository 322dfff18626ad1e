"""Quotas of clusters: proportional, in whole videos, sum exact, and what is too much goes
elsewhere.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.selection.clusters import cluster_quotas


def test_largest_remainder_by_hand():
    # shares of 5 over 6, 3, 1: 3.0, 1.5, 0.5: whole parts 3, 1, 0; the remainders tie, the
    # lower cluster gets it
    assert cluster_quotas([6, 3, 1], 5).tolist() == [3, 2, 0]
    # shares of 4 over 5, 3, 2: 2.0, 1.2, 0.8: the largest remainder is the last cluster's
    assert cluster_quotas([5, 3, 2], 4).tolist() == [2, 1, 1]
    assert cluster_quotas([7, 7, 7], 2).tolist() == [1, 1, 0]
    assert cluster_quotas([0, 4, 0], 3).tolist() == [0, 3, 0]
    assert cluster_quotas([3, 2], 5).tolist() == [3, 2]
    assert cluster_quotas([3, 2], 0).tolist() == [0, 0]


def test_what_a_cluster_has_no_room_for_is_split_by_the_same_rule():
    # shares of 8 over 8, 4, 4: 4, 2, 2, but the first has room for 1: the 3 go to the
    # others as 4 : 4 -> 2 and 1
    assert cluster_quotas([8, 4, 4], 8, [1, 4, 4]).tolist() == [1, 4, 3]
    # over 6, 3, 3 with 9 videos: 4.5, 2.25, 2.25 -> 5, 2, 2; rooms 2, 2, 9 leave 3 for the last
    assert cluster_quotas([6, 3, 3], 9, [2, 2, 9]).tolist() == [2, 2, 5]


def test_the_room_that_is_missing_goes_by_size_and_not_by_what_is_left():
    # shares of 8 over 8, 6, 2: 4, 3, 1, but the first has room for 1. Its 3 go to the
    # others as 6 : 2, 2.25 and .75: 2, and the one left over to the larger remainder
    assert cluster_quotas([8, 6, 2], 8, [1, 6, 2]).tolist() == [1, 5, 2]
    # the same with the last two exchanged, and with equal remainders: the lower number
    assert cluster_quotas([8, 2, 6], 8, [1, 2, 6]).tolist() == [1, 2, 5]
    assert cluster_quotas([6, 3, 3], 5, [0, 3, 3]).tolist() == [0, 3, 2]
    # a cluster that the second round fills up leaves a third round to the other
    assert cluster_quotas([6, 3, 3], 8, [1, 3, 9]).tolist() == [1, 3, 4]


def slow_quotas(sizes, count, room):
    """The rule in fractions: whole parts of the shares, then the largest remainders; what
    has no room goes on to the clusters that have.
    """
    quotas = [0] * len(sizes)
    while (left := count - sum(quotas)) > 0:
        free = [c for c in range(len(sizes)) if quotas[c] < room[c]]
        total = sum(sizes[c] for c in free)
        shares = {c: Fraction(sizes[c] * left, total) for c in free}
        parts = {c: int(share) for c, share in shares.items()}
        by_remainder = sorted(free, key=lambda c: (parts[c] - shares[c], c))
        for c in by_remainder[: left - sum(parts.values())]:
            parts[c] += 1
        for c in free:
            quotas[c] += min(parts[c], room[c] - quotas[c])
    return quotas


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=6),
    st.data(),
)
@settings(deadline=None, max_examples=200)
def test_with_rooms_quotas_equal_the_slow_version(pairs, data):
    sizes, room = [size for size, _ in pairs], [min(pair) for pair in pairs]
    count = data.draw(st.integers(0, sum(room)))
    assert cluster_quotas(sizes, count, room).tolist() == slow_quotas(sizes, count, room)


def test_too_many_videos_are_an_error():
    with pytest.raises(ValueError, match="room for 5 videos cannot give 6"):
        cluster_quotas([3, 2], 6)
    with pytest.raises(ValueError, match="counts of the same clusters"):
        cluster_quotas([3, -2], 1)


@given(st.lists(st.integers(0, 600), min_size=1, max_size=20), st.data())
@settings(deadline=None, max_examples=200)
def test_quotas_are_exact_and_within_one_of_the_share(sizes, data):
    count = data.draw(st.integers(0, sum(sizes)))
    given_sizes = np.array(sizes)
    quotas = cluster_quotas(given_sizes, count)
    assert given_sizes.tolist() == sizes, "the input was changed"
    assert quotas.sum() == count
    assert (quotas <= sizes).all()
    for size, quota in zip(sizes, quotas.tolist(), strict=True):
        assert abs(quota - Fraction(size * count, max(sum(sizes), 1))) < 1


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=9),
    st.data(),
)
@settings(deadline=None, max_examples=200)
def test_rooms_are_kept_and_the_sum_is_still_exact(pairs, data):
    sizes, room = [size for size, _ in pairs], [min(pair) for pair in pairs]
    count = data.draw(st.integers(0, sum(room)))
    quotas = cluster_quotas(sizes, count, room)
    assert quotas.sum() == count and (quotas <= room).all() and (quotas >= 0).all()
