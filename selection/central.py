"""k-means: one video from the middle of each of b_v clusters (typical and spread).

k-means with K = b_v clusters of the candidates' latents; of each cluster the video nearest to
its center. What is labeled already plays no part, as in the plain baseline of the field.
"""

import numpy as np

from claus.selection.choice import Task, VideoChoice
from claus.selection.typiclust import k_means


def central(task: Task) -> VideoChoice:
    """The videos of central_videos in clusters by k-means of the candidates' latents."""
    pool, count = task.pool, task.budget.videos
    candidates = np.flatnonzero(pool.room_N)
    latents_M_D = np.asarray(pool.latents_N_D)[candidates]
    seed = int(task.generator.integers(2**32))
    clusters_M = k_means(latents_M_D, count, seed)
    places = central_videos(latents_M_D, clusters_M, count)
    sizes = np.bincount(clusters_M)
    reasons = {
        int(candidates[place]): f"choice {rank}: in the middle of a cluster of "
        f"{sizes[clusters_M[place]]}"
        for rank, place in enumerate(places.tolist(), 1)
    }
    return VideoChoice(candidates[places], np.empty(0, np.int64), reasons)


def central_videos(latents_M_D: np.ndarray, clusters_M: np.ndarray, count: int) -> np.ndarray:
    """`count` videos, of every cluster the nearest to its mean before any cluster gives a
    second -> int64 (count,), distinct, in the order of choice.

    latents_M_D: (M, D) float · clusters_M: (M,) int >= 0. Larger clusters come first. Ties:
    of clusters the lower number, of videos the lower index. ValueError where M < count.
    """
    latents_M_D = np.asarray(latents_M_D, dtype=np.float64)
    if count > len(latents_M_D):
        raise ValueError(f"{len(latents_M_D)} candidates cannot give {count} videos")
    sizes_K = np.bincount(clusters_M)
    centers_K_D = np.zeros((len(sizes_K), latents_M_D.shape[1]))
    np.add.at(centers_K_D, clusters_M, latents_M_D)
    centers_K_D /= np.maximum(sizes_K, 1)[:, None]
    distance_M = ((latents_M_D - centers_K_D[clusters_M]) ** 2).sum(1)

    order = np.lexsort((distance_M, clusters_M))  # stable: ties to the lower index
    starts_K = np.cumsum(sizes_K) - sizes_K
    rank_M = np.empty(len(order), np.int64)  # place in its cluster, 0 the nearest
    rank_M[order] = np.arange(len(order)) - starts_K[clusters_M[order]]
    return np.lexsort((clusters_M, -sizes_K[clusters_M], rank_M))[:count]
