"""core-set: videos that leave none of the pool far from a labeled one (Sener and Savarese,
Active learning for convolutional neural networks: a core-set approach, ICLR 2018).

k-center greedy: with S the labeled videos and those chosen so far, the next is
    argmax_u min_{s in S} ||z_u - z_s||,    z: the latent of a video
"""

import numpy as np

from claus.selection.choice import Task, VideoChoice

BLOCK = 128  # centers whose distances are in memory at once


def core_set(task: Task) -> VideoChoice:
    """The videos of k_center, with the distance at which each was found."""
    pool = task.pool
    videos, distances = k_center(
        pool.latents_N_D, pool.room_N > 0, pool.labeled_N, task.budget.videos
    )
    reasons = {
        video: f"choice {place}: {distance:.5g} from the nearest labeled or chosen video"
        for place, (video, distance) in enumerate(
            zip(videos.tolist(), distances.tolist(), strict=True), 1
        )
    }
    return VideoChoice(videos, np.empty(0, np.int64), reasons)


def k_center(
    latents_N_D: np.ndarray, candidates_N: np.ndarray, labeled_N: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Greedily choose `count` candidates, each the farthest from all labeled and chosen
    videos -> (videos int64 (count,), in the order of choice, their distances (count,)).

    latents_N_D: (N, D) float · candidates_N, labeled_N: (N,) bool. Equally far ones: the
    lower index. Without labeled videos the first is the one farthest from the mean of the
    candidates. ValueError where there are fewer candidates. Takes count · N · D steps.
    """
    from scipy.spatial.distance import cdist  # here: it takes a quarter of a second

    latents_N_D = np.asarray(latents_N_D, dtype=np.float64)
    open_N = np.array(candidates_N, dtype=bool)
    if count > open_N.sum():
        raise ValueError(f"{open_N.sum()} candidates cannot give {count} videos")
    centers = latents_N_D[np.asarray(labeled_N, dtype=bool)]
    if not len(centers):
        centers = latents_N_D[open_N].mean(0, keepdims=True)

    far_N = np.full(len(latents_N_D), np.inf)
    for start in range(0, len(centers), BLOCK):
        near_N = cdist(latents_N_D, centers[start : start + BLOCK]).min(1)
        far_N = np.minimum(far_N, near_N)

    videos, distances = np.empty(count, np.int64), np.empty(count)
    for place in range(count):
        # -1 and not a distance of 0 for what is taken: equal latents are never chosen twice
        video = int(np.argmax(np.where(open_N, far_N, -1)))
        videos[place], distances[place] = video, far_N[video]
        open_N[video] = False
        near_N = cdist(latents_N_D, latents_N_D[video : video + 1])[:, 0]
        far_N = np.minimum(far_N, near_N)
    return videos, distances
