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
