"""typiclust: which videos come back, by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import make_pool, make_task

from claus.selection.budget import Budget
from claus.selection.typiclust import (
    MOST_CLUSTERS,
    k_means,
    mean_distances,
    typical_videos,
    typiclust,
)


def on_a_line(*places):
    return np.array(places, float)[:, None]


def mask(count, *places):
    return np.isin(np.arange(count), places)


def test_mean_distances_by_hand():
    # of 0, 1, 3, 7 to the two nearest others: 1 and 3; 1 and 2; 2 and 3; 4 and 6
    assert mean_distances(on_a_line(0, 1, 3, 7), 2).tolist() == [2, 1.5, 2.5, 5]
    # to all three where there are no more
    assert mean_distances(on_a_line(0, 1, 3, 7), 20).tolist() == [11 / 3, 3, 3, 17 / 3]
    assert mean_distances(on_a_line(5)).tolist() == [0]


def test_the_middle_of_the_largest_cluster_without_a_label_comes_first():
    # clusters 0: 0 1 2 (labeled: 2) | 1: 10 11 12 13.5 | 2: 20 30 31. Largest without a
    # label: cluster 1, whose 11 is 1, 1 and 2.5 from the others (12: 2, 1, 1.5). Then
    # cluster 2, whose 30 is 10 and 1 away. All are covered once: of 0 and 2, as large, the
    # lower number
    latents = on_a_line(0, 1, 2, 10, 11, 12, 13.5, 20, 30, 31)
    clusters = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    candidates = ~mask(10, 2)
    videos = typical_videos(latents, clusters, candidates, mask(10, 2), 5)
    assert videos.tolist()[:2] == [4, 8]
    # covered once each: the largest is cluster 1 again, its next most typical is 12
    assert videos.tolist()[2] == 5
    # then clusters 0 and 2 are equal: the lower number, whose 1 is the middle; then 31
    assert videos.tolist()[3:] == [1, 9]


def test_a_cluster_that_can_give_no_video_is_passed_over():
    # cluster 1 is the largest and has no label, but none of it is a candidate
    clusters = np.array([0, 0, 1, 1, 1])
    videos = typical_videos(on_a_line(0, 1, 5, 6, 7), clusters, mask(5, 0, 1), mask(5), 2)
    assert videos.tolist() == [0, 1]  # equally typical: the lower index
    with pytest.raises(ValueError, match="2 candidates cannot give 3 videos"):
        typical_videos(on_a_line(0, 1, 5, 6, 7), clusters, mask(5, 0, 1), mask(5), 3)


def slow_typical(latents, clusters, candidates, labeled, count, neighbors=20):
    """The same with loops."""
    chosen = []
    for _ in range(count):
        left = [video for video in candidates if video not in chosen]

        def rank(cluster):
            members = [v for v in range(len(clusters)) if clusters[v] == cluster]
            covered = sum(v in labeled or v in chosen for v in members)
            return covered, -len(members), cluster

        cluster = min({clusters[video] for video in left}, key=rank)
        members = [v for v in range(len(clusters)) if clusters[v] == cluster]

        spread = {}
        for video in members:
            far = sorted(abs(latents[video] - latents[v]) for v in members if v != video)
            near = far[:neighbors]
            spread[video] = sum(near) / len(near) if near else 0
        inside = [(spread[video], video) for video in left if clusters[video] == cluster]
        chosen.append(min(inside)[1])
    return chosen


@given(st.data(), st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_equals_the_slow_version(data, count):
    # whole numbers, so that ties are exact
    places = data.draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count))
    clusters = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    labeled = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    candidates = [video for video in range(count) if video not in labeled]
    wanted = data.draw(st.integers(1, len(candidates)))
    videos = typical_videos(
        on_a_line(*places),
        np.array(clusters),
        mask(count, *candidates),
        mask(count, *labeled),
        wanted,
    ).tolist()
    assert videos == slow_typical(places, clusters, candidates, labeled, wanted)
    assert len(set(videos)) == wanted and not set(videos) & labeled


def test_k_means_finds_clumps_and_is_the_same_for_the_same_seed():
    generator = np.random.default_rng(0)
    clumps = np.repeat([[0, 0], [9, 0], [0, 9]], 10, axis=0)
    latents = clumps + generator.normal(0, 0.1, (30, 2))
    clusters = k_means(latents, 3, seed=1)
    assert [len(set(clusters[k : k + 10].tolist())) for k in (0, 10, 20)] == [1, 1, 1]
    assert sorted(np.bincount(clusters)) == [10, 10, 10]
    assert clusters.tolist() == k_means(latents, 3, seed=1).tolist()
    # fewer different latents than clusters: no warning, every video has a cluster
    same = k_means(np.zeros((4, 2)), 3, seed=0)
    assert same.tolist() == [0, 0, 0, 0]


def test_the_number_of_clusters_is_videos_wanted_plus_labeled_and_capped(monkeypatch):
    asked = []

    def spy(latents, count, seed):
        asked.append((count, seed))
        return np.zeros(len(latents), np.int64)

    monkeypatch.setattr("claus.selection.typiclust.k_means", spy)
    for videos, labeled in ((600, 3), (600, 550)):
        free_N = np.arange(videos) < labeled
        pool = make_pool(
            np.arange(videos + 1), ~free_N, free_N, latents_N_D=np.zeros((videos, 2))
        )
        typiclust(make_task(pool, Budget(4, 4), [7, 1]))
    assert [count for count, _ in asked] == [7, MOST_CLUSTERS]
    seed = int(np.random.default_rng([7, 1]).integers(2**32))
    assert [number for _, number in asked] == [seed, seed]


def test_the_rule_takes_the_middle_of_every_clump():
    # four clumps of five on a line, the first labeled: one cluster each, as 3 + 1 = 4. The
    # middles of the three others
    places = (np.arange(4)[:, None] * 100 + np.array([-3, -1, 0, 1, 3])).ravel()
    labeled = mask(20, 2)
    pool = make_pool(
        np.arange(21), ~labeled, labeled, latents_N_D=places.astype(float)[:, None]
    )
    choice = typiclust(make_task(pool, Budget(3, 3), [0, 1]))
    assert sorted(choice.videos.tolist()) == [7, 12, 17]
    assert choice.reasons[7].endswith("most typical of a cluster of 5")
    assert choice.spare.tolist() == []
