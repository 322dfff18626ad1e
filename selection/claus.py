"""Which videos to label: scored by their most uncertain, mutually distant frames, picked
cluster by cluster.

The score of a video is the mean undamped score of the A_t frames that the greedy choice of
frames.py takes in it; with the damping `coverage` the mean of what each of them newly
covers.
"""

from dataclasses import dataclass

import numpy as np

from claus.selection.budget import Budget, share_frames
from claus.selection.clusters import cluster_quotas
from claus.selection.frames import NEAREST, SIGMA, choose_frames, eligible_frames


@dataclass(frozen=True, eq=False)
class Selection:
    """What a rule chose, best video first. Videos and frames are indices into the arrays
    that it was given.

    videos (B,) int64 distinct · frames: B int64 arrays, distinct, in the order of choice ·
    damped: B float64 arrays, the score of each frame at the moment of choice. Rules that
    score videos also give scores (B,), ranks (B,) the place of each video among the
    candidates of its cluster (1 = best), and per cluster candidates (K,) and quotas (K,);
    None for the others. Without clusters the pool is one cluster, and quotas is None.
    """

    budget: Budget
    videos: np.ndarray
    frames: tuple[np.ndarray, ...]
    damped: tuple[np.ndarray, ...] | None = None
    scores: np.ndarray | None = None
    ranks: np.ndarray | None = None
    candidates: np.ndarray | None = None
    quotas: np.ndarray | None = None

    @property
    def spent(self):
        """Number of frames chosen in all."""
        return sum(len(frames) for frames in self.frames)


def select_claus(
    scores,
    offsets,
    clusters_N,
    n_clusters,
    budget,
    *,
    candidates_N,
    free_N=None,
    eligible=None,
    labeled=None,
    ranked_last=None,
    damping="paper",
    sigma=SIGMA,
    nearest=NEAREST,
):
    """CLAUS: the best videos of every cluster, in proportion to its size, and their best,
    mutually distant frames.

    Frames are flat with offsets (N+1,) as in frames.py, which explains the masks,
    `damping`, `sigma` and `nearest`; clusters_N (N,) int in [0, n_clusters); candidates_N
    (N,) bool: the videos that may be chosen. free_N (N,) bool: videos that cost nothing,
    being labeled already: the frames that the b_v chosen videos have no room for go to the
    others of them, best first, as evenly as they can. `budget` must not exceed what is left
    (budget.fit_budget sees to it). Inputs are not changed -> Selection.
    """
    clusters_N = np.asarray(clusters_N)
    eligible = np.ones(len(scores), bool) if eligible is None else np.asarray(eligible)
    if labeled is not None:
        eligible = eligible & ~np.asarray(labeled)
    room_N = np.where(candidates_N, eligible_frames(eligible, offsets), 0)
    rule = dict(
        eligible=eligible,
        labeled=labeled,
        ranked_last=ranked_last,
        damping=damping,
        sigma=sigma,
        nearest=nearest,
    )

    first = choose_frames(scores, offsets, np.minimum(room_N, budget.per_video), **rule)
    scores_N = video_scores(scores, offsets, first, damped=damping == "coverage")
    ranks_N = cluster_ranks(scores_N, clusters_N)
    candidates_K = np.bincount(clusters_N[room_N > 0], minlength=n_clusters)
    quotas_K = cluster_quotas(candidates_K, budget.videos)

    chosen_N = (ranks_N > 0) & (ranks_N <= quotas_K[clusters_N])
    chosen = sort_by_score(chosen_N, scores_N)
    counts_N = np.zeros(len(room_N), np.int64)
    counts_N[chosen] = share_frames(room_N[chosen], budget)
    left = budget.frames - int(counts_N.sum())
    if left and free_N is not None:
        more = sort_by_score(np.asarray(free_N) & (room_N > 0) & ~chosen_N, scores_N)[:left]
        if len(more):
            counts_N[more] = share_frames(room_N[more], Budget(len(more), left))
        chosen = np.concatenate([chosen, more])
    picks = choose_frames(scores, offsets, counts_N, **rule)
    frames, damped = (
        tuple(part[picks.offsets[v] : picks.offsets[v + 1]] for v in chosen)
        for part in (picks.frames, picks.damped)
    )
    return Selection(
        budget,
        chosen,
        frames,
        damped,
        scores_N[chosen],
        ranks_N[chosen],
        candidates_K,
        quotas_K,
    )


def sort_by_score(wanted_N, scores_N):
    """Indices of the videos where wanted_N (N,) bool is set, highest score first, ties to
    the lower index.
    """
    wanted = np.flatnonzero(wanted_N)
    return wanted[np.argsort(-scores_N[wanted], kind="stable")]


def video_scores(scores, offsets, picks, damped=False):
    """Mean undamped score of each video's chosen frames -> float64 (N,); NaN for a video
    without any.

    damped: of their scores at the moment of choice instead.
    """
    videos = picks.videos()
    chosen = np.asarray(scores)[np.asarray(offsets)[videos] + picks.frames].astype(np.float64)
    chosen = picks.damped if damped else chosen
    count = np.diff(picks.offsets)
    total = np.bincount(videos, weights=chosen, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def cluster_ranks(scores_N, clusters_N):
    """Place of each video in its cluster by score, 1 = highest, ties to the lower index; 0
    where the score is NaN.
    """
    scored = np.flatnonzero(~np.isnan(scores_N))
    clusters = np.asarray(clusters_N)[scored]
    order = np.lexsort(
        (-scores_N[scored], clusters)
    )  # lexsort is stable: equal scores stay in index order
    first = np.searchsorted(clusters[order], clusters[order])
    ranks_N = np.zeros(len(scores_N), np.int64)
    ranks_N[scored[order]] = np.arange(len(order)) - first + 1
    return ranks_N
