"""core-set: which videos come back, by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, make_task

from claus.selection.budget import Budget
from claus.selection.coreset import core_set, k_center


def on_a_line(*places):
    return np.array(places, float)[:, None]


def mask(count, *places):
    return np.isin(np.arange(count), places)


def test_the_farthest_from_all_labeled_and_chosen_comes_next():
    # labeled at 0; 10 is the farthest, then 5 is 5 from both, then 2 (2 from 0) before 9 (1
    # from 10)
    latents = on_a_line(0, 2, 5, 9, 10)
    candidates = ~mask(5, 0)
    videos, distances = k_center(latents, candidates, mask(5, 0), 4)
    assert videos.tolist() == [4, 2, 1, 3] and distances.tolist() == [10, 5, 2, 1]


def test_every_labeled_video_is_a_center():
    latents = on_a_line(0, 4, 7, 10)
    videos, distances = k_center(latents, mask(4, 1, 2), mask(4, 0, 3), 1)
    assert videos.tolist() == [1] and distances.tolist() == [4]


def test_ties_go_to_the_lower_index_and_nothing_comes_twice():
    latents = on_a_line(0, 3, 3, 3, -3)
    videos, distances = k_center(latents, ~mask(5, 0), mask(5, 0), 4)
    assert videos.tolist() == [1, 4, 2, 3] and distances.tolist() == [3, 3, 0, 0]


def test_videos_that_are_no_candidates_are_neither_chosen_nor_centers():
    # 100 may not be chosen (it cannot give a frame): 6 is, and after it 1
    videos, _ = k_center(on_a_line(0, 1, 6, 100), mask(4, 1, 2), mask(4, 0), 2)
    assert videos.tolist() == [2, 1]


def test_without_a_labeled_video_it_begins_far_from_the_mean():
    # the mean is 4; 12 is 8 from it; then 0, 12 from that
    videos, distances = k_center(on_a_line(0, 1, 3, 12), np.ones(4, bool), mask(4), 2)
    assert videos.tolist() == [3, 0] and distances.tolist() == [8, 8 - 4]


def test_more_than_there_is_is_an_error():
    with pytest.raises(ValueError, match="2 candidates cannot give 3 videos"):
        k_center(on_a_line(0, 1, 2), mask(3, 1, 2), mask(3, 0), 3)


def slow_k_center(latents, candidates, labeled, count):
    """The same with loops: [(video, distance), ...]."""
    centers = [latents[video] for video in labeled]
    chosen = []
    for _ in range(count):
        best = None
        for video in candidates:
            if video in [taken for taken, _ in chosen]:
                continue
            far = min(((latents[video] - center) ** 2).sum() for center in centers)
            if best is None or far > best[1]:
                best = video, far
        chosen.append((best[0], best[1] ** 0.5))
        centers.append(latents[best[0]])
    return chosen


@given(st.data(), st.integers(2, 14), st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_equals_the_slow_version(data, count, dims):
    # whole numbers, so that ties are exact
    row = st.lists(st.integers(-3, 3), min_size=dims, max_size=dims)
    latents = np.array(data.draw(st.lists(row, min_size=count, max_size=count)), float)
    some = st.sets(st.integers(0, count - 1), min_size=1, max_size=count - 1)
    labeled = sorted(data.draw(some))
    candidates = [video for video in range(count) if video not in labeled]
    wanted = data.draw(st.integers(1, len(candidates)))
    given_latents = latents.copy()
    videos, distances = k_center(
        latents, mask(count, *candidates), mask(count, *labeled), wanted
    )
    slow = slow_k_center(latents, candidates, labeled, wanted)
    assert videos.tolist() == [video for video, _ in slow]
    np.testing.assert_allclose(distances, [distance for _, distance in slow], rtol=1e-12)
    assert len(set(videos.tolist())) == wanted and not set(videos.tolist()) & set(labeled)
    np.testing.assert_array_equal(latents, given_latents)


def test_many_centers_are_met_block_by_block(monkeypatch):
    generator = np.random.default_rng(0)
    latents, labeled = generator.normal(size=(60, 4)), np.arange(60) < 25
    whole = k_center(latents, ~labeled, labeled, 10)
    monkeypatch.setattr("claus.selection.coreset.BLOCK", 7)
    pieces = k_center(latents, ~labeled, labeled, 10)
    assert whole[0].tolist() == pieces[0].tolist()
    assert whole[1].tobytes() == pieces[1].tobytes()


def test_the_rule_respects_its_budget_and_says_why():
    pool = make_pool(
        np.arange(0, 51, 10),
        candidates_N=~mask(5, 0),
        free_N=mask(5, 0),
        latents_N_D=on_a_line(0, 2, 5, 9, 10),
    )
    choice = core_set(make_task(pool, Budget(2, 7)))
    assert choice.videos.tolist() == [4, 2] and choice.spare.tolist() == []
    assert choice.reasons == {
        4: "choice 1: 10 from the nearest labeled or chosen video",
        2: "choice 2: 5 from the nearest labeled or chosen video",
    }
