"""typiclust: the most typical videos of clusters without labels (Hacohen, Dekel and
Weinshall, Active learning on a budget: opposite strategies suit high and low budgets, ICML
2022, TPC).

k-means with K = b_v + (labeled videos) clusters, at most 500. In a cluster,
    typicality(u) = 1 / mean distance of u to its 20 nearest neighbors
The next video is the most typical one of the cluster with the fewest labeled and chosen
videos, of these the largest. As long as there are clusters without a label, that is the
largest uncovered one.
"""

import warnings

import numpy as np

from claus.selection.choice import Task, VideoChoice

MOST_CLUSTERS = 500
NEIGHBORS = 20
BLOCK = 1024  # videos whose distances are in memory at once


def typiclust(task: Task) -> VideoChoice:
    """The videos of typical_videos in clusters by k-means of the latents."""
    pool, count = task.pool, task.budget.videos
    wanted = count + int(np.sum(pool.labeled_N))
    seed = int(task.generator.integers(2**32))
    clusters_N = k_means(pool.latents_N_D, min(wanted, MOST_CLUSTERS), seed)
    videos = typical_videos(
        pool.latents_N_D, clusters_N, pool.room_N > 0, pool.labeled_N, count
    )
    sizes = np.bincount(clusters_N)
    reasons = {
        video: f"choice {place}: most typical of a cluster of {sizes[clusters_N[video]]}"
        for place, video in enumerate(videos.tolist(), 1)
    }
    return VideoChoice(videos, np.empty(0, np.int64), reasons)


def k_means(latents_N_D: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Clusters of the videos by k-means++ -> int64 (N,) in [0, count); fewer are used where
    fewer latents differ. seed: 0 <= seed < 2^32. Needs scikit-learn.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    count = min(count, len(latents_N_D))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # latents that do not differ
        found = KMeans(count, n_init=1, random_state=seed).fit(latents_N_D)
    return found.labels_.astype(np.int64)


def typical_videos(
    latents_N_D: np.ndarray,
    clusters_N: np.ndarray,
    candidates_N: np.ndarray,
    labeled_N: np.ndarray,
    count: int,
) -> np.ndarray:
    """The most typical candidates of the least covered clusters -> int64 (count,), distinct,
    in the order of choice.

    latents_N_D: (N, D) float · clusters_N: (N,) int >= 0 · candidates_N, labeled_N: (N,)
    bool. Ties: of clusters the lower number, of videos the lower index. ValueError where
    there are fewer candidates.
    """
    open_N = np.array(candidates_N, dtype=bool)
    if count > open_N.sum():
        raise ValueError(f"{open_N.sum()} candidates cannot give {count} videos")
    labeled_N = np.asarray(labeled_N, dtype=bool)
    sizes_K = np.bincount(clusters_N)
    open_K = np.bincount(clusters_N[open_N], minlength=len(sizes_K))
    covered_K = np.bincount(clusters_N[labeled_N], minlength=len(sizes_K))
    ranked = {}  # cluster: its candidates, most typical first
    videos = np.empty(count, np.int64)
    for place in range(count):
        clusters = np.flatnonzero(open_K)
        order = np.lexsort((-sizes_K[clusters], covered_K[clusters]))
        cluster = int(clusters[order[0]])
        if cluster not in ranked:
            members = np.flatnonzero(clusters_N == cluster)
            spread_M = mean_distances(latents_N_D[members])
            by_spread = members[np.argsort(spread_M, kind="stable")]
            ranked[cluster] = iter(by_spread[open_N[by_spread]].tolist())
        videos[place] = next(ranked[cluster])
        open_K[cluster] -= 1
        covered_K[cluster] += 1
    return videos


def mean_distances(latents_M_D: np.ndarray, neighbors: int = NEIGHBORS) -> np.ndarray:
    """Mean Euclidean distance of each latent to its `neighbors` nearest others, or to all
    where there are fewer -> float64 (M,); 0 where there is no other. Its inverse is the
    typicality.
    """
    from scipy.spatial.distance import cdist  # here: it takes a quarter of a second

    latents_M_D = np.asarray(latents_M_D, dtype=np.float64)
    count = min(neighbors, len(latents_M_D) - 1)
    means = np.zeros(len(latents_M_D))
    if count < 1:
        return means
    for start in range(0, len(latents_M_D), BLOCK):
        distances = cdist(latents_M_D[start : start + BLOCK], latents_M_D)
        # its distance to itself, 0, is the smallest of the count + 1
        nearest = np.partition(distances, count, axis=1)[:, : count + 1]
        means[start : start + BLOCK] = np.sort(nearest, axis=1).sum(1) / count
    return means
