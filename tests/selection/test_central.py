"""k-means as a rule: which videos come back, by hand and by brute force."""

import numpy as np
import pytest
from pools import make_pool, make_task

from claus.selection.budget import Budget
from claus.selection.central import central, central_videos


def on_a_line(*places):
    return np.array(places, float)[:, None]


def test_the_middle_of_each_cluster_the_largest_cluster_first():
    # cluster 0: 0 6, mean 3, both 3 away: the lower index. Cluster 1: 10 11 15, mean 12: 11.
    # Cluster 2: 30 alone. Then second ones: 10 of the largest, 6 of cluster 0
    latents, clusters = on_a_line(0, 6, 10, 11, 15, 30), np.array([0, 0, 1, 1, 1, 2])
    assert central_videos(latents, clusters, 3).tolist() == [3, 0, 5]
    assert central_videos(latents, clusters, 6).tolist() == [3, 0, 5, 2, 1, 4]
    with pytest.raises(ValueError, match="6 candidates cannot give 7 videos"):
        central_videos(latents, clusters, 7)


def test_against_loops():
    generator = np.random.default_rng(0)
    for _ in range(20):
        latents = generator.normal(size=(30, 3))
        clusters = generator.integers(0, 6, 30)
        left = {k: [v for v in range(30) if clusters[v] == k] for k in range(6)}
        for members in left.values():
            mean = latents[members].mean(0) if members else 0
            members.sort(key=lambda v, mean=mean: (((latents[v] - mean) ** 2).sum(), v))
        by_size = sorted(left, key=lambda k: (-len(left[k]), k))
        slow = [left[k][place] for place in range(30) for k in by_size if place < len(left[k])]
        assert central_videos(latents, clusters, 11).tolist() == slow[:11]


def test_of_well_separated_clusters_each_gives_its_middle_and_no_labeled_video_is_chosen():
    latents, candidates = on_a_line(0, 1, 2, 100, 101, 102, 200, 201, 202), np.arange(9) != 1
    pool = make_pool(np.arange(0, 19, 2), candidates, ~candidates, latents_N_D=latents)
    choice = central(make_task(pool, Budget(3, 3)))
    assert sorted(choice.videos.tolist()[:2]) == [4, 7] and choice.videos[2] == 0
    assert choice.reasons[0] == "choice 3: in the middle of a cluster of 2"
    assert choice.reasons.keys() == {0, 4, 7} and not len(choice.spare)


def test_equal_latents_still_give_as_many_videos():
    pool = make_pool(np.arange(0, 11, 2), latents_N_D=np.zeros((5, 2)))
    assert central(make_task(pool, Budget(3, 3))).videos.tolist() == [0, 1, 2]
