"""CLAUS: videos scored by their most uncertain, mutually distant frames, picked cluster by
cluster (paper section 3.3).

The score of a video is the mean undamped score of the A_t frames that the greedy choice of
frames.py takes in it: of the spread frames, not of the A_t highest. The damping that spreads
them is ours, the paper prints no form of it. With the damping `coverage` the score is the
mean of what each frame newly covers.
"""

import numpy as np

from claus.selection.budget import Budget
from claus.selection.choice import (
    FrameChoice,
    Scoring,
    Selection,
    Task,
    VideoChoice,
    select_hybrid,
)
from claus.selection.clusters import cluster_quotas
from claus.selection.frames import NEAREST, SIGMA, Picks, choose_frames
from claus.selection.pool import FrameScores, Pool


def best_of_clusters(task: Task) -> VideoChoice:
    """The best videos of every cluster, in proportion to the size of the cluster."""
    pool = task.pool
    return _best_videos(task, np.asarray(pool.clusters_N), len(pool.centers_K_D))


def best_of_pool(task: Task) -> VideoChoice:
    """The best videos of the whole pool: one cluster, no quotas."""
    one_cluster_N = np.zeros(len(task.pool.offsets) - 1, np.int64)
    choice = _best_videos(task, one_cluster_N, 1)
    return VideoChoice(
        choice.videos,
        choice.spare,
        scores_N=choice.scores_N,
        ranks_N=choice.ranks_N,
        candidates_K=choice.candidates_K,
    )


def best_frames(task: Task, videos: np.ndarray, counts: np.ndarray) -> FrameChoice:
    """counts[i] frames of each of the `videos` (B,), by the greedy choice of frames.py."""
    offsets = task.pool.offsets
    counts_N = np.zeros(len(offsets) - 1, np.int64)
    counts_N[videos] = counts
    picks = _choose(task, counts_N)
    starts, ends = picks.offsets[:-1], picks.offsets[1:]
    raw = np.asarray(task.scores.values)[np.asarray(offsets)[picks.videos()] + picks.frames]

    def by_video(values):
        return tuple(values[starts[video] : ends[video]] for video in videos)

    return FrameChoice(by_video(picks.frames), by_video(raw), by_video(picks.damped))


def select_claus(
    scores: np.ndarray,
    offsets: np.ndarray,
    clusters_N: np.ndarray,
    n_clusters: int,
    budget: Budget,
    *,
    candidates_N: np.ndarray,
    free_N: np.ndarray | None = None,
    labeled: np.ndarray | None = None,
    ranked_last: np.ndarray | None = None,
    damping: str = "paper",
    sigma: float = SIGMA,
    nearest: int = NEAREST,
) -> Selection:
    """CLAUS on plain arrays: the best videos of every cluster and their best, mutually
    distant frames.

    Frames are flat with offsets (N+1,) as in frames.py, which explains the masks,
    `damping`, `sigma` and `nearest`; clusters_N: (N,) int in [0, n_clusters); candidates_N:
    (N,) bool, videos that may be chosen; free_N: (N,) bool, videos that cost nothing, being
    labeled already: the frames that the b_v chosen videos have no room for go to the others
    of them, best first. ValueError where `budget` exceeds what is left (budget.fit_budget
    sees to it). Inputs are not changed.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    lengths = len(offsets) - 1
    pool = Pool(
        offsets,
        np.asarray(candidates_N),
        np.zeros(lengths, bool) if free_N is None else np.asarray(free_N),
        None if labeled is None else np.asarray(labeled),
        clusters_N=np.asarray(clusters_N),
        centers_K_D=np.empty((n_clusters, 0)),
        scores={"given": FrameScores(np.asarray(scores), ranked_last)},
    )
    scoring = Scoring("given", damping, sigma, nearest)
    task = Task(pool, budget, np.random.default_rng(0), scoring)
    return select_hybrid(best_of_clusters, best_frames, task, task)


def _best_videos(task: Task, clusters_N: np.ndarray, n_clusters: int) -> VideoChoice:
    """The videos of highest score of each cluster, as many as its quota."""
    pool, budget = task.pool, task.budget
    room_N, scores = pool.room_N, task.scores.values
    newly_covered = task.scoring.damping == "coverage"

    first = _choose(task, np.minimum(room_N, budget.per_video))
    scores_N = video_scores(scores, pool.offsets, first, damped=newly_covered)
    ranks_N = cluster_ranks(scores_N, clusters_N)
    candidates_K = np.bincount(clusters_N[room_N > 0], minlength=n_clusters)
    quotas_K = cluster_quotas(candidates_K, budget.videos)

    chosen_N = (ranks_N > 0) & (ranks_N <= quotas_K[clusters_N])
    return VideoChoice(
        sort_by_score(chosen_N, scores_N),
        sort_by_score(pool.paid_N & ~chosen_N, scores_N),
        scores_N=scores_N,
        ranks_N=ranks_N,
        candidates_K=candidates_K,
        quotas_K=quotas_K,
    )


def _choose(task: Task, counts_N: np.ndarray) -> Picks:
    """choose_frames in the pool of a task, as its scoring says."""
    pool, scoring = task.pool, task.scoring
    return choose_frames(
        task.scores.values,
        pool.offsets,
        counts_N,
        eligible=pool.eligible,
        labeled=pool.labeled,
        ranked_last=task.scores.nothing_seen,
        damping=scoring.damping,
        sigma=scoring.sigma,
        nearest=scoring.nearest,
    )


def sort_by_score(wanted_N: np.ndarray, scores_N: np.ndarray) -> np.ndarray:
    """Indices of the videos where wanted_N (N,) bool is set, highest score first, ties to
    the lower index.
    """
    wanted = np.flatnonzero(wanted_N)
    return wanted[np.argsort(-scores_N[wanted], kind="stable")]


def video_scores(
    scores: np.ndarray, offsets: np.ndarray, picks: Picks, damped: bool = False
) -> np.ndarray:
    """V_score: mean undamped score of each video's chosen frames -> float64 (N,); NaN for a
    video without any.

    damped: of their scores at the moment of choice instead.
    """
    videos = picks.videos()
    chosen = np.asarray(scores)[np.asarray(offsets)[videos] + picks.frames].astype(np.float64)
    chosen = picks.damped if damped else chosen
    count = np.diff(picks.offsets)
    total = np.bincount(videos, weights=chosen, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def cluster_ranks(scores_N: np.ndarray, clusters_N: np.ndarray) -> np.ndarray:
    """Place of each video in its cluster by score -> int64 (N,), 1 = highest, ties to the
    lower index; 0 where the score is NaN.
    """
    scored = np.flatnonzero(~np.isnan(scores_N))
    clusters = np.asarray(clusters_N)[scored]
    # lexsort is stable: equal scores stay in the order of their indices
    order = np.lexsort((-scores_N[scored], clusters))
    first = np.searchsorted(clusters[order], clusters[order])
    ranks_N = np.zeros(len(scores_N), np.int64)
    ranks_N[scored[order]] = np.arange(len(order)) - first + 1
    return ranks_N
