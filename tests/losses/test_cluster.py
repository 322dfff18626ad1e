"""Cluster loss, votes, moving centers and reassignment, with answers worked out by hand."""

import warnings

import numpy as np
import pytest
import torch

from claus.losses.cluster import (
    FIRST_COUNT,
    Clusters,
    cluster_loss,
    evaluation_centers,
    nearest,
    vote,
)


def corners_pool():
    """Four videos of three tiles each near (0,0), (0,0), (10,0) and (0,10)."""
    rng = np.random.default_rng(0)
    places = {"a": (0, 0), "b": (0, 0), "c": (10, 0), "d": (0, 10)}
    return {
        name: np.array(place) + rng.normal(0, 0.1, (3, 2)) for name, place in places.items()
    }


# ---- loss ----


def test_loss_by_hand():
    latent, center = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[0.0, 0], [3, 1]])
    assert cluster_loss(latent, center, 0.1).item() == pytest.approx(
        0.05 * (1 + 4 + 9)
    )  # a sum, not a mean
    assert cluster_loss(latent, center).item() == pytest.approx(0.5e-6 * 14)


def test_only_the_latent_has_a_gradient():
    latent = torch.tensor([[1.0, 2]], requires_grad=True)
    center = torch.tensor([[0.0, 5]], requires_grad=True)
    cluster_loss(latent, center, 0.1).backward()
    assert center.grad is None
    torch.testing.assert_close(latent.grad, torch.tensor([[0.1, -0.3]]))  # λ (x - C)


def test_half_precision_latents_are_squared_in_single():
    latent = torch.full((1, 408), 300.0, dtype=torch.float16)  # 300² > 65504
    assert cluster_loss(latent, torch.zeros(1, 408), 2.0).item() == pytest.approx(408 * 9e4)


# ---- nearest, vote ----


def test_nearest_against_loops_and_ties():
    rng = np.random.default_rng(1)
    latents, centers = rng.normal(size=(20, 5)), rng.normal(size=(4, 5))
    slow = [
        min(
            range(4),
            key=lambda k: sum((x - c) ** 2 for x, c in zip(latent, centers[k], strict=True)),
        )
        for latent in latents
    ]
    assert nearest(latents, centers).tolist() == slow
    assert nearest([[0.0, 0]], [[1, 0], [0, 1], [-1, 0]]).tolist() == [0]


def test_nearest_of_large_latents_is_not_lost_in_rounding():
    centers = np.array([[1000.0, 0], [1000.0, 0.01]], np.float32)
    assert nearest(np.array([[1000, 0.006]], np.float32), centers).tolist() == [1]


def test_the_majority_decides_not_the_mean():
    tiles = [[0.4], [0.4], [10.0]]  # the mean 3.6 is nearer to 4
    assert vote(tiles, [[0.0], [4.0], [10.0]]) == 0


def test_a_tied_vote_goes_to_the_center_nearest_the_mean():
    low, high = (
        [[1.0], [0.0], [10.0], [7.0]],
        [[3.0], [0.0], [10.0], [9.0]],
    )  # two votes each; means 4.5 and 5.5
    assert vote(low, [[10.0], [0.0]]) == 1 and vote(low, [[0.0], [10.0]]) == 0
    assert vote(high, [[10.0], [0.0]]) == 0 and vote(high, [[0.0], [10.0]]) == 1
    assert (
        vote([[0.0], [10.0]], [[11.0], [5.0], [1.0]]) == 2
    )  # the mean 5 itself is a center, but without a vote


# ---- k-means ----


def test_k_means_finds_separate_groups():
    clusters = Clusters.fit(corners_pool(), 3, seed=0)
    assert clusters.centers.shape == (3, 2) and clusters.centers.dtype == torch.float32
    assignment = clusters.assignment
    assert assignment["a"] == assignment["b"] and len(set(assignment.values())) == 3
    for name, tiles in corners_pool().items():
        assert np.abs(clusters.centers[assignment[name]].numpy() - tiles.mean(0)).max() < 0.2
    assert clusters.counts.tolist() == [FIRST_COUNT] * 3


def test_k_is_no_larger_than_the_number_of_videos():
    assert len(Clusters.fit(corners_pool(), 5, seed=0).centers) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = Clusters.fit({"a": np.random.default_rng(0).normal(size=(6, 3))}, 5, seed=0)
    assert len(alone.centers) == 1 and alone.assignment == {"a": 0}


def test_equal_latents_give_one_cluster_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clusters = Clusters.fit({name: np.ones((2, 3)) for name in "abc"}, 3, seed=0)
    assert clusters.centers.tolist() == [[1, 1, 1]] and set(clusters.assignment.values()) == {0}


def test_k_means_is_the_same_for_the_same_seed():
    rng = np.random.default_rng(3)
    pool = {str(i): rng.normal(size=(4, 6)).astype(np.float32) for i in range(12)}
    first, again = Clusters.fit(pool, 5, seed=1), Clusters.fit(pool, 5, seed=1)
    assert torch.equal(first.centers, again.centers) and first.assignment == again.assignment


# ---- following the clips ----


def test_centers_follow_with_n_counting_from_100():
    clusters = Clusters([[0.0, 0], [10, 10]], [100, 100], {"a": 0, "b": 1})
    latent = torch.tensor([[1.0, 0], [10, 30], [1, 0]], requires_grad=True)
    clusters.follow(["a", "b", "a"], latent)
    first = 1 / 100
    second = first + (1 - first) / 101
    np.testing.assert_allclose(clusters.centers.numpy(), [[second, 0], [10, 10.2]], rtol=1e-6)
    assert clusters.counts.tolist() == [102, 101]
    assert not clusters.centers.requires_grad


def test_centers_of_the_batch_by_video():
    clusters = Clusters([[0.0, 0], [10, 10]], [100, 100], {"a": 0, "b": 1})
    assert clusters.of(["b", "a", "b"], "cpu").tolist() == [[10, 10], [0, 0], [10, 10]]


def test_the_callers_centers_stay_as_they_are():
    centers, counts = np.zeros((1, 2), np.float32), np.array([100])
    Clusters(centers, counts, {"a": 0}).follow(["a"], torch.ones(1, 2))
    assert not centers.any() and counts.tolist() == [100]


def test_a_batch_at_once_moves_the_centers_as_clip_by_clip():
    rng = np.random.default_rng(2)
    names = ["a", "b", "c", "a", "a", "c", "b", "a"]
    latents, start = (
        rng.normal(size=(8, 6)).astype(np.float32),
        rng.normal(size=(3, 6)).astype(np.float32),
    )
    clusters = Clusters(start, [100, 250, 100], {"a": 0, "b": 1, "c": 0})
    clusters.follow(names, torch.from_numpy(latents))
    centers, counts = start.astype(np.float64), [100, 250, 100]
    for name, x in zip(names, latents, strict=True):
        k = {"a": 0, "b": 1, "c": 0}[name]
        centers[k] += (x - centers[k]) / counts[k]
        counts[k] += 1
    np.testing.assert_allclose(clusters.centers.numpy(), centers, rtol=1e-5, atol=1e-6)
    assert clusters.counts.tolist() == counts == [106, 252, 100]


def test_without_reassignment_an_epoch_s_latents_are_let_go():
    clusters = Clusters([[0.0], [10.0]], [100, 100], {"a": 0})
    clusters.follow(["a"], torch.tensor([[9.0]]))
    assert (
        clusters.forget() == 0 and clusters.reassign() == 0 and clusters.assignment == {"a": 0}
    )


# ---- reassignment ----


def test_videos_go_to_the_center_nearest_the_mean_of_their_clips():
    clusters = Clusters([[0.0], [10.0]], [100, 100], {"a": 0, "b": 1, "unseen": 0})
    clusters.follow(
        ["a", "a", "b"], torch.tensor([[9.0], [6.0], [10.0]])
    )  # the mean of a is 7.5
    assert clusters.reassign() == 1
    assert clusters.assignment == {"a": 1, "b": 1, "unseen": 0}
    assert clusters.reassign() == 0  # nothing seen since


def test_each_epoch_counts_its_own_clips_alone():
    clusters = Clusters([[0.0], [10.0]], [100, 100], {"a": 0, "b": 1, "rest": 0})
    clusters.follow(["a"] * 3, torch.full((3, 1), 10.0))
    clusters.reassign()
    clusters.follow(["a"], torch.tensor([[1.0]]))  # over both epochs the mean is 7.75
    assert clusters.reassign() == 1 and clusters.assignment["a"] == 0


def test_an_empty_cluster_gets_the_video_farthest_from_its_center():
    clusters = Clusters(
        [[0.0], [1.0], [-100.0]], [150, 150, 150], {"a": 0, "b": 0, "c": 1, "d": 2}
    )
    clusters.follow(["a", "b", "c", "d"], torch.tensor([[0.0], [-3.0], [8.0], [5.0]]))
    center = clusters.centers.clone()
    # a, b → 0; c, d → 1; cluster 2 is empty; c lies farthest from its own center
    clusters.reassign()
    assert clusters.assignment == {"a": 0, "b": 0, "c": 2, "d": 1}
    assert clusters.centers[2].tolist() == [8.0] and clusters.counts[2] == FIRST_COUNT
    torch.testing.assert_close(clusters.centers[:2], center[:2])


def test_a_cluster_is_not_emptied_to_fill_another():
    clusters = Clusters([[0.0], [50.0], [-99.0]], [100] * 3, {"a": 0, "b": 0, "far": 1})
    clusters.follow(
        ["a", "b", "far"], torch.tensor([[0.0], [1.0], [90.0]])
    )  # far is alone in cluster 1
    clusters.reassign()
    assert clusters.assignment["far"] == 1 and sorted(clusters.assignment.values()) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_many_epochs_never_give_nan_or_an_empty_cluster(seed):
    rng = np.random.default_rng(seed)
    names = [str(i) for i in range(6)]
    clusters = Clusters.fit({name: rng.normal(size=(3, 4)) for name in names}, 5, seed)
    for _ in range(10):
        clusters.follow(names, torch.from_numpy(rng.normal(0, 10, (6, 4))).float())
        clusters.reassign()
        assert torch.isfinite(clusters.centers).all()
        assert set(clusters.assignment.values()) == set(range(5))


def test_collapsed_latents_never_give_nan():
    clusters = Clusters([[0.0], [1.0], [2.0]], [100] * 3, {"a": 0, "b": 1, "c": 2})
    for _ in range(3):
        clusters.follow(["a", "b", "c"], torch.zeros(3, 1))
        clusters.reassign()
    assert torch.isfinite(clusters.centers).all() and set(clusters.assignment) == {
        "a",
        "b",
        "c",
    }


def test_more_clusters_than_videos_are_left_empty():
    clusters = Clusters([[0.0], [1.0]], [100] * 2, {"a": 0})
    clusters.follow(["a"], torch.tensor([[5.0]]))
    clusters.reassign()
    assert clusters.assignment == {"a": 1} and torch.isfinite(clusters.centers).all()


# ---- state ----


def test_state_goes_round_and_is_a_copy():
    clusters = Clusters([[0.0, 1], [10, 10]], [100, 107], {"a": 0, "b": 1})
    state = clusters.state_dict()
    again = Clusters.from_state(state)
    clusters.follow(["a"], torch.tensor([[5.0, 5]]))
    assert again.centers.tolist() == [[0, 1], [10, 10]] and again.counts.tolist() == [100, 107]
    assert again.assignment == {"a": 0, "b": 1}
    again.follow(["a"], torch.tensor([[5.0, 5]]))
    assert torch.equal(again.centers, clusters.centers) and torch.equal(
        again.counts, clusters.counts
    )
    assert state["centres"].tolist() == [[0, 1], [10, 10]]


# ---- what the pool is assigned to ----


def test_a_center_is_the_mean_of_all_tiles_of_its_videos():
    latents = {"a": [[0.0], [2.0], [4.0]], "b": [[10.0]], "c": [[30.0]], "pool": [[99.0]]}
    assignment = {"a": 0, "b": 0, "c": 1, "unreadable": 1}
    centers = evaluation_centers(latents, assignment, [[-5.0], [-6.0]])
    assert centers.tolist() == [[4.0], [30.0]] and centers.dtype == np.float32


def test_a_cluster_without_a_video_takes_the_farthest_that_can_be_spared():
    latents = {"a": [[0.0]], "b": [[1.0]], "c": [[8.0]], "alone": [[50.0]]}
    given = np.array([[0.0], [0.0], [7.0]])
    centers = evaluation_centers(latents, {"a": 0, "b": 0, "c": 0, "alone": 1}, given)
    assert centers.tolist() == [[3.0], [50.0], [8.0]]  # c lies 5 from the mean 3
    assert given.tolist() == [[0.0], [0.0], [7.0]]
    left = evaluation_centers({"a": [[1.0]]}, {"a": 0}, [[5.0], [7.0]])
    assert left.tolist() == [[1.0], [7.0]]  # none to spare


def test_the_published_way_keeps_the_training_s_centers():
    clusters = Clusters([[5.0], [7.0]], [100, 100], {"a": 0, "b": 1})
    latents = {"a": np.array([[1.0]]), "b": np.array([[2.0]])}
    assert clusters.pool_centers(latents).tolist() == [[5.0], [7.0]]
    fitted = Clusters.fit(latents, 2, 0)
    fitted.centers += 100
    assert sorted(fitted.pool_centers(latents).ravel().tolist()) == [1.0, 2.0]
    with pytest.raises(ValueError, match="evaluation or training"):
        Clusters([[5.0]], [100], {}, "both")


def test_what_the_pool_is_assigned_to_is_kept():
    state = Clusters.fit(corners_pool(), 2, 0).state_dict()
    assert Clusters.from_state(state).scored_by == "evaluation"
    del state["scored_by"]  # as older checkpoints
    assert Clusters.from_state(state).scored_by == "training"
